"""What is asked of Docker's engine, as far as a small client can tell."""

from __future__ import annotations

from typing import Any, NoReturn

from envsnap.engines.docker import DockerEngine

NAMED, NAMELESS, GONE = ("sha256:" + letter * 64 for letter in "abc")


class Client:
    """Three images with a label. No image is ever written out to read its manifest: of one of NVIDIA's that is 20 GB."""

    def images(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters == {"label": "com.example.build=7"}
        return [{"Id": NAMED, "RepoTags": ["a:1"]}, {"Id": NAMELESS, "RepoTags": []}, {"Id": GONE, "RepoDigests": ["a@sha256:0"]}]

    def inspect_image(self, reference: str) -> dict[str, Any]:
        from docker.errors import ImageNotFound

        if reference == GONE:
            raise ImageNotFound("gone in the meantime")
        return {"Id": reference, "RootFS": {"Layers": ["sha256:1", "sha256:2"]}}

    def info(self) -> dict[str, Any]:
        return {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}

    def get_image(self, reference: str) -> NoReturn:
        raise AssertionError(f"{reference} was written out")


def test_images_of_a_label_are_told_by_their_layers_without_writing_any_out() -> None:
    engine = DockerEngine({})
    engine.__dict__["_client"] = Client()
    assert engine.labelled("com.example.build", "7") == {NAMED: ("sha256:1", "sha256:2")}
