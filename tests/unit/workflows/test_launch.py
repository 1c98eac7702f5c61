"""What run and export make of an image, of what was typed, and of a host: which image, what is mounted, who is inside, what stops it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from envsnap import lockfile, process
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage
from envsnap.errors import EngineError, Refused, TargetError, UsageError
from envsnap.model.base import ImageConfig
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.gpu_request import GpuRequest
from envsnap.model.host import Ability
from envsnap.model.image import ImageRecord
from envsnap.model.launch import Launch, Mount, Passed
from envsnap.oci.documents import OCI_MANIFEST
from envsnap.oci.image import RunConfig, put_together
from envsnap.progress import Silent
from envsnap.registry.client import Registry
from envsnap.workflows import export, launch, local, run, runnable, this_host
from envsnap.workflows.formats import FORMATS, ImageFormat
from envsnap.workflows.launch import Caller, Wishes
from envsnap.workflows.records import own_tag
from envsnap.workflows.runnable import InRegistry, Runnable
from envsnap.workflows.this_host import ThisHost
from envsnap.workflows.transfer import Found, Places
from tests import samples
from tests.fakes import layered, registry
from tests.fakes.engine import FakeEngine

NAME = "registry.example.com/vision/yolo-train:1"
DIGEST = "sha256:" + "d" * 64
KEY = "0123456789abcdef0123456789abcdef01234567"
OURS = {"dev.envsnap.source": "sha256:1", "dev.envsnap.schema": "1"}
L4 = GpuFacts(driver="580.95.05", cuda_driver="13.0", devices=(GpuDevice(name="NVIDIA L4", compute_capability="8.9", memory_mib=1),) * 2)
OLD = replace(L4, driver="470.57.02", cuda_driver="11.4")
OK = Ability(name="GPUs in containers", state="ok", found="runtime nvidia")
NONE = GpuFacts(unavailable="no NVIDIA driver")


class Said(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "home/yolo/src").mkdir(parents=True)
    (tmp_path / "home/yolo/.git").mkdir()
    return tmp_path / "home/yolo"


def caller(directory: Path, **env: str) -> Caller:
    return Caller(uid=1000, gid=100, directory=directory, env={"HOME": str(directory.parent), **env})


def image(**changes: Any) -> Runnable:
    config = ImageConfig(**({"architecture": "amd64", "entrypoint": ("/entry",), "workdir": "/workspace"} | changes))
    there = EngineImage(
        image_id=DIGEST,
        config_digest=DIGEST,
        repo_digests=(f"registry.example.com/vision/yolo-train@{DIGEST}",),
        tags=(NAME,),
        size_bytes=1,
        layers=1,
        config=config,
    )
    return Runnable(reference=NAME, digest=DIGEST, name="yolo-train", config=config, found=Found(name=NAME, image=there))


# Which image


@dataclasses.dataclass
class World:
    places: Places
    engine: FakeEngine
    lock: Path
    own: str
    config_digest: str
    manifest_digest: str

    def record(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "reference": NAME,
            "config_digest": self.config_digest,
            "manifest_digest": self.manifest_digest,
            "size_bytes": 1,
            "layers": 1,
            "tags": (NAME, self.own),
            "engine": "oci",
            "base": "debian",
            "lock_digest": lockfile.loads(self.lock.read_bytes()).digest,
            "context_digest": DIGEST,
            "at": "",
            "seconds": 1.0,
        }
        record = ImageRecord(**(values | changes))
        place = self.lock.parent / "images" / lockfile.loads(self.lock.read_bytes()).name
        place.mkdir(parents=True, exist_ok=True)
        (place / "image.yaml").write_bytes(msgspec.yaml.encode(record))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    plain, _, _ = layered.make_image(tmp_path / "cache/blobs")
    made = put_together(plain.base, plain.layers, RunConfig(env={"A": "1"}, labels=OURS, workdir="/workspace/yolo"))
    assert made.manifest is not None
    lock = samples.lock()
    (tmp_path / "yolo.yaml").write_bytes(lockfile.dumps(lock))
    local.remember(made, [own_tag(lock)], tmp_path / "cache", place="here")
    engine, client = FakeEngine(answers=False), Registry({"DOCKER_CONFIG": str(tmp_path)})
    places = Places(engine=engine(), registry=client, cache=tmp_path / "cache", machine="x86_64")
    yield World(places, engine, tmp_path / "yolo.yaml", own_tag(lock), made.config.digest, made.manifest.digest)
    client.close()


def test_a_lock_means_its_image(world: World) -> None:
    found = runnable.find("yolo.yaml", world.places)
    assert (found.reference, found.digest, found.has_address, found.registry) == (world.own, "", False, "")
    assert found.config.workdir == "/workspace/yolo" and found.name == lockfile.loads(world.lock.read_bytes()).name


def test_where_it_was_pushed_it_is_called_as_there(world: World) -> None:
    world.record()
    found = runnable.find("yolo.yaml", world.places)
    assert (found.pinned, found.registry) == (f"{NAME}@{world.manifest_digest}", "registry.example.com")
    assert isinstance(found.found, Found) and found.found.name == world.own  # what is run is what was held against the record


@pytest.mark.parametrize("change", [{"lock_digest": DIGEST}, {"config_digest": DIGEST}])
def test_a_record_of_another_build_says_nothing(world: World, change: dict[str, str]) -> None:
    world.record(**change)
    assert runnable.find("yolo.yaml", world.places).pinned == world.own


def test_a_lock_without_an_image(world: World) -> None:
    local.forget(world.own, world.places.cache)
    with pytest.raises(EngineError, match=r"no image of yolo\.yaml is here") as refused:
        runnable.find("yolo.yaml", world.places)
    assert "envsnap build yolo.yaml" in refused.value.hint


def test_what_is_not_here_is_asked_of_its_registry_by_digest(world: World) -> None:
    with registry.running() as served:
        there = local.find(world.own, world.places.cache)
        assert there is not None and there.manifest is not None
        served.blobs["vision/yolo", there.config.digest] = there.config.raw
        served.manifests["vision/yolo", there.manifest.digest] = (OCI_MANIFEST, there.manifest.raw)
        world.record(tags=(f"{served.address}/vision/yolo:1", world.own))
        local.forget(world.own, world.places.cache)
        found = runnable.find("yolo.yaml", world.places)  # the tag itself is not there any more
        assert found.pinned == f"{served.address}/vision/yolo:1@{there.manifest.digest}"
        assert isinstance(found.found, InRegistry) and found.config.labels == OURS
        with pytest.raises(EngineError):
            runnable.find(f"{served.address}/vision/yolo:2", world.places)


def test_a_registry_that_is_not_there_is_not_said_to_have_answered(world: World) -> None:
    with registry.running() as served:
        gone = served.address
    world.record()
    with pytest.raises(EngineError) as failed:
        runnable.find(f"{gone}/vision/yolo:2", world.places)
    assert "there is no image" not in f"{failed.value.what} {failed.value.why}"


# How it is run


def test_what_nobody_wants_to_know(project: Path, said: Said) -> None:
    made = launch.launch(image(), Wishes(command=("python",)), dataclasses.replace(caller(project), directory=project / "src"), None, said)
    assert made.project == Mount(source=str(project), target="/workspace/yolo") and made.workdir == "/workspace/yolo/src"
    assert (made.user, made.command, made.shm_size, made.ulimits) == ("1000:100", ("python",), None, {"memlock": -1, "stack": 64 << 20})
    assert made.env == (Passed(name="HOME", value="/tmp"), Passed(name="USER", value="user"))
    assert made.entrypoint == ("/entry",)


@pytest.mark.parametrize(
    ("user", "env", "given"),
    [
        (None, {"HOME": "/opt/envsnap/home", "USER": "envsnap"}, []),
        (None, {"HOME": "/home"}, ["USER"]),
        ("root", {}, []),
        ("0:0", {}, []),
        ("image", {}, []),
        ("somebody", {}, []),
        ("12", {}, ["HOME", "USER"]),
    ],
)
def test_a_user_whom_the_image_does_not_know_has_a_home_and_a_name(
    project: Path, said: Said, user: str | None, env: Mapping[str, str], given: list[str]
) -> None:
    made = launch.launch(image(env=env), Wishes(user=user), caller(project), None, said)
    assert [one.name for one in made.env] == given


def test_a_variable_that_was_asked_for_comes_before(project: Path, said: Said) -> None:
    made = launch.launch(image(), Wishes(env=("HOME=/data", "A=1", "A=2")), caller(project), None, said)
    assert {one.name: one.value for one in made.env} == {"HOME": "/data", "USER": "user", "A": "2"}


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"labels": OURS, "workdir": "/workspace/yolo"}, "in place of the image's own copy"),
        ({"labels": OURS, "workdir": "/workspace/other"}, "stays at /workspace/other"),
        ({"labels": OURS | {"dev.envsnap.source": "none"}}, "is /workspace/yolo inside"),
        ({}, "is /workspace/yolo inside"),
    ],
)
def test_where_the_project_lies_is_said(project: Path, said: Said, config: dict[str, Any], what: str) -> None:
    launch.launch(image(**config), Wishes(), caller(project), None, said)
    assert len(said.notes) == 1 and what in said.notes[0]
    assert ("copy" in said.notes[0]) == ("copy" in what or "stays" in what)


def test_no_project(project: Path, said: Said) -> None:
    made = launch.launch(image(), Wishes(with_project=False), caller(project), None, said)
    assert (made.project, made.workdir, said.notes) == (None, "", [])


def test_a_home_directory_is_no_project(project: Path, said: Said) -> None:
    me = dataclasses.replace(caller(project), directory=project.parent)
    assert launch.launch(image(), Wishes(), me, None, said).project is None and "is no project" in said.notes[0]
    assert launch.launch(image(), Wishes(project=Path()), me, None, said).project is not None  # unless that is what was asked for


def test_a_home_directory_behind_a_link_is_none_either(project: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project.parent)
    me = dataclasses.replace(caller(project), directory=tmp_path / "link", env={"HOME": str(tmp_path / "link")})
    assert launch.launch(image(), Wishes(), me, None, said).project is None
    assert launch.launch(image(), Wishes(), dataclasses.replace(me, directory=project), None, said).project is not None


def test_directories_that_are_not_there(project: Path, said: Said) -> None:
    with pytest.raises(TargetError, match=r"there is no .*/data/coco") as refused:
        launch.launch(image(), Wishes(data=("data/coco",)), caller(project), None, said)
    assert f"{project} is there" in refused.value.why
    with pytest.raises(TargetError, match="there is no directory"):
        launch.launch(image(), Wishes(project=Path("nowhere")), caller(project), None, said)
    (project / "a\nb").mkdir()
    with pytest.raises(TargetError, match="cannot be mounted"):
        launch.launch(image(), Wishes(project=Path("a\nb")), caller(project), None, said)


def test_what_is_no_utf_8_is_refused_wherever_it_stands(project: Path, said: Said) -> None:
    odd = os.fsdecode(b"b\xff")
    (project / odd).mkdir()
    for asked in (Wishes(data=(odd,)), Wishes(command=("python", odd)), Wishes(env=(f"A={odd}",))):
        with pytest.raises(UsageError, match="no UTF-8"):
            launch.launch(image(), asked, caller(project), None, said)


def test_data_over_the_project(project: Path, said: Said) -> None:
    with pytest.raises(UsageError, match="cannot both be at /workspace/yolo"):
        launch.launch(image(), Wishes(data=("src:/workspace/yolo",)), caller(project), None, said)


# On this host


class Engine:
    """Attributes: refuses: names of limits that it may not set."""

    def __init__(self, *, answers: bool = True, here: bool = True, rootless: bool = False, refuses: tuple[str, ...] = ()) -> None:
        self.answers, self.here, self.rootless, self.refuses = answers, here, rootless, refuses
        self.pulled: list[str] = []

    def require(self) -> None:
        if not self.answers:
            raise EngineError("cannot reach a Docker engine", why="nothing is listening", hint="start it")

    def root(self) -> tuple[str, bool]:
        return "/var/lib/docker", self.here

    def is_rootless(self) -> bool:
        return self.rootless

    def image(self, reference: str) -> str | None:
        return reference if reference in self.pulled else None

    def pull(self, reference: str, _: object) -> None:
        self.pulled.append(reference)

    def takes(self, _: str, ulimits: Mapping[str, int]) -> bool:
        return not set(ulimits) & set(self.refuses)

    def gpus(self) -> Ability:
        return OK

    def find(self, _: object) -> None:
        return None


def prepare(
    project: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    *,
    engine: Engine | None = None,
    gpus: GpuFacts = NONE,
    of: Runnable | None = None,
    asked: Wishes | None = None,
    printed: bool = False,
    **env: str,
) -> Launch:
    monkeypatch.setattr(this_host, "_gpus", lambda: gpus)
    monkeypatch.setattr(process, "may_raise_limits", lambda: engine is None or not engine.refuses)
    host = ThisHost(machine="x86_64", engine=cast("DockerEngine", engine or Engine()), env={}, cache=project)
    return run.prepare(of or image(), asked or Wishes(), caller(project, **env), host, said, printed=printed)


def test_gpus_are_all_that_this_host_has(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare(project, said, monkeypatch, gpus=L4).gpus == GpuRequest(count=-1) and "all 2 (NVIDIA L4)" in said.notes[0]
    said.notes.clear()
    assert prepare(project, said, monkeypatch).gpus is None and "GPUs: none (no NVIDIA driver)" in said.notes[0]
    assert prepare(project, said, monkeypatch, asked=Wishes(gpus="device=1")).gpus == GpuRequest(devices=("1",))


def test_wandb_s_variables_go_by_name(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(project, said, monkeypatch, WANDB_API_KEY=KEY, WANDB_MODE="offline", WANDB_DIR="/here", WANDB_SERVICE="x", OTHER="y")
    passed = [one for one in made.env if one.name.startswith("WANDB")]
    assert passed == [Passed(name="WANDB_API_KEY"), Passed(name="WANDB_MODE")]
    assert KEY not in " ".join(run.argv(made, tty=False))
    made = prepare(project, said, monkeypatch, asked=Wishes(env=("WANDB_MODE=disabled",)), WANDB_MODE="online")
    assert [one.value for one in made.env if one.name == "WANDB_MODE"] == ["disabled"]


def test_a_key_of_wandb_login_is_spoken_of(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.parent / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    prepare(project, said, monkeypatch)
    assert any("wandb login" in note for note in said.notes) and not any(KEY in note for note in said.notes)
    settings: tuple[dict[str, Any], ...] = ({"WANDB_API_KEY": KEY}, {"WANDB_MODE": "offline"})
    for env in settings:
        said.notes.clear()
        prepare(project, said, monkeypatch, **env)
        assert not any("wandb login" in note for note in said.notes)


def test_a_name_without_a_value(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--env HF_TOKEN: it is not set here"):
        prepare(project, said, monkeypatch, asked=Wishes(env=("HF_TOKEN",)))
    assert Passed(name="HF_TOKEN") in prepare(project, said, monkeypatch, asked=Wishes(env=("HF_TOKEN",)), HF_TOKEN="x").env


NGC = {
    "env": {
        "CUDA_VERSION": "13.3.1.008",
        "PYTORCH_VERSION": "2.13.0a0+9186a08",
        "NVIDIA_REQUIRE_CUDA": "cuda>=9.0",
        "TORCH_CUDA_ARCH_LIST": "8.0 9.0",
    }
}


def test_a_definite_no_stops_it(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"this host cannot run .*: driver") as refused:
        prepare(project, said, monkeypatch, gpus=OLD, of=image(**NGC))
    assert "470.57.02" in refused.value.why and "--print" in refused.value.hint and refused.value.exit_code == 7
    assert prepare(project, said, monkeypatch, gpus=L4, of=image(**NGC)).gpus is not None
    assert prepare(project, said, monkeypatch, gpus=OLD, of=image(**NGC), asked=Wishes(gpus="none")).gpus is None
    assert prepare(project, said, monkeypatch, gpus=OLD, of=image(**NGC), printed=True).gpus is not None
    assert any(warning.startswith("driver: ") for warning in said.warnings)


def test_an_image_of_another_machine_stops_it_with_gpus_or_without(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="platform"):
        prepare(project, said, monkeypatch, of=image(architecture="arm64"), asked=Wishes(gpus="none"))


def test_docker_that_is_somewhere_else(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(project, said, monkeypatch, engine=Engine(here=False), of=image(architecture="arm64"))
    assert made.gpus == GpuRequest(count=-1) and any("another machine" in note for note in said.notes)


def test_docker_without_root(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(project, said, monkeypatch, engine=Engine(rootless=True, refuses=("memlock",)))
    assert (made.user, dict(made.ulimits)) == ("0:0", {"stack": 64 << 20})
    assert {note.split(":")[0] for note in said.notes} >= {"Docker is rootless here"} and any(
        "memlock stays" in note for note in said.notes
    )
    assert made.env == ()  # root has a home


def test_limits_that_docker_may_not_raise(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dict(prepare(project, said, monkeypatch, engine=Engine(refuses=("memlock", "stack"))).ulimits) == {}
    assert len(prepare(project, said, monkeypatch, engine=Engine()).ulimits) == 2


@pytest.mark.parametrize("printed", [False, True])
def test_they_are_tried_with_an_image_that_docker_has_yet_to_get(
    printed: bool, project: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _, _ = layered.make_image(project / "blobs")
    assert plain.manifest is not None
    far = dataclasses.replace(image(), found=InRegistry(manifest=plain.manifest, config=plain.config))
    engine = Engine(refuses=("memlock",))
    engine.layers_there = lambda _: 0  # type: ignore[attr-defined]
    made = prepare(project, said, monkeypatch, engine=engine, of=far, printed=printed)
    assert (engine.pulled, "memlock" in made.ulimits) == (([], True) if printed else ([far.pinned], False))
    engine.pulled = [far.pinned]
    assert "memlock" not in prepare(project, said, monkeypatch, engine=engine, of=far, printed=printed).ulimits
    assert engine.pulled == [far.pinned]


def test_no_docker_at_all(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="cannot reach") as refused:
        prepare(project, said, monkeypatch, engine=Engine(answers=False))
    assert "start it" in refused.value.hint and "envsnap verify" in refused.value.hint
    assert prepare(project, said, monkeypatch, engine=Engine(answers=False), printed=True).image == NAME
    with pytest.raises(EngineError, match="no docker command"):
        run.start(prepare(project, said, monkeypatch), caller(project, PATH=str(project)), tty=False)


def test_an_image_that_docker_does_not_have(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _, _ = layered.make_image(project / "blobs")
    with pytest.raises(EngineError, match="Docker does not have") as refused:
        prepare(project, said, monkeypatch, of=dataclasses.replace(image(), found=Found(name=NAME, image=plain)))
    assert refused.value.hint.startswith("envsnap save")


def test_what_is_only_in_a_registry_is_fetched_by_digest(project: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _, _ = layered.make_image(project / "blobs")
    assert plain.manifest is not None
    engine = Engine()
    engine.layers_there = lambda _: 0  # type: ignore[attr-defined]
    there = dataclasses.replace(image(), found=InRegistry(manifest=plain.manifest, config=plain.config))
    assert prepare(project, said, monkeypatch, engine=engine, of=there).image == f"{NAME}@{DIGEST}"


# Elsewhere


IMAGE_FORMATS = {name: row for name, row in FORMATS.items() if isinstance(row, ImageFormat)}


def exported(form: str, project: Path, said: Said, of: Runnable | None = None, place: Path | None = None, **wishes: Any) -> str:
    asked = export.Asked(image=of or image(), wishes=Wishes(**wishes), caller=caller(project), place=place, progress=said)
    return IMAGE_FORMATS[form].text(asked)


@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_each_format_names_the_image_by_digest_and_the_key_by_name(
    form: str, project: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    text = exported(form, project, said, command=("python",))
    assert DIGEST in text and "WANDB_API_KEY" in text and KEY not in text
    assert len(said.warnings) == (form == "devcontainer")
    assert "WANDB_API_KEY" not in exported(form, project, said, command=("python",), env=("WANDB_MODE=offline",))


def test_an_image_that_is_here_alone(project: Path, said: Said) -> None:
    exported("compose", project, said, of=dataclasses.replace(image(), reference="envsnap/yolo:0123", digest=""))
    assert len(said.warnings) == 1 and "envsnap push" in said.warnings[0]


@pytest.mark.parametrize(
    ("place", "source"), [(None, "."), ("compose.yaml", "."), ("deploy/compose.yaml", "./.."), ("../compose.yaml", "./yolo")]
)
def test_compose_finds_the_project_from_where_its_file_lies(project: Path, said: Said, place: str | None, source: str) -> None:
    text = exported("compose", project, said, place=project / place if place else None)
    found = yaml.safe_load(text)["services"]["yolo-train"]["volumes"][0]["source"]
    assert Path(found) == Path(source) and found.startswith(".")


def test_what_is_shown_is_a_file_where_one_stands(project: Path, said: Said) -> None:
    """`export … > compose.yaml` in a directory of the project."""
    asked = export.Asked(
        image=image(), wishes=Wishes(), caller=dataclasses.replace(caller(project), directory=project / "src"), place=None, progress=said
    )
    service = yaml.safe_load(IMAGE_FORMATS["compose"].text(asked))["services"]["yolo-train"]
    assert Path(service["volumes"][0]["source"]) == Path("..") and service["working_dir"] == "/workspace/yolo/src"


@pytest.mark.parametrize("words", [("wandb", "login", KEY), ("train.py", "--token", "hf_" + "a" * 34), ("x", "https://me:s3cr3ts@host/")])
@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_a_secret_in_the_command_is_not_written(form: str, words: tuple[str, ...], project: Path, said: Said) -> None:
    with pytest.raises(UsageError, match="looks like a secret") as refused:
        exported(form, project, said, command=words)
    assert words[-1] not in f"{refused.value.what} {refused.value.why} {refused.value.hint}"
    assert exported(form, project, said, command=("sh", "-c", 'wandb login "$WANDB_API_KEY"', "--max_tokens=1000000"))


def test_a_command_that_nothing_runs_is_spoken_of(project: Path, said: Said) -> None:
    exported("devcontainer", project, said)
    assert said.warnings == []
    exported("devcontainer", project, said, command=("python",))
    assert len(said.warnings) == 1 and "left out" in said.warnings[0]


def test_how_many_gpus(project: Path, said: Said) -> None:
    assert "count: all" in exported("compose", project, said, of=image(**NGC))
    assert "count:" not in exported("compose", project, said)  # of an image that is not for any
    assert "nvidia.com/gpu: 1" in exported("k8s", project, said, of=image(**NGC)) and any("GPUs: one" in note for note in said.notes)
    assert "--gpus-per-node=4" in exported("slurm", project, said, of=image(**NGC), gpus="4", command=("python",))


def test_a_node_has_no_project_but_the_image_s(project: Path, said: Said) -> None:
    assert str(project) not in exported("k8s", project, said)


def test_a_task_of_slurm_runs_as_who_submits(project: Path, said: Said) -> None:
    text = exported("slurm", project, said, command=("python",))
    assert "HOME=" not in text and "1000" not in text
    with pytest.raises(UsageError, match="runs as who submits"):
        exported("slurm", project, said, command=("python",), user="1000")


@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_what_an_image_says_of_itself_is_nobody_s_order(form: str, world: World, project: Path, said: Said) -> None:
    """Its labels, its directory, its entrypoint may be anybody's: no line of what is written is theirs, nor of what is said."""
    evil = "x\n#SBATCH --wrap=evil\nevil: true\n$(evil)\x1b[31m"
    plain, _, _ = layered.make_image(project / "blobs")
    labels = {"dev.envsnap.lock.name": evil, "dev.envsnap.source": evil}
    local.remember(
        put_together(plain.base, plain.layers, RunConfig(env={evil: evil}, labels=labels, workdir=evil)),
        [NAME],
        world.places.cache,
        place="here",
    )
    found = runnable.find(NAME, world.places)
    found = dataclasses.replace(found, config=replace(found.config, entrypoint=(evil, evil)))
    text = exported(form, project, said, of=found, command=("python",))
    assert found.name == "x-sbatch-wrap-evil-evil-true-evil-31m"
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("#SBATCH --wrap", "evil:", "$(evil"))]
    assert "\x1b" not in text + "".join(said.notes) and all(len(note.splitlines()) == 1 for note in said.notes)


def test_every_format_has_a_row() -> None:
    assert set(IMAGE_FORMATS) == {"compose", "devcontainer", "k8s", "slurm"}
    assert set(FORMATS) - set(IMAGE_FORMATS) == {"pylock", "requirements", "conda", "cyclonedx"}
    assert all(row.what for row in FORMATS.values())
