"""check: will an image run on a host, and is it its lock's? Told from what its registry says of it, before a layer is fetched."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envsnap import catalog
from envsnap.compat import Host, judge, needs_of
from envsnap.errors import PlanError
from envsnap.model.image import CheckReason, ImageCheck
from envsnap.model.layers import ShellSteps
from envsnap.model.lock import EnvLock
from envsnap.model.plan import LOCK_IN_IMAGE, LOCK_LABEL, NO_SOURCE, SOURCE_LABEL
from envsnap.oci.documents import Config, Manifest, canonical, digest_of
from envsnap.oci.image import Image, Layer
from envsnap.plan.shell import said, title
from envsnap.progress import Progress
from envsnap.workflows import assembled, local, places, plan
from envsnap.workflows.assembled import Ground, Sources
from envsnap.workflows.named_base import NamedBase, expected_base, named_by_image
from envsnap.workflows.plan import PlanRequest
from envsnap.workflows.shell import Done
from envsnap.workflows.unknown import Unknown

_SHOWN, _TITLE = 3, 60
_VERIFY = "envsnap verify judges what is in it"
_FETCH = "--fetch reads what is in it"
_INTERPRETERS = ("python3", "libpython3")
_RUN = ("Env", "Labels", "WorkingDir", "User", "Entrypoint", "Cmd")


class HostLike(Protocol):
    """A host that an image may run on: this one, or one that was described."""

    @property
    def machine(self) -> str:
        """As Linux names it."""

    @property
    def description(self) -> str:
        """What was said of it; nothing of this one."""

    def look(self, manifest: Manifest, config: Config) -> Host:
        """What it has for this image."""


def check(
    reference: str,
    lock_file: Path | None,
    host: HostLike,
    project: Path,
    sources: Sources,
    progress: Progress,
    *,
    base: str | None = None,
) -> ImageCheck:
    """Look an image up in its registry, or in envsnap's own store (`local.here`), and judge it.

    Args:
        project: where a repository with the lock's commit may lie.
        base: which one the lock's image is to lie on, as `expected_base` takes it.

    Raises:
        EngineError: the registry does not have it, or cannot be reached. InputError: the lock cannot be read. UsageError: it is no name.
        As `expected_base`.
    """
    lock = places.read_lock(lock_file) if lock_file is not None else None
    here = local.here(reference, sources.registry, sources.cache)
    if here is not None and here.manifest is not None:
        progress.note(f"{reference} is judged as envsnap's own store has it")
        manifest, config = here.manifest, here.config
    else:
        manifest, config = sources.registry.image(reference, machine=lock.python.interpreter.machine if lock is not None else host.machine)
    needs = needs_of(config.env, config.labels, _entrypoint(config))
    reasons = list(judge(needs, config.os, config.architecture, host.look(manifest, config), catalog.load()))
    if lock is not None and lock_file is not None:
        reasons += _against(manifest, config, lock, lock_file, project, sources, progress, base=base)
    return ImageCheck(
        reference=reference,
        manifest_digest=manifest.digest,
        config_digest=config.digest,
        size_bytes=sum(layer.size for layer in manifest.layers),
        host=host.description,
        reasons=tuple(reasons),
    )


def _entrypoint(config: Config) -> tuple[str, ...]:
    found = config.run.get("Entrypoint")
    return tuple(str(word) for word in found) if isinstance(found, list) else ()


def _against(
    manifest: Manifest,
    config: Config,
    lock: EnvLock,
    lock_file: Path,
    project: Path,
    sources: Sources,
    progress: Progress,
    *,
    base: str | None,
) -> Iterator[CheckReason]:
    """What the label claims, and then what it would have to be made of."""
    claimed = config.labels.get(LOCK_LABEL, "none")
    same = claimed == lock.digest
    hint = "" if same else f"it was built from another lock; envsnap build {lock_file} makes this one's"
    yield CheckReason(id="lock.digest", status="pass" if same else "fail", needed=lock.digest, found=claimed, hint=hint)
    if not same:
        return
    named = named_by_image(config)
    if isinstance(named, Unknown):
        yield _not_known(named)
        return
    expected = expected_base(lock, base, sources, progress)
    if isinstance(expected, NamedBase) and named.digest != expected.digest:
        needed, hint = f"{expected}, {expected.said_by}", "do not use it; or --base REF, where the base that it names is meant"
        yield CheckReason(id="lock.base", status="fail", needed=needed, found=f"{named}, {named.said_by}", hint=hint)
        return
    again = _again(manifest, config, named, lock, lock_file, project, sources, progress)
    if isinstance(again, Unknown):
        yield _not_known(again)
        return
    yield _base(manifest, again.image, named, expected)
    if again.by_docker:
        yield _shell(again)
    if _has_another_copy(manifest, config, again.image):
        yield from _another_copy(config, again, lock)
        return
    yield _layers(manifest, config, again)
    yield _config(config, again.image)


def _not_known(unknown: Unknown) -> CheckReason:
    needed = "the layers that the lock comes to"
    return CheckReason(id="lock.layers", status="unknown", needed=needed, found=unknown.because, hint=unknown.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """The image that a lock comes to.

    Attributes:
        by_docker: of its layers, the lowest, which Docker made: they are taken from the image that is judged.
        known: this machine's Docker made exactly these.
    """

    image: Image
    by_docker: tuple[Layer, ...] = ()
    known: bool = False


def _again(
    manifest: Manifest,
    config: Config,
    base: NamedBase,
    lock: EnvLock,
    lock_file: Path,
    project: Path,
    sources: Sources,
    progress: Progress,
) -> _Again | Unknown:
    """The image that the lock comes to on the base, with the options, and on what Docker made, that the image says it was made with."""
    made_by = _history(config)
    if not any(line.startswith("envsnap: ") for line in made_by):
        return Unknown(because="it was built by Docker, and no two such builds are the same", hint=_VERIFY)
    request = PlanRequest(
        base=base.name if base.name in catalog.load().assembled else str(base),
        no_source=config.labels.get(SOURCE_LABEL) == NO_SOURCE,
        allow_unproven=frozenset({"all"}),
        allow_replace=frozenset({"all"}),
        pyc=any(line.startswith("envsnap: byte code ") for line in made_by),
        project=project,
    )
    try:
        made = plan.make_plan(
            lock,
            request,
            engine=None,
            registry=sources.registry,
            packages=sources.packages,
            cache=sources.cache,
            pull=False,
            offline=sources.offline,
            look_inside=sources.fetch,
            progress=progress,
        )
    except PlanError as error:  # nothing is known of its base, or it is none that could carry the lock
        return Unknown(because=f"{error.what}: {error.why}" if error.why else error.what, hint=error.hint if sources.fetch else _FETCH)
    ground = assembled.find_ground(made, lock, sources, progress)
    if isinstance(ground, Unknown):  # whose hint speaks of plan's options
        return dataclasses.replace(ground, hint=_FETCH) if "--fetch" in ground.hint and not sources.fetch else ground
    known = ground.done
    if ground.shell is not None:
        found = _taken_as_given(ground, ground.shell, manifest, config, lock)
        if isinstance(found, Unknown):
            return found
        ground = dataclasses.replace(ground, done=found)
    image = assembled.foretell(ground, made, lock, lock_file, request, sources, progress)
    if isinstance(image, Unknown) or ground.done is None:
        return image if isinstance(image, Unknown) else _Again(image=image)
    return _Again(image=image, by_docker=ground.done.layers, known=ground.done is known)


def _history(config: Config) -> list[str]:
    """What made each layer, from below, as far as the image says it."""
    history = config.document.get("history")
    entries = [entry for entry in (history if isinstance(history, list) else ()) if isinstance(entry, dict)]
    return [str(entry.get("created_by", "")) for entry in entries if entry.get("empty_layer") is not True]


def _taken_as_given(ground: Ground, steps: ShellSteps, manifest: Manifest, config: Config, lock: EnvLock) -> Done | Unknown:
    """The layers of an image of which it says that Docker made them of a lock's steps. No two such are the same, so that this machine's
    own, where it has any, say nothing against them.
    """
    start, made_by = len(ground.base.config.diff_ids), title(steps)
    count = max(len(config.diff_ids) - start, 0)
    above = zip(_history(config)[-count:], config.diff_ids[start:], manifest.layers[start:], strict=False)
    lowest = itertools.takewhile(lambda row: row[0] == made_by, itertools.islice(above, len(steps.steps)))
    layers = tuple(Layer(digest=blob.digest, diff_id=diff_id, size_bytes=blob.size, made_by=made_by) for _, diff_id, blob in lowest)
    if ground.done is not None and ground.done.layers == layers:
        return ground.done
    if not layers:
        return Unknown(because=f"no layer of it is said to be what Docker makes of {said(steps.steps)}", hint=_VERIFY)
    packages = steps.system.packages if steps.system is not None else ()
    python = next((one.name for one in packages if one.name.startswith(_INTERPRETERS)), None)
    if python is not None and lock.python.conda is None:
        return Unknown(because=f"Docker installed {python}, and its interpreter's version decides what lies above", hint=_VERIFY)
    # Of what else decides what lies above, packages change nothing.
    return Done(layers=layers, inventory=ground.base_inventory, config=ground.base.config.digest)


def _base(manifest: Manifest, image: Image, named: NamedBase, expected: NamedBase | Unknown) -> CheckReason:
    """Whether its lowest layers are those of the base that it names, and that base is the expected one: another was refused before."""
    needed = [layer.digest for layer in image.base.manifest.layers] if image.base.manifest is not None else []
    found = [layer.digest for layer in manifest.layers[: len(needed)]]
    wrong = next((number for number, (left, right) in enumerate(zip(needed, found, strict=False), 1) if left != right), None)
    lying = _counted(needed, f"of {named}")
    if found != needed:
        said, hint = f"layer {wrong or len(found) + 1} is another one", "its base is not the one that it names: do not use it"
        return CheckReason(id="lock.base", status="fail", needed=lying, found=said, hint=hint)
    if isinstance(expected, Unknown):
        said = f"{lying}, {named.said_by}; {expected.because}"
        return CheckReason(
            id="lock.base", status="unknown", needed="the base that the lock's image is to have", found=said, hint=expected.hint
        )
    return CheckReason(id="lock.base", status="pass", needed=f"{expected}, {expected.said_by}", found=lying)


def _shell(again: _Again) -> CheckReason:
    """What the lock cannot prove is never a pass, but where this machine saw it made."""
    made = _counted(again.by_docker, "")
    return CheckReason(
        id="lock.shell",
        status="pass" if again.known else "unknown",
        needed="what Docker makes of the lock's steps that need a shell",
        found=f"{made}, as Docker made here" if again.known else f"{made} that its history says Docker made: no two such are the same",
        hint="" if again.known else _VERIFY,
    )


def _has_another_copy(manifest: Manifest, config: Config, image: Image) -> bool:
    """Whether the image is the lock's in all but the last layer, which holds the lock's copy: that differs, and the config in nothing else.

    Of a lock that was captured again the digest is the same, and what was observed is not.
    """
    if image.manifest is None or len(manifest.layers) != len(image.manifest.layers) or len(config.diff_ids) != len(image.config.diff_ids):
        return False
    (*ours, _), (*theirs, _) = ([layer.digest for layer in one.layers] for one in (image.manifest, manifest))
    but_for_it = {**image.config.document, "rootfs": {"type": "layers", "diff_ids": [*image.config.diff_ids[:-1], config.diff_ids[-1]]}}
    return ours == theirs and config.digest == digest_of(canonical(but_for_it)) != image.config.digest


def _another_copy(config: Config, again: _Again, lock: EnvLock) -> Iterator[CheckReason]:
    """Not known, as nobody has looked into that layer: a registry gives its digest alone."""
    where = "on what Docker made" if again.by_docker else "on its base"
    needed = _counted(again.image.layers[len(again.by_docker) :], where)
    found = "the same but for the lock's copy: it seems to be of another capture, with another driver, host or reference"
    kept = f"{places.image_directory(lock.name)}/lock.yaml"
    hint = f"docker create IMAGE, docker cp ID:{LOCK_IN_IMAGE} COPY; envsnap diff COPY LOCK shows it; with COPY as {kept}, check judges it"
    yield CheckReason(id="lock.layers", status="unknown", needed=needed, found=found, hint=hint)
    found = f"{config.digest}, another in nothing but that layer"
    yield CheckReason(id="lock.config", status="unknown", needed=again.image.config.digest, found=found)


def _layers(manifest: Manifest, config: Config, again: _Again) -> CheckReason:
    """Compressed and uncompressed digests, in order."""
    image, given = again.image, len(again.by_docker)
    start = len(image.base.config.diff_ids) + given
    where = "on what Docker made" if given else "on its base"
    found = list(zip(config.diff_ids[start:], (layer.digest for layer in manifest.layers[start:]), strict=False))
    needed = [(layer.diff_id, layer.digest) for layer in image.layers[given:]]
    wrong = [layer for layer in image.layers[given:] if (layer.diff_id, layer.digest) not in found]
    same = found == needed
    return CheckReason(
        id="lock.layers",
        status="pass" if same else "fail",
        needed=_counted(needed, where),
        found=_counted(found, where) if same else _named(wrong) or _counted(found, where),
        hint="" if same else "built with other options (--env, --pip-conf), another version of envsnap, or not from this lock",
    )


def _counted(layers: Sequence[object], which: str) -> str:
    return f"{len(layers)} layer{'' if len(layers) == 1 else 's'} {which}".rstrip()


def _named(wrong: list[Layer]) -> str:
    names = "; ".join(textwrap.shorten(layer.made_by.removeprefix("envsnap: "), _TITLE, placeholder=" …") for layer in wrong[:_SHOWN])
    return f"other bytes for: {names}{f'; and {len(wrong) - _SHOWN} more' if len(wrong) > _SHOWN else ''}" if wrong else ""


def _config(config: Config, image: Image) -> CheckReason:
    same = config.digest == image.config.digest
    different = [name for name in _RUN if config.run.get(name) != image.config.run.get(name)]
    return CheckReason(
        id="lock.config",
        status="pass" if same else "fail",
        needed=image.config.digest,
        found=config.digest if same else f"{config.digest}{', with another ' + ', '.join(different) if different else ''}",
        hint="" if same else "--env at the build changes it; envsnap build tells the digest that the lock comes to",
    )
