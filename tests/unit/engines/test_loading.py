"""What an engine says about a loaded image proves nothing; looking does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envsnap.engines import loading
from envsnap.engines.docker import DockerEngine
from envsnap.engines.loading import NotTaken
from envsnap.errors import EngineError
from envsnap.oci.image import Image
from tests.fakes import layered

if TYPE_CHECKING:
    from typing_extensions import Self


class Response:
    def __init__(self, status: int, events: list[dict[str, Any]]) -> None:
        self.status_code = status
        self.text = json.dumps(events)
        self._lines = [json.dumps(event).encode() for event in events]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def iter_lines(self) -> Iterator[bytes]:
        yield from (b"", *self._lines)


class Client:
    """As much of docker-py's as is used. Attributes: known: ID -> diff_ids; what is loaded becomes known, unless it forgets."""

    base_url, api_version = "http+docker://localhost", "1.45"

    def __init__(self, *, containerd: bool = False, events: list[dict[str, Any]] | None = None, status: int = 200) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.events = events or [{"stream": "Loaded image ID: sha256:0000"}]
        self.status = status
        self.containerd = containerd
        self.loads: dict[str, tuple[str, ...]] = {}
        self.broken: set[str] = set()
        self.taken = 0

    def info(self) -> dict[str, Any]:
        return {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]] if self.containerd else []}

    def images(self) -> list[dict[str, str]]:
        return [{"Id": one} for one in [*self.known, "sha256:gone-meanwhile"]]

    def inspect_image(self, reference: str) -> dict[str, Any]:
        from docker.errors import ImageNotFound

        if reference not in self.known:
            raise ImageNotFound("no such image")
        return {"Id": reference, "RootFS": {"Layers": list(self.known[reference])}, "Config": None, "Architecture": "amd64"}

    def post(self, url: str, *, data: Iterator[bytes], headers: object, stream: bool, timeout: int) -> Response:
        assert url == f"{self.base_url}/v{self.api_version}/images/load"
        self.taken = sum(map(len, data))
        self.known |= self.loads
        return Response(self.status, self.events)

    def create_container(self, image: str, *_: object, **__: object) -> dict[str, str]:
        from docker.errors import APIError

        if image in self.broken:
            raise APIError("snapshot does not exist: not found")
        return {"Id": "c" * 64}

    def create_host_config(self, **_: object) -> dict[str, str]:
        return {}

    def remove_container(self, *_: object, **__: object) -> None: ...


def engine_with(client: Client) -> DockerEngine:
    engine = DockerEngine({})
    engine.__dict__["_client"] = client
    return engine


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return layered.make_image(tmp_path / "blobs")[0]


def id_of(image: Image, *, containerd: bool) -> str:
    assert image.manifest is not None
    return image.manifest.digest if containerd else image.config.digest


@pytest.mark.parametrize("containerd", [False, True])
def test_what_is_there_afterwards_was_loaded(image: Image, containerd: bool) -> None:
    client = Client(containerd=containerd)
    client.loads = {id_of(image, containerd=containerd): image.config.diff_ids}
    landed = engine_with(client).load(image, iter([b"tar", b"ball"]))
    assert (landed.image_id, landed.config_digest) == (id_of(image, containerd=containerd), image.config.digest)
    assert client.taken == 7


@pytest.mark.parametrize("containerd", [False, True])
def test_saying_that_it_was_loaded_is_no_proof(image: Image, containerd: bool) -> None:
    with pytest.raises(NotTaken, match="cannot load") as failed:
        engine_with(Client(containerd=containerd)).load(image, iter([]))
    assert "does not have it" in failed.value.why


def test_the_right_name_with_other_layers_is_no_proof(image: Image) -> None:
    client = Client()
    client.loads = {image.config.digest: image.config.diff_ids[:-1]}
    with pytest.raises(NotTaken):
        engine_with(client).load(image, iter([]))


def test_on_a_containerd_store_a_listed_image_without_its_layers_is_none(image: Image) -> None:
    client = Client(containerd=True)
    client.known = {id_of(image, containerd=True): image.config.diff_ids}
    assert engine_with(client).find(image) is not None
    client.broken = set(client.known)
    assert engine_with(client).find(image) is None


def test_a_containerd_store_needs_a_manifest(tmp_path: Path) -> None:
    image, _, _ = layered.make_image(tmp_path, manifest=False)
    engine = engine_with(Client(containerd=True))
    assert engine.find(image) is None
    with pytest.raises(EngineError, match="cannot load") as failed:
        engine.load(image, iter([]))
    assert not isinstance(failed.value, NotTaken) and "manifest" in failed.value.why


@pytest.mark.parametrize("status", [200, 500])
def test_an_error_of_the_engine_is_told_in_its_words(image: Image, status: int) -> None:
    with pytest.raises(NotTaken) as failed:
        engine_with(Client(events=[{"error": "open x: no such file or directory"}], status=status)).load(image, iter([]))
    assert "no such file" in failed.value.why


def test_a_full_disk_is_no_reason_to_send_more(image: Image) -> None:
    with pytest.raises(EngineError) as failed:
        engine_with(Client(events=[{"error": "write /x: no space left on device"}])).load(image, iter([]))
    assert not isinstance(failed.value, NotTaken) and "docker system df" in failed.value.hint


def test_the_layers_in_common_are_those_from_the_lowest_on(image: Image) -> None:
    client = Client()
    engine = engine_with(client)
    ours = image.config.diff_ids
    assert engine.layers_there(image) == 0
    client.known = {"a": ours[1:], "b": (*ours[:2], "sha256:other", *ours[2:])}
    assert engine.layers_there(image) == 2
    client.known["c"] = ours[:3]
    assert engine.layers_there(image) == 3
    client.known["d"] = (*ours, "sha256:more")
    assert engine.layers_there(image) == 4


def test_an_interrupt_passes_through(image: Image) -> None:
    def interrupted() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loading.send(Client(), interrupted(), "cannot load")  # type: ignore[arg-type]
