"""What an image says of itself in its variables and labels, in the catalogue's words, and how that stands to its row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from envsnap.model import torch_version
from envsnap.model.base import Family, FieldValue, ImageConfig, Release, Standing, Statement
from envsnap.model.catalog import Catalog
from envsnap.model.kinds import ARCHITECTURES

MACHINE = "x86_64"
"""Whose image a row speaks of, where those of two machines differ."""

NAMES: Mapping[Family, str] = {"pytorch": "NVIDIA_PYTORCH_VERSION", "tensorflow": "NVIDIA_TENSORFLOW_VERSION"}
"""The variable that says which release an image is; which one of PaddlePaddle's does was not seen."""

_TAG = re.compile(r"([0-9]{2}\.[0-9]{2})(-[a-z0-9]+)?")
_RELEASE_TAGS: Mapping[Family, str] = {"pytorch": "-py3", "tensorflow": "-tf[12]-py3", "paddlepaddle": "-py3"}
_Read = Callable[[str], str | None]


def _first(pattern: str) -> _Read:
    """Reads what a pattern finds: its first group."""
    compiled = re.compile(pattern)

    def read(text: str) -> str | None:
        found = compiled.search(text)
        return found[1] if found else None

    return read


def _architectures(text: str) -> str | None:
    parts = re.split(r"[ ;,]+", text.strip())
    return " ".join(parts) if all(re.fullmatch(r"[0-9]{1,2}\.[0-9][af]?(\+PTX)?", part) for part in parts) else None


# What follows a version, "+cuda12.2" or "-1", says of which build it is. A text that reads otherwise says nothing: it comes from a
# registry, and goes into a file and onto a screen.
_VERSION = r"\A([0-9]{1,4}(?:\.[0-9]{1,9}){1,5})(?=[+~-]|\Z)"
_BUILD = r"\A([0-9]{1,4}(?:\.[0-9]{1,9}){1,3}(?:(?:a|b|rc|\.dev|\.post)[0-9]{1,8})?(?:\+[a-z0-9.]{1,60})?)\Z"
_SAYINGS: tuple[tuple[str, str, _Read], ...] = (
    ("ubuntu", "org.opencontainers.image.version", _first(r"\A([0-9]{2}\.(?:04|10))\Z")),
    ("python", "PYTHON_VERSION", _first(r"\A(3\.[0-9]{1,2}(?:\.[0-9]{1,2})?)\Z")),
    ("python", "LD_LIBRARY_PATH", _first(r"/python(3\.[0-9]{1,2})/(?:dist|site)-packages")),
    ("cuda", "CUDA_VERSION", _first(r"\A([0-9]{1,2}\.[0-9]{1,2}(?:\.[0-9]{1,2})?)(?=\.|\Z)")),
    ("cudnn", "CUDNN_VERSION", _first(_VERSION)),
    ("cudnn", "com.nvidia.cudnn.version", _first(_VERSION)),
    ("nccl", "NCCL_VERSION", _first(_VERSION)),
    ("nccl", "com.nvidia.nccl.version", _first(_VERSION)),
    ("torch", "PYTORCH_VERSION", _first(_BUILD)),
    ("torch", "PYTORCH_BUILD_VERSION", _first(_BUILD)),
    ("torch", "com.nvidia.pytorch.version", _first(_BUILD)),
    ("tensorflow", "TENSORFLOW_VERSION", _first(_BUILD)),
    ("tensorflow", "com.nvidia.tensorflow.version", _first(_BUILD)),
    ("driver_bundled", "CUDA_DRIVER_VERSION", _first(r"\A([0-9]{3}(?:\.[0-9]{1,3}){1,2})\Z")),
    ("torch_cuda_arch_list", "TORCH_CUDA_ARCH_LIST", _architectures),
)


def called(config: ImageConfig) -> tuple[Family, str] | None:
    """What an image says it is, ("pytorch", "26.07") or ("tensorflow", "22.03-tf1"); None for one that is not NVIDIA's."""
    for family, name in NAMES.items():
        if (said := config.env.get(name)) is not None and _TAG.fullmatch(said):
            return family, said
    return None


def drafted(family: Family, tag: str, *, day: str) -> Release | None:
    """A row that says no more than the tag of an image does; None for one that is no release's: "latest", "26.07-py3-igpu".

    Args:
        day: today, "2026-11-20": a release of a month that is still to come is none, so that no list of tags is endless.
    """
    if not re.fullmatch(rf"[0-9]{{2}}\.(?:0[1-9]|1[0-2]){_RELEASE_TAGS[family]}", tag) or tag[:5] > f"{day[2:4]}.{day[5:7]}":
        return None
    return Release(family=family, reference=f"{repository_of(family)}:{tag}", release=tag.partition("-")[0], as_of=day)


def repository_of(family: Family) -> str:
    """Where NVIDIA has its images."""
    return f"nvcr.io/nvidia/{family}"


def row_of(name: str, config: ImageConfig, catalog: Catalog) -> Release | None:
    """The row of an image: that of its name, or of what it says it is, for the same image may lie in a registry of one's own."""
    if (row := catalog.release_of(name)) is not None:
        return row
    said = called(config)
    return catalog.release_called(*said) if said is not None else None


def statements(config: ImageConfig, machines: Sequence[str] | None, row: Release | None) -> tuple[Statement, ...]:
    """What an image says of the fields of a row, in the row's order.

    Args:
        machines: those that its name has an image for; None where no registry was asked, which tells the compressed size, too.
        row: what it is held against; None holds it against nothing.
    """
    said: dict[str, Statement] = {}
    for one in _said(config, machines):
        said.setdefault(one.field, one)
    held = (_held(said[name], row) for name in Release.__struct_fields__ if name in said)
    return tuple(held)


def _said(config: ImageConfig, machines: Sequence[str] | None) -> Iterator[Statement]:
    if (name := called(config)) is not None:
        yield Statement(field="release", value=name[1].partition("-")[0], by=NAMES[name[0]])
    texts = {**config.labels, **config.env}
    for field, name_of_it, read in _SAYINGS:
        if (text := texts.get(name_of_it)) is not None and (value := read(text)) is not None:
            yield Statement(field=field, value=value, by=name_of_it)
    if machines:
        yield Statement(field="arches", value=tuple(machines), by="manifest")
        if config.size_bytes is not None and config.architecture == ARCHITECTURES[MACHINE]:
            yield Statement(field="pull_bytes", value=config.size_bytes, by="manifest")


def _held(said: Statement, row: Release | None) -> Statement:
    catalogued: FieldValue | None = getattr(row, said.field) if row is not None else None
    if catalogued in (None, ()):
        return said
    return replace(said, catalogued=catalogued, standing=_standing(said.field, said.value, catalogued))


def _standing(field: str, said: FieldValue, catalogued: FieldValue | None) -> Standing:
    if said == catalogued:
        return "as catalogued"
    if isinstance(said, tuple) and isinstance(catalogued, tuple):
        return "fills" if set(catalogued) < set(said) else "contradicts"
    if not isinstance(said, str) or not isinstance(catalogued, str):
        return "contradicts"
    if field == "torch" and torch_version.same_build(torch_version.read(said), torch_version.read(catalogued)):
        return "as catalogued"
    if f"{said}.".startswith(f"{catalogued}."):
        return "fills"
    return "as catalogued" if f"{catalogued}.".startswith(f"{said}.") else "contradicts"
