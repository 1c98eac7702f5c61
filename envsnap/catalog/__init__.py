"""Reviewed knowledge as data: `load()` reads it strictly, once per process."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import msgspec

from envsnap.catalog import rows
from envsnap.model.catalog import Assembled, Catalog, Drivers, Libraries, Protected, Slim, TorchWheels, VariableRule
from envsnap.model.gpus import Gpus

T = TypeVar("T")


@cache
def load() -> Catalog:
    """The catalogue. A malformed data file is a bug of ours and raises `msgspec.ValidationError`."""
    return Catalog(
        releases=tuple(release for family in rows.FAMILIES for release in rows.read(family)),
        torch_wheels=_file("torch-wheels", TorchWheels),
        drivers=_file("cuda-drivers", Drivers),
        gpus=_file("gpus", Gpus),
        variables=_table("variables", "variables", tuple[VariableRule, ...]),
        libraries=_file("sonames", Libraries),
        slim=_table("slim", "slim", Slim),
        protected=_table("protected", "protected", tuple[Protected, ...]),
        assembled=_table("slim", "assembled", dict[str, Assembled]),
    )


def _file(name: str, kind: type[T]) -> T:
    data = (files(__name__) / "data" / f"{name}.yaml").read_bytes()
    return msgspec.yaml.decode(data, type=kind)


def _table(name: str, key: str, kind: type[T]) -> T:
    document = _file(name, dict[str, Any])
    return msgspec.convert(document[key], kind)
