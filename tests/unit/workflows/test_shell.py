"""What an engine is given of steps that need a shell, and what is taken over of what it makes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import BuildInputs, EngineImage
from envsnap.errors import EngineError, PlanError
from envsnap.model.base import ImageConfig
from envsnap.model.layers import ShellSteps
from envsnap.model.plan import BuildPlan
from envsnap.oci.documents import digest_of
from envsnap.plan.shell import shell_steps
from envsnap.progress import SILENT, Progress
from envsnap.workflows import build, shell
from envsnap.workflows.assembled import Ground
from envsnap.workflows.plan import PlanRequest
from envsnap.workflows.records import BuildRequest
from envsnap.workflows.system import Packages
from envsnap.workflows.unknown import Unknown
from tests import samples
from tests.fakes.layered import tar_of
from tests.unit.inventory.conftest import layer as tar_with
from tests.unit.inventory.test_read import system
from tests.unit.plan.test_layers import INVENTORY, made_plan
from tests.unit.plan.test_shell import SCRIPTED, of_conda
from tests.unit.workflows.test_engine_layers import archive, blob_name
from tests.unit.workflows.test_inventories import LAYERS, image

MADE = tar_of("etc/fonts/fonts.conf", b"<fontconfig>" * 500)
BASE = image()
LOCK = samples.lock()
REQUEST = BuildRequest(plan=PlanRequest(), ca_bundle=Path("ca.pem"))


class FakePackages:
    def lay_out(self, plan: object, machine: str, directory: Path) -> int:
        assert (plan, machine) == (SCRIPTED, "x86_64")
        (directory / "1").mkdir(parents=True)
        (directory / "1/demo_amd64.deb").write_bytes(b"!<arch>\n")
        return 1


@dataclass
class FakeEngine:
    """Attributes: diff_ids: of what it builds. given: files of each context, and what else it was given. names: of images."""

    diff_ids: tuple[str, ...] = (*(digest_of(tar) for tar in LAYERS), digest_of(MADE))
    given: list[tuple[dict[str, bytes], BuildInputs]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    answers: bool = True

    def require(self, *, build: bool = False) -> None:
        if not self.answers:
            raise EngineError("cannot reach a Docker engine", why="nothing is listening", hint="sudo systemctl start docker")

    def build(self, context: Path, inputs: BuildInputs, progress: Progress) -> EngineImage:
        files = {str(path.relative_to(context)): path.read_bytes() for path in context.rglob("*") if path.is_file()}
        self.given.append((files, inputs))
        self.names |= set(inputs.tags)
        return self.image("")

    def image(self, reference: str) -> EngineImage:
        return EngineImage(
            image_id=samples.digest("id"),
            config_digest=samples.digest("config"),
            repo_digests=(),
            tags=(),
            size_bytes=1,
            layers=len(self.diff_ids),
            diff_ids=self.diff_ids,
            config=ImageConfig(architecture="amd64", env={"PATH": "/usr/bin"}),
        )

    def save(self, reference: str) -> Iterator[bytes]:
        assert reference == samples.digest("id")
        yield archive({blob_name(tar): tar for tar in (*LAYERS, MADE)})

    @contextmanager
    def files(self, reference: str) -> Iterator[Iterator[bytes]]:
        assert reference == samples.digest("id")
        yield iter([tar_with(*system())])

    def untag(self, reference: str) -> None:
        self.names.remove(reference)


def steps_of(made: BuildPlan) -> ShellSteps:
    steps = shell_steps(made, SCRIPTED, BASE.config.digest)
    assert steps is not None
    return steps


def ground() -> Ground:
    return Ground(machine="x86_64", base=BASE, base_inventory=INVENTORY, system=SCRIPTED, shell=steps_of(made_plan()))


def do(engine: FakeEngine, cache: Path, made: BuildPlan | None = None) -> ShellSteps:
    made = made or made_plan()
    steps, packages = steps_of(made), cast("Packages", FakePackages())
    with shell.named(LOCK, cast("DockerEngine", engine)) as tag:
        done = shell.do(steps, made, LOCK, BASE, REQUEST.secrets, cast("DockerEngine", engine), packages, cache, SILENT, tag=tag)
        assert engine.names == {tag} and tag.startswith(f"envsnap/{LOCK.name}:steps-")
        assert done == shell.recall(steps, cache)
    return steps


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def test_it_is_given_these_steps_alone_and_its_layers_are_kept(engine: FakeEngine, tmp_path: Path) -> None:
    assert shell.recall(steps_of(made_plan()), tmp_path) is None
    steps = do(engine, tmp_path)
    ((files, inputs),) = engine.given
    assert set(files) == {"Dockerfile", "debs/1/demo_amd64.deb"}
    assert b"dpkg --install" in files["Dockerfile"] and b"apt-get" not in files["Dockerfile"] and b"pip" not in files["Dockerfile"]
    assert (inputs.platform, inputs.secrets, inputs.network) == ("linux/amd64", {"ca": Path("ca.pem")}, False)
    assert b"--network" not in files["Dockerfile"]  # Docker 20.10 does not know it there
    done = shell.recall(steps, tmp_path)
    assert done is not None
    (layer,) = done.layers
    assert layer.diff_id == digest_of(MADE) and layer.made_by.startswith("envsnap, by Docker: libfontconfig1, ")
    assert gzip.decompress(BlobStore(tmp_path / "blobs").read(layer.digest)) == MADE
    assert done.inventory.complete
    assert engine.names == set()


def test_a_client_of_conda_gets_the_explicit_list(engine: FakeEngine, tmp_path: Path) -> None:
    do(engine, tmp_path, of_conda())
    ((files, inputs),) = engine.given
    assert inputs.network
    assert set(files) == {"Dockerfile", "explicit.txt", "debs/1/demo_amd64.deb"}
    assert files["explicit.txt"].startswith(b"@EXPLICIT\n")
    text = files["Dockerfile"].decode()
    of_dpkg, of_conda_itself = (line for line in text.splitlines() if line.startswith("RUN "))
    assert "--network=none" in of_dpkg and "--network" not in of_conda_itself
    assert text.index("dpkg --install") < text.index("micromamba") < text.index('ENV PATH="/opt/envsnap/env/bin:$PATH"')


def test_what_is_not_whole_any_more_is_not_recalled(engine: FakeEngine, tmp_path: Path) -> None:
    steps = do(engine, tmp_path)
    (note,) = (tmp_path / "layers").iterdir()
    os.utime(note, (1, 1))
    done = shell.recall(steps, tmp_path)
    assert done is not None and note.stat().st_mtime > 1  # used just now
    assert shell.recall(replace(steps, onto=samples.digest("other base")), tmp_path) is None
    blob = BlobStore(tmp_path / "blobs").path(done.layers[0].digest)
    whole = blob.read_bytes()
    for damage in (lambda: blob.write_bytes(whole[:-1]), blob.unlink):
        damage()
        assert shell.recall(steps, tmp_path) is None
    blob.write_bytes(whole)
    for inventory in (tmp_path / "inventories").iterdir():
        inventory.unlink()
    assert shell.recall(steps, tmp_path) is None


def test_what_does_not_lie_on_the_base_is_refused(tmp_path: Path) -> None:
    engine = FakeEngine(diff_ids=(samples.digest("another"), digest_of(MADE)))
    with pytest.raises(EngineError, match="cannot assemble upon") as caught:
        do(engine, tmp_path)
    assert "--engine docker" in caught.value.hint
    assert engine.names == set()
    assert shell.recall(steps_of(made_plan()), tmp_path) is None


def test_a_layer_that_the_engine_does_not_give_ends_it(tmp_path: Path) -> None:
    engine = FakeEngine(diff_ids=(*(digest_of(tar) for tar in LAYERS), samples.digest("gone")))
    with pytest.raises(EngineError, match="cannot read the layers"):
        do(engine, tmp_path)
    assert shell.recall(steps_of(made_plan()), tmp_path) is None and engine.names == set()


def test_no_two_builds_share_a_name_in_the_engine(engine: FakeEngine) -> None:
    names = set()
    for _ in range(3):
        with shell.named(LOCK, cast("DockerEngine", engine)) as tag:
            names.add(tag)
            engine.names.add(tag)
    assert len(names) == 3 and engine.names == set()


# How a build speaks of them


class Said:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_where_no_engine_answers_it_is_said_what_for(tmp_path: Path) -> None:
    engine, said, nobody = FakeEngine(answers=False), cast("Any", Said()), cast("Any", None)
    with pytest.raises(EngineError, match="cannot reach a Docker engine") as caught:
        build._with_shell(ground(), made_plan(), LOCK, REQUEST, cast("DockerEngine", engine), nobody, said, tag="")
    assert "apt-install (fontconfig-config: its postinst asks)" in caught.value.why
    assert caught.value.hint == "sudo systemctl start docker"
    assert said.notes == []


@pytest.mark.parametrize("vendor", [True, False])
def test_where_docker_builds_the_whole_nothing_is_vendored_and_that_is_said(vendor: bool) -> None:
    said, ground = Said(), Unknown(because="only an engine has the base")
    build._no_assembling(ground, BuildRequest(plan=PlanRequest(), vendor=vendor), cast("Any", said))
    assert said.notes == ["built by Docker: only an engine has the base"]
    assert [warning.startswith("--vendor keeps nothing") for warning in said.warnings] == [True] * vendor
    with pytest.raises(PlanError):
        build._no_assembling(ground, BuildRequest(plan=PlanRequest(), engine="oci", vendor=vendor), cast("Any", said))
