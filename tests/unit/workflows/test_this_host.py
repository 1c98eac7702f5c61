"""What is read of this host for an image, and hosts that a person describes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envsnap.blobs import BlobStore
from envsnap.engines.docker import DockerEngine
from envsnap.errors import EngineError, TargetError, UsageError
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.host import Ability
from envsnap.oci.documents import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Config, Descriptor, Manifest, canonical
from envsnap.probes import gpu
from envsnap.workflows.this_host import ThisHost, described
from tests import samples

FACTS = GpuFacts(driver="580.95.05", devices=(GpuDevice(name="NVIDIA L4", compute_capability="8.9", memory_mib=1),))
RUNTIME = Ability(name="GPUs in containers", state="ok", found="runtime nvidia")


def image(*layers: bytes) -> tuple[Manifest, Config]:
    digests = [samples.digest(layer.decode()) for layer in layers]
    document: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
    raw = canonical(document)
    config = Config(raw=raw, document=document, architecture="amd64", os="linux", diff_ids=tuple(digests))
    blobs = tuple(Descriptor(media_type=OCI_LAYER, digest=digest, size=1000) for digest in digests)
    described_config = Descriptor(media_type=OCI_CONFIG, digest=config.digest, size=len(raw))
    return Manifest(raw=b"{}", media_type=OCI_MANIFEST, config=described_config, layers=blobs), config


class Engine:
    """Attributes: there: how many layers it has. broken: it answers, and then no more."""

    def __init__(self, root: str, *, answers: bool = True, local: bool = True, there: int = 1, broken: bool = False) -> None:
        self.place, self.answers, self.local, self.there, self.broken = root, answers, local, there, broken

    def require(self) -> None:
        if not self.answers:
            raise EngineError("cannot reach a Docker engine")

    def root(self) -> tuple[str, bool]:
        if self.broken:
            raise EngineError("the engine went away")
        return self.place, self.local

    def layers_there(self, _: object) -> int:
        return self.there

    def gpus(self) -> Ability:
        if self.broken:
            raise EngineError("the engine went away")
        return RUNTIME


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read", lambda *_, **__: SimpleNamespace(facts=FACTS))


def host(tmp_path: Path, **engine: Any) -> ThisHost:
    there = cast("DockerEngine", Engine(str(tmp_path), **engine))
    return ThisHost(machine="x86_64", engine=there, env={"PATH": str(tmp_path)}, cache=tmp_path / "cache")


def test_with_docker_its_own_disk_counts_and_what_it_lacks(tmp_path: Path) -> None:
    found = host(tmp_path).look(*image(b"a", b"b", b"c"))
    assert found.disk is not None and (found.disk.missing, found.disk.layers, found.disk.missing_bytes) == (2, 3, 2000)
    assert found.disk.place == f"Docker, at {tmp_path}"
    assert found.disk.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert (found.gpus, found.gpu_containers, found.here) == (FACTS, RUNTIME, True)


def test_the_disk_of_another_machines_docker_cannot_be_seen(tmp_path: Path) -> None:
    found = host(tmp_path, local=False).look(*image(b"a", b"b"))
    assert found.disk is not None and found.disk.free_bytes is None and "cannot be seen" in found.disk.unseen


def test_without_docker_the_cache_counts_and_the_toolkit_on_this_host(tmp_path: Path) -> None:
    manifest, config = image(b"a", b"b")
    path = BlobStore(tmp_path / "cache/blobs").path(manifest.layers[0].digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"here")
    found = host(tmp_path, answers=False).look(manifest, config)
    assert found.disk is not None and (found.disk.missing, found.disk.missing_bytes) == (1, 1000)
    assert found.disk.place == f"envsnap's cache, at {tmp_path / 'cache'}" and found.disk.free_bytes is not None
    assert found.gpu_containers is not None and found.gpu_containers.name == "NVIDIA container toolkit"


def test_an_engine_that_goes_away_meanwhile_leaves_it_unsaid(tmp_path: Path) -> None:
    found = host(tmp_path, broken=True).look(*image(b"a"))
    assert found.disk is None and found.gpu_containers is not None and found.gpu_containers.name == "NVIDIA container toolkit"


def test_gpus_that_cannot_be_asked_for_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise TargetError("nvidia-ml-py is not installed")

    monkeypatch.setattr(gpu, "read", failing)
    assert "nvidia-ml-py is not installed" in host(tmp_path).look(*image(b"a")).gpus.unavailable


@pytest.mark.parametrize(
    ("gpu", "name", "compute_capability"),
    [
        ("A100", "A100", "8.0"),
        ("rtx 3090", "rtx 3090", "8.6"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "9.0"),
        ("8.6", "", "8.6"),
        ("sm_120", "", "12.0"),
        ("90", "", "9.0"),
    ],
)
def test_a_gpu_by_its_name_or_its_compute_capability(gpu: str, name: str, compute_capability: str) -> None:
    other = described("x86_64", "535.104.05", [gpu])
    (device,) = other.gpus.devices
    assert (device.name, device.compute_capability, other.gpus.driver) == (name, compute_capability, "535.104.05")
    seen = other.look(*image(b"a"))
    assert (seen.disk, seen.gpu_containers, seen.here) == (None, None, False)
    assert other.description.startswith("driver 535.104.05, ")


@pytest.mark.parametrize(
    ("driver", "gpus"), [("12.4", []), ("new", []), ("535.104; rm", []), (None, ["GPU9000"]), (None, ["9"]), (None, ["8.6.1"])]
)
def test_what_describes_no_host(driver: str | None, gpus: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        described("x86_64", driver, gpus)
    assert caught.value.hint
