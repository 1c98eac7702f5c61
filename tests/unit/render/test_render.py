"""What is rendered: the exact text of the cases, the same bytes every time, and nothing that a hostile lock could slip in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap import catalog, plan, render
from envsnap.errors import PlanError
from envsnap.lockfile import dumps, seal
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage, LockedSystemPackage, LockedTree
from envsnap.model.origins import EditableOrigin, IndexOrigin
from envsnap.model.plan import BuildPlan, Expected
from envsnap.render.quoting import comment, image, one_line, quoted, user
from tests import samples
from tests.cases.regenerate import CASES, HERE
from tests.fakes import index_server
from tests.unit.render.dockerfile_text import assignments, instructions
from tests.wheels import make_wheel

KNOWN = catalog.load()
MANIFEST = [("a.py", "100644", samples.hex64("a"))]


def base(env: dict[str, str] | None = None, **changes: Any) -> Base:
    config = ImageConfig(architecture="amd64", env={"PATH": "/bin", "PYTHON_VERSION": "3.11.9", **(env or {})})
    return replace(Base(reference="x.example.com/b:1", family="slim", digest=samples.digest("b"), config=config), **changes)


def rendered(lock: EnvLock, on: Base | None = None, **options: Any) -> dict[str, bytes]:
    made = plan.make_plan(lock, KNOWN, [on or base()], **options)
    return render.render(made, lock, dumps(lock), {"__main__.py": b"# the collector\n"}, MANIFEST)


def dockerfile(lock: EnvLock, on: Base | None = None, **options: Any) -> str:
    return rendered(lock, on, **options)["Dockerfile"].decode()


# ---- exact text


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str) -> None:
    folder = HERE / name
    kept = {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in folder.rglob("*") if file.is_file()}
    found = {path: data.decode() for path, data in CASES[name]().items()}
    assert found == kept, "if this is meant: nox -s golden, and read the diff"


def test_every_folder_is_a_case() -> None:
    assert {path.name for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(CASES)


# ---- the files


def test_the_context_is_what_dockerignore_lets_through() -> None:
    files = rendered(samples.lock())
    allowed = {line[1:] for line in files[".dockerignore"].decode().splitlines() if line.startswith("!")}
    sent = {path.partition("/")[0] for path in files} - {"Dockerfile", ".dockerignore", "plan.yaml"}
    assert sent | {"source", "packed", "explicit.txt"} == allowed


def test_the_plan_can_be_read_again_and_pins_the_base() -> None:
    kept = msgspec.yaml.decode(rendered(samples.lock())["plan.yaml"], type=BuildPlan)
    made = plan.make_plan(samples.lock(), KNOWN, [base()])
    assert kept.base.digest == made.base.digest and kept.steps == made.steps
    assert kept.base.inventory is None and kept.base.config is None


def test_nobody_sees_in_the_files_whether_somebody_looked_inside_the_base() -> None:
    inventory = BaseInventory(distribution="debian 12", python="3.11.9", libc="glibc 2.36", sonames=frozenset({"libGL.so.1"}))
    assert rendered(samples.lock(), base(inventory=inventory)) == rendered(samples.lock())


def test_expected_names_all_packages_by_version_and_files() -> None:
    expected = msgspec.json.decode(rendered(samples.lock())["expected.json"], type=Expected)
    assert [(p.name, p.version, p.files) for p in expected.packages] == [(p.name, p.version, p.files) for p in samples.packages()]
    assert expected.imports == samples.IMPORTS and expected.source == samples.source().files


def test_without_source_nothing_of_it_is_expected() -> None:
    lock = samples.lock()
    proven = seal(replace(lock, packages=tuple(p for p in lock.packages if p.name != "yolotools")))
    files = rendered(proven, no_source=True)
    assert "source.json" not in files and "source" not in json.loads(files["expected.json"])
    assert "--source" not in files["Dockerfile"].decode()


def test_requirements_are_one_hash_a_wheel() -> None:
    lines = rendered(samples.lock())["requirements.txt"].decode().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) == len(samples.INDEX_PACKAGES)
    assert f"torch==2.12.1 --hash=sha256:{samples.hex64('wheel torch 2.12.1')}" in pinned


def test_a_base_that_only_an_engine_has_is_named_without_digest() -> None:
    local = base(digest=None, image_id=samples.digest("id"))
    assert "FROM x.example.com/b:1 AS base-quiet\n" in dockerfile(samples.lock(), local)
    assert "Only a local engine has this image" in dockerfile(samples.lock(), local)


def test_a_reference_that_names_its_digest_is_not_pinned_twice() -> None:
    pinned = base(reference=f"x.example.com/b@{samples.digest('b')}")
    assert f"FROM x.example.com/b@{samples.digest('b')} AS" in dockerfile(samples.lock(), pinned)


def test_a_captured_name_is_installed_only_where_the_distribution_has_it(tmp_path: Path) -> None:
    for name, body in {
        "apt-cache": '[ "$2" = libodd1 ]',
        "apt-get": f'echo "$@" >> {tmp_path}/log',
        "rm": ":",  # the step ends by removing apt's lists
    }.items():
        tmp_path.joinpath(name).write_text(f"#!/bin/sh\n{body}\n")
        tmp_path.joinpath(name).chmod(0o755)
    needs = tuple(LockedSystemPackage(name=name, sonames=(f"{name}.so.1",)) for name in ("libgone1", "libodd1"))
    lock = seal(replace(samples.lock(), system_packages=(*needs, *samples.system_packages())))
    (step,) = [text for keyword, text in instructions(dockerfile(lock)) if keyword == "RUN" and "--no-upgrade" in text]
    subprocess.run(["/bin/sh", "-c", step.removeprefix("--mount=type=secret,id=ca ")], env={"PATH": str(tmp_path)}, check=True)
    installed = next(line for line in tmp_path.joinpath("log").read_text().splitlines() if "--no-upgrade" in line)
    assert installed.split("--no-upgrade ")[1].split() == ["libgl1", "libxcb1", "libodd1"]


def test_a_slow_index_is_waited_for() -> None:
    assert "--retries 10 --timeout 60" in dockerfile(samples.lock())


@pytest.fixture(scope="module")
def old_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the pip that this Python brings along: up to Python 3.13's early releases, one that takes up nothing."""
    place = tmp_path_factory.mktemp("pip") / "env"
    subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True)
    return place / "bin/python"


