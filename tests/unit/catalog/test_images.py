"""What an image says of itself, and how that stands to its row."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import catalog
from envsnap.catalog import images
from envsnap.model.base import ImageConfig, Release

KNOWN = catalog.load()
ROW = KNOWN.named("nvcr.io/nvidia/pytorch:26.07-py3")[0]
ENV = {
    "NVIDIA_PYTORCH_VERSION": "26.07",
    "PYTORCH_VERSION": "2.13.0a0+9186a08",
    "CUDA_VERSION": "13.3.1.008",
    "CUDA_DRIVER_VERSION": "610.43.02",
    "CUDNN_VERSION": "9.24.0.43",
    "NCCL_VERSION": "2.30.7",
    "TORCH_CUDA_ARCH_LIST": "7.5 8.0 8.6 9.0 10.0 12.0+PTX",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/usr/local/lib/python3.12/dist-packages/torch/lib",
}
LABELS = {"org.opencontainers.image.version": "24.04"}


def config(changed: Mapping[str, str | None] | None = None, **more: object) -> ImageConfig:
    env = {name: value for name, value in {**ENV, **(changed or {})}.items() if value is not None}
    return ImageConfig(architecture="amd64", **{"env": env, "labels": LABELS, **more})  # type: ignore[arg-type]


def standings(said: ImageConfig, row: Release | None = ROW, machines: tuple[str, ...] | None = None) -> dict[str, tuple[object, str]]:
    return {one.field: (one.value, one.standing) for one in images.statements(said, machines, row)}


def test_the_image_that_its_row_describes() -> None:
    found = standings(config())
    assert {name: value for name, (value, _) in found.items()} == {
        name: value for name, value in ROW.values.items() if name not in ("reference", "arches")
    }
    assert {standing for _, standing in found.values()} == {"as catalogued"}


@pytest.mark.parametrize(
    ("changed", "field", "value", "standing"),
    [
        ({"CUDA_VERSION": "13.3.2.001"}, "cuda", "13.3.2", "contradicts"),
        ({"CUDNN_VERSION": "9.24.1.1"}, "cudnn", "9.24.1.1", "contradicts"),
        ({"CUDNN_VERSION": "9.24.0.43+cuda13.2"}, "cudnn", "9.24.0.43", "as catalogued"),
        ({"CUDNN_VERSION": "9.24"}, "cudnn", "9.24", "as catalogued"),
        ({"CUDNN_VERSION": "9.24.0.4"}, "cudnn", "9.24.0.4", "contradicts"),
        ({"NCCL_VERSION": "2.30.7-1"}, "nccl", "2.30.7", "as catalogued"),
        ({"CUDA_DRIVER_VERSION": "610.43.03"}, "driver_bundled", "610.43.03", "contradicts"),
        ({"PYTORCH_VERSION": "2.13.0a0+9186a08b2c.nv26.07"}, "torch", "2.13.0a0+9186a08b2c.nv26.07", "as catalogued"),
        ({"PYTORCH_VERSION": "2.13.0a0+9186a09"}, "torch", "2.13.0a0+9186a09", "contradicts"),
        ({"PYTHON_VERSION": "3.12.3"}, "python", "3.12.3", "fills"),  # more exactly
        ({"NVIDIA_PYTORCH_VERSION": "26.08"}, "release", "26.08", "contradicts"),
        ({"TORCH_CUDA_ARCH_LIST": "9.0;12.0+PTX"}, "torch_cuda_arch_list", "9.0 12.0+PTX", "contradicts"),
    ],
)
def test_what_is_said_otherwise(changed: dict[str, str], field: str, value: str, standing: str) -> None:
    found = standings(config(changed))
    assert found[field] == (value, standing)
    assert {standing for name, (_, standing) in found.items() if name != field} == {"as catalogued"}


def test_a_label_speaks_where_no_variable_does() -> None:
    found = standings(config({"CUDNN_VERSION": None}, labels={"com.nvidia.cudnn.version": "9.25.0.1"}))
    assert found["cudnn"] == ("9.25.0.1", "contradicts")
    assert "ubuntu" not in found


@pytest.mark.parametrize(
    ("machines", "standing"), [(("x86_64",), "as catalogued"), (("x86_64", "aarch64"), "fills"), (("aarch64",), "contradicts")]
)
def test_what_the_registry_lists(machines: tuple[str, ...], standing: str) -> None:
    found = standings(config(size_bytes=9_800_000_000), machines=machines)
    assert found["arches"] == (machines, standing)
    assert found["pull_bytes"] == (9_800_000_000, "fills")
    assert "pull_bytes" not in standings(config(size_bytes=1))  # on disk, as an engine says
    assert "pull_bytes" not in standings(ImageConfig(architecture="arm64", size_bytes=1), machines=machines)


def test_what_is_nothing_to_write_down_says_nothing() -> None:
    odd = {
        "CUDNN_VERSION": '9.24"\n  evil: "1',
        "PYTORCH_VERSION": "2.13.0a0+9186a08 # nothing",
        "CUDA_VERSION": "thirteen",
        "NCCL_VERSION": "",
        "CUDA_DRIVER_VERSION": "610.43.02; rm -rf /",
        "TORCH_CUDA_ARCH_LIST": "all of them",
        "LD_LIBRARY_PATH": "/usr/lib/python/lib",
        "NVIDIA_PYTORCH_VERSION": "latest",
    }
    assert standings(config(odd)) == {"ubuntu": ("24.04", "as catalogued")}


@given(st.dictionaries(st.sampled_from(sorted(ENV)), st.text(max_size=40)))
def test_nothing_that_an_image_says_leaves_its_line(env: dict[str, str]) -> None:
    for one in images.statements(ImageConfig(architecture="amd64", env=env), None, ROW):
        assert isinstance(one.value, str)
        assert one.value.isascii() and one.value.isprintable() and '"' not in one.value


def test_whose_row_an_image_is_held_against() -> None:
    assert images.row_of("localhost:5000/mirror:1", config(), KNOWN) == ROW
    assert images.row_of(ROW.reference, config({"NVIDIA_PYTORCH_VERSION": "26.08"}), KNOWN) == ROW
    tensorflow = ImageConfig(architecture="amd64", env={"NVIDIA_TENSORFLOW_VERSION": "23.01-tf2", "TENSORFLOW_VERSION": "2.11.0"})
    row = images.row_of("mirror", tensorflow, KNOWN)
    assert row is not None
    assert row.reference == "nvcr.io/nvidia/tensorflow:23.01-tf2-py3"
    assert standings(tensorflow, row) == {"release": ("23.01", "as catalogued"), "tensorflow": ("2.11.0", "fills")}
    assert images.row_of("python:3.12", ImageConfig(architecture="amd64"), KNOWN) is None


@pytest.mark.parametrize("tag", ["26.08-py3", "26.11-py3", "26.12-py3", "27.01-py3", "99.12-py3", "26.13-py3", "26.08-py3-igpu", "latest"])
def test_a_tag_is_a_release_s_that_is_out(tag: str) -> None:
    """However many tags a registry lists, no more are asked for than there were months."""
    row = images.drafted("pytorch", tag, day="2026-11-20")
    assert (row.release if row is not None else None) == (tag[:5] if tag in ("26.08-py3", "26.11-py3") else None)
