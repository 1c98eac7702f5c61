"""Reading what an engine tells of images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from envsnap.engines.abilities import describe_engine, disk_ability, gpu_ability, uses_containerd_store
from envsnap.engines.docker import require_as_asked
from envsnap.engines.images import Layers, config_digest_of, pushed_digest, read_image
from envsnap.engines.interface import BuildInputs, EngineImage
from envsnap.errors import EngineError

ID = "sha256:" + "1" * 64


def test_a_full_description() -> None:
    image = read_image(
        {
            "Id": ID,
            "RepoTags": ["x:1"],
            "RepoDigests": ["x@sha256:2"],
            "Size": 12,
            "Architecture": "arm64",
            "Os": "linux",
            "RootFS": {"Layers": ["a", "b"]},
            "Config": {
                "Env": ["A=b=c", "EMPTY=", "odd"],
                "Labels": {"l": "v"},
                "Entrypoint": ["/e"],
                "Cmd": ["c"],
                "WorkingDir": "/w",
                "User": "1000",
            },
        },
        config_digest="sha256:3",
    )
    assert (image.image_id, image.config_digest, image.tags, image.repo_digests) == (ID, "sha256:3", ("x:1",), ("x@sha256:2",))
    assert (image.size_bytes, image.layers, image.config.architecture) == (12, 2, "arm64")
    assert dict(image.config.env) == {"A": "b=c", "EMPTY": ""}
    assert (image.config.entrypoint, image.config.cmd, image.config.workdir, image.config.user) == (("/e",), ("c",), "/w", "1000")


def test_an_image_of_which_little_is_said() -> None:
    image = read_image({"Id": ID, "RepoTags": None, "Config": {"Env": None, "Entrypoint": None}, "RootFS": {}}, config_digest=ID)
    assert (image.tags, image.layers, image.config.entrypoint, image.config.env) == ((), 0, (), {})


@pytest.mark.parametrize("config", ["blobs/sha256/" + "5" * 64, "5" * 64 + ".json"], ids=["oci", "docker"])
def test_the_config_digest_in_an_image_archive(config: str) -> None:
    assert config_digest_of(saved("manifest.json", [{"Config": config, "Layers": []}])) == "sha256:" + "5" * 64


def test_an_archive_without_a_manifest() -> None:
    with pytest.raises(EngineError, match="cannot read the image's manifest"):
        config_digest_of(saved("index.json", {}))


def saved(name: str, document: object) -> Iterator[bytes]:
    data, file = json.dumps(document).encode(), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for member, content in (("blobs/sha256/" + "0" * 64, b"layer"), (name, data)):
            header = tarfile.TarInfo(member)
            header.size = len(content)
            out.addfile(header, io.BytesIO(content))
    return iter([file.getvalue()])


class Meter:
    def __init__(self) -> None:
        self.done, self.whole = 0, 0

    def advance(self, amount: int) -> None:
        assert amount >= 0
        self.done += amount

    def total(self, amount: int | None) -> None:
        self.whole = amount or 0

    def status(self, text: str) -> None: ...


def test_bytes_are_added_up_over_layers() -> None:
    meter = Meter()
    layers = Layers(meter)
    begun: list[dict[str, Any]] = [
        {"status": "Pulling from x", "id": "1.0"},
        {"status": "Pulling fs layer", "id": "a", "progressDetail": {}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 5, "total": 50}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 40, "total": 100}},
    ]
    for event in begun:
        layers.read(event)
    assert (meter.done, meter.whole) == (45, 150)
    ended: list[dict[str, Any]] = [
        {"status": "Download complete", "id": "a", "progressDetail": {}},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 900}},
        {"status": "Pull complete", "id": "a"},
        {"status": "Pull complete", "id": "b"},
        {"status": "Digest: sha256:1"},
    ]
    for event in ended:
        layers.read(event)
    assert (meter.done, meter.whole) == (150, 150)


def pushing(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"status": status, "id": layer, "progressDetail": {"current": current, "total": total} if total else {}}


def test_what_a_push_uploads_are_the_layers_that_the_registry_did_not_have() -> None:
    meter = Meter()
    layers = Layers(meter)
    for event in (
        *(pushing(layer, "Preparing") for layer in "abcde"),
        pushing("a", "Layer already exists"),
        pushing("b", "Mounted from other/repository"),
        pushing("c", "Pushing", 33280, 3000000),
        pushing("c", "Pushing", 3001856, 3000000),
        pushing("d", "Pushing", 0, 70),  # how a containerd store says that it asks first
        pushing("d", "Layer already exists"),
        pushing("e", "Pushing", 10, 500),
        pushing("c", "Pushed"),
        pushing("e", "Pushed"),
    ):
        layers.read(event)
    assert layers.uploaded_bytes == 3001856 + 500


@pytest.mark.parametrize(
    ("event", "digest"),
    [
        ({"progressDetail": {}, "aux": {"Tag": "1", "Digest": ID, "Size": 529}}, ID),
        ({"status": f"1: digest: {ID} size: 529"}, ID),
        ({"status": f"1: digest: {ID}"}, None),
        ({"status": "Pushed", "aux": None}, None),
    ],
)
def test_the_digest_that_a_push_tells(event: dict[str, Any], digest: str | None) -> None:
    assert pushed_digest(event) == digest


def built(architecture: str = "amd64", labels: dict[str, str] | None = None) -> EngineImage:
    return read_image({"Id": ID, "Architecture": architecture, "Os": "linux", "Config": {"Labels": labels}}, config_digest=ID)


def asked(labels: dict[str, str]) -> BuildInputs:
    return BuildInputs(tags=["x:1"], secrets={}, platform="linux/amd64", labels=labels)


def test_an_image_as_it_was_asked_for() -> None:
    require_as_asked(built(), asked({}))
    require_as_asked(built(labels={"lock": "1", "more": "2"}), asked({"lock": "1"}))


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (built("arm64", {"lock": "1"}), "linux/amd64 was asked for"),
        (built(labels=None), "its label lock is missing, expected 1"),
        (built(labels={"lock": "2"}), "its label lock is 2, expected 1"),
    ],
)
def test_an_image_other_than_asked_for(image: EngineImage, why: str) -> None:
    with pytest.raises(EngineError) as caught:
        require_as_asked(image, asked({"lock": "1"}))
    assert caught.value.why == why


def test_an_engine_in_one_line() -> None:
    version = {"Version": "26.1.5", "ApiVersion": "1.45"}
    classic = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]], "Architecture": "x86_64"}
    containerd = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "Architecture": "x86_64"}
    assert describe_engine(version, classic) == "26.1.5 (API 1.45), overlay2, x86_64"
    assert describe_engine(version, containerd) == "26.1.5 (API 1.45), containerd store with overlayfs, x86_64"
    assert uses_containerd_store(containerd)
    assert not uses_containerd_store(classic)
    assert not uses_containerd_store({"DriverStatus": None})


def test_abilities_of_engines() -> None:
    assert gpu_ability({"Runtimes": {"nvidia": {}}}).state == "ok"
    assert gpu_ability({}).state == "missing"
    assert "nvidia-ctk" in gpu_ability({}).hint
    assert "free at /" in disk_ability("/", local=True).found
    assert "cannot be seen" in disk_ability("/", local=False).found
    assert "cannot be seen" in disk_ability("/no/such/place", local=True).found