@pytest.mark.parametrize("resets", [0, 1, 2, 40])
def test_a_connection_that_breaks_within_a_file_is_taken_up_again(resets: int, old_pip: Path, tmp_path: Path) -> None:
    """The step's own words in a shell, with a real pip. More breaks than it has patience for are a failure."""
    wheel = make_wheel({"pkg.py": os.urandom(1 << 20).hex().encode()})
    with index_server.serving() as index:
        digest = index.wheel("pkg-1.0-py3-none-any.whl", wheel)
        index.html("pkg", index_server.link("pkg-1.0-py3-none-any.whl", sha256=digest))
        tmp_path.joinpath("pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
        tmp_path.joinpath("requirements.txt").write_text(f"pkg==1.0 --hash=sha256:{digest}\n")
        index.resets = resets
        (step,) = [text for keyword, text in instructions(dockerfile(samples.lock())) if keyword == "RUN" and "PIP_RESUME" in text]
        script = step.rpartition("target=/tmp/requirements.txt ")[2]
        for of_image, here in {
            "python3 -m pip --python /opt/envsnap/env/bin/python install": f"{old_pip} -m pip install --target {tmp_path}/site",
            "/tmp/requirements.txt": f"{tmp_path}/requirements.txt",
            "/var/cache/envsnap/pip": f"{tmp_path}/cache",
        }.items():
            assert of_image in script
            script = script.replace(of_image, here)
        env = {"PATH": os.defpath, "PIP_CONFIG_FILE": f"{tmp_path}/pip.conf"}
        done = subprocess.run(["/bin/sh", "-c", script], env=env, capture_output=True, text=True)
    assert (done.returncode == 0) == tmp_path.joinpath("site/pkg.py").exists() == (resets < 40), done.stdout + done.stderr


def test_an_editable_says_where_it_lies() -> None:
    files = rendered(samples.lock())
    assert files["editable/__editable__.yolotools-0.3.1.dev4.pth"] == b"/workspace/yolo/src\n"
    url = json.loads(files["editable/yolotools-0.3.1.dev4.dist-info/direct_url.json"])
    assert url == {"dir_info": {"editable": True}, "url": "file:///workspace/yolo"}


# ---- the steps that need a shell


def of_conda(lock: EnvLock) -> EnvLock:
    package = LockedCondaPackage(name="demo", version="1", build="0", url="https://conda.example.com/linux-64/demo-1-0.conda", md5="0" * 32)
    return seal(replace(lock, python=replace(lock.python, conda=LockedConda(packages=(package,)))))


def test_of_the_steps_that_need_a_shell_there_is_a_dockerfile_of_them_alone() -> None:
    made = plan.make_plan(samples.lock(), KNOWN, [base({"PYTHONPATH": "/evil"})])
    files = render.render_shell(made, turns=2, conda=False)
    assert set(files) == {"Dockerfile"}
    found = instructions(files["Dockerfile"].decode())
    assert found[0] == ("FROM", f"x.example.com/b:1@{samples.digest('b')}")
    assert ("ENV", 'PYTHONPATH=""') in found and ("USER", "root") in found
    (run,) = [arguments for keyword, arguments in found if keyword == "RUN"]
    assert "for turn in 1 2; do dpkg --install /tmp/debs/" in run
    assert {keyword for keyword, _ in found} == {"FROM", "ENV", "USER", "RUN"}


def test_what_a_client_of_conda_does_is_the_same_in_both_dockerfiles() -> None:
    made = plan.make_plan(of_conda(samples.lock()), KNOWN, [base()])
    files = render.render_shell(made, turns=0, conda=True)
    assert files["explicit.txt"] == b"@EXPLICIT\nhttps://conda.example.com/linux-64/demo-1-0.conda#" + b"0" * 32 + b"\n"
    alone = [line for line in instructions(files["Dockerfile"].decode()) if line[0] == "RUN"]
    assert len(alone) == 1 and alone[0] in instructions(dockerfile(of_conda(samples.lock())))


def test_packages_are_installed_turn_by_turn_and_a_failure_ends_it(tmp_path: Path) -> None:
    made = plan.make_plan(samples.lock(), KNOWN, [base()])
    (step,) = [
        text for keyword, text in instructions(render.render_shell(made, turns=3, conda=False)["Dockerfile"].decode()) if keyword == "RUN"
    ]
    for turn in "123":
        (tmp_path / f"debs/{turn}").mkdir(parents=True)
        for name in ("b", "a"):
            (tmp_path / f"debs/{turn}/{name}.deb").touch()
    tmp_path.joinpath("dpkg").write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $@" >> {tmp_path}/log\ncase $2 in */2/*) exit 1;; esac\n')
    tmp_path.joinpath("dpkg").chmod(0o755)
    script = step.partition("target=/tmp/debs ")[2].replace("/tmp/debs", f"{tmp_path}/debs")
    done = subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    files = [f"noninteractive --install {tmp_path}/debs/{turn}/a.deb {tmp_path}/debs/{turn}/b.deb" for turn in "12"]
    assert tmp_path.joinpath("log").read_text().splitlines() == files


def test_a_base_that_is_no_name_is_no_base_of_those_steps_either() -> None:
    made = plan.make_plan(samples.lock(), KNOWN, [base()])
    with pytest.raises(PlanError, match="not an image reference"):
        render.render_shell(replace(made, base=Base(reference="x\nRUN evil", family="other")), turns=1, conda=False)


# ---- untrusted text


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\x1b[2J"])
def test_what_a_dockerfile_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(PlanError, match="cannot be written"):
        dockerfile(samples.lock(), env={"X": value})


@pytest.mark.parametrize("path", ["src\u2028import os", "src\x85import os", "a\nimport os", "a\x0cimport os", ""])
def test_a_path_cannot_smuggle_code_into_a_pth(path: str) -> None:
    with pytest.raises(PlanError):
        one_line(path)


def test_a_hostile_import_path_is_refused_as_a_whole() -> None:
    hostile = tuple(
        replace(package, origin=EditableOrigin(path="", import_paths=("src\u2028import evil",))) if package.name == "yolotools" else package
        for package in samples.packages()
    )
    with pytest.raises(PlanError, match="cannot be put on Python's path"):
        rendered(seal(replace(samples.lock(), packages=hostile)))


@pytest.mark.parametrize("text", ["", "x y", "x\nRUN evil", "$x", "-x", "x@sha256:zz"])
def test_what_is_no_image(text: str) -> None:
    with pytest.raises(PlanError):
        image(text)


@pytest.mark.parametrize("text", ["", "x y", "x\nRUN evil", "$x", "a:b:c"])
def test_what_is_no_user(text: str) -> None:
    with pytest.raises(PlanError):
        user(text)


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(PRINTABLE)
@example("\\")
@example('"; RUN evil #')
@example("$(x) ${y} `z` {{ 7 * 7 }} {% raw %}")
def test_quoting_is_undone_by_reading(value: str) -> None:
    assert assignments(f"X={quoted(value)}") == {"X": value}


@given(ANY)
@example("x\nRUN evil")
@example("x\\\nRUN evil")
@example("\u2028RUN evil \\")
def test_a_comment_stays_one(text: str) -> None:
    assert instructions(comment(text) + "\nFROM x") == [("FROM", "x")]
    assert all(line.startswith("#") for line in comment(text).splitlines())


HOSTILE = st.sampled_from(("x\nRUN evil", "\\", '"\nRUN evil', "# syntax=evil", "{{ plan }}", "$(evil)", "\u2028RUN evil", "<<EOF", "`id`"))


@settings(max_examples=25, deadline=None)
@given(
    index=HOSTILE | ANY, remote=PRINTABLE, python=PRINTABLE, captured=PRINTABLE, asked=PRINTABLE, of_base=PRINTABLE, branch=HOSTILE | ANY
)
def test_no_value_adds_an_instruction(index: str, remote: str, python: str, captured: str, asked: str, of_base: str, branch: str) -> None:
    harmless = _harmless()
    hostile = instructions(
        dockerfile(
            _lock(index, remote, python, captured, branch),
            base({"CUDA_HOME": of_base, "NVIDIA_X": of_base, "PATH": of_base}),
            env={"ASKED": asked},
        )
    )
    assert [keyword for keyword, _ in hostile] == [keyword for keyword, _ in harmless]
    assert [text for keyword, text in hostile if keyword == "RUN"] == [text for keyword, text in harmless if keyword == "RUN"]
    found = {name: value for keyword, text in hostile if keyword == "ENV" for name, value in assignments(text).items()}
    assert found["NCCL_P2P_DISABLE"] == captured and found["ASKED"] == asked
    (labels,) = [assignments(text) for keyword, text in hostile if keyword == "LABEL"]
    assert labels["org.opencontainers.image.source"] == remote and labels["dev.envsnap.python"] == f"3.11.{python}"


@settings(max_examples=25, deadline=None)
@given(index=HOSTILE | ANY)
def test_no_index_name_adds_a_requirement(index: str) -> None:
    lines = rendered(_lock(index, "r", "t", "c", "b"))["requirements.txt"].decode().split("\n")
    assert sum(bool(line) and not line.startswith("#") for line in lines) == len(samples.INDEX_PACKAGES)


@cache
def _harmless() -> list[tuple[str, str]]:
    return instructions(dockerfile(_lock("i", "r", "t", "c", "b"), base({"CUDA_HOME": "x", "NVIDIA_X": "x"}), env={"ASKED": "a"}))


def test_the_reader_of_dockerfiles_sees_an_injection() -> None:
    assert ("RUN", "evil") in instructions('FROM x\nENV A="\nRUN evil\n')
    with pytest.raises(AssertionError):
        assignments('X="a" RUN evil')


def test_templates_are_found_in_a_checkout() -> None:
    assert (Path(__file__).parents[3] / "templates" / "Dockerfile.j2").is_file()


def _lock(index: str, remote: str, python: str, captured: str, branch: str) -> EnvLock:
    lock = samples.lock()
    assert lock.source is not None
    packages = tuple(replace(p, origin=IndexOrigin(index=index)) if isinstance(p.origin, IndexOrigin) else p for p in lock.packages)
    return seal(
        replace(
            lock,
            python=replace(lock.python, version=f"3.11.{python}"),
            packages=packages,
            source=replace(lock.source, remote=remote, branch=branch),
            env={"NCCL_P2P_DISABLE": captured},
        )
    )


# ---- an interpreter that the base lacks


def carried() -> str:
    made = samples.lock()
    tree = LockedTree(blob=samples.digest("python"), libc="2.28", sonames=("libssl.so.3",))
    inventory = BaseInventory(distribution="debian 12", libc="glibc 2.36", complete=True)
    return dockerfile(seal(replace(made, python=replace(made.python, tree=tree))), base(family="other", inventory=inventory))


def test_a_carried_interpreter_makes_the_environment_and_is_in_the_image() -> None:
    builder, image_stage = carried().split("FROM base-quiet AS builder")[1].split("\nFROM base-quiet\n")
    added = "ADD packed/python.tar /opt/envsnap/"
    for stage in (builder, image_stage):
        assert added in stage and "libssl3" in stage
    program = "/opt/envsnap/python/bin/python3.11"
    assert f'python="$(command -v {program})"' in builder
    assert f"RUN {program} -m ensurepip" in builder and "ensurepip" not in image_stage
    assert builder.index(added) < builder.index("ensurepip") < builder.index("-m pip")
    assert image_stage.index(added) < image_stage.index("COPY --from=builder")


def test_none_is_carried_that_the_base_has() -> None:
    assert "ensurepip" not in dockerfile(samples.lock()) and "python.tar" not in dockerfile(samples.lock())
