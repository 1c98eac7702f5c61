"""All text files of a build context, by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan, CopySource, InstallPacked, InstallWheels, MakeCondaEnvironment
from envsnap.render import files
from envsnap.render.dockerfile import dockerfile, shell_dockerfile

IGNORE = """\
# What the build reads; image.yaml, reports and whatever else lies here stay out of it.
*
!editable
!expected.json
!explicit.txt
!guest
!lock.yaml
!packed
!packed.txt
!requirements.txt
!source
!source.json
"""


def render(
    plan: BuildPlan, lock: EnvLock, lock_bytes: bytes, guest: Mapping[str, bytes], manifest: Sequence[files.ManifestLine] | None = None
) -> dict[str, bytes]:
    """The build context but for the project's files (`source/`) and the packed wheels (`packed/`), which are not text.

    Args:
        lock_bytes: the lock as it lies on disk; a copy of it goes into the image.
        guest: file name -> content of the scripts that check the image.
        manifest: (path, git mode, sha256) of every file below `source/`; None when the source is left out.

    Raises:
        PlanError: a value cannot be written into a Dockerfile (a line end in a variable).
    """
    wheels = [wheel for step in plan.steps if isinstance(step, InstallWheels) for wheel in step.wheels]
    packages = [package for step in plan.steps if isinstance(step, InstallPacked) for package in step.packages]
    editables = files.editables(packages, lock)
    explicit = [line for step in plan.steps if isinstance(step, MakeCondaEnvironment) for line in step.explicit]
    source = next((step for step in plan.steps if isinstance(step, CopySource)), None)
    return {
        ".dockerignore": IGNORE.encode(),
        "Dockerfile": dockerfile(plan, lock, editables).encode(),
        "expected.json": files.expected(lock, source=source is not None),
        "lock.yaml": lock_bytes,
        "plan.yaml": files.plan_document(plan),
        **({"requirements.txt": files.requirements(wheels).encode()} if wheels else {}),
        **({"explicit.txt": files.explicit(explicit).encode()} if explicit else {}),
        **({"packed.txt": files.packed(packages).encode()} if packages else {}),
        **({"source.json": files.manifest_document(manifest, source.path)} if source is not None and manifest is not None else {}),
        **{f"editable/{editable.pth}": editable.pth_content for editable in editables},
        **{f"editable/{editable.metadata}/direct_url.json": editable.direct_url for editable in editables},
        **{f"guest/{name}": data for name, data in guest.items()},
    }


def render_shell(plan: BuildPlan, *, turns: int, conda: bool) -> dict[str, bytes]:
    """The context of the steps that need a shell, but for the packages in `debs/`. Args: as `shell_dockerfile`."""
    explicit = [line for step in plan.steps if isinstance(step, MakeCondaEnvironment) for line in step.explicit]
    return {
        "Dockerfile": shell_dockerfile(plan, turns=turns, conda=conda).encode(),
        **({"explicit.txt": files.explicit(explicit).encode()} if conda else {}),
    }
