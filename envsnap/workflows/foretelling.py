"""What was foretold of images and their layers, kept until an image is made: then it is held against that.

A layer that was told from installed files (`workflows.installed`) is known by its diff_id alone, and rests on what an index said of a wheel
that nobody has hashed. So it is kept apart from the layers that were made, and is no answer for anything but another foretelling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from envsnap.errors import EngineError
from envsnap.model.kinds import Digest
from envsnap.notes import read_note, write_note
from envsnap.oci.image import Image
from envsnap.plan.layers import own_recipe, title
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.workflows.prepare import Prepared, wheels_of

Source = Literal["layers", "installed files"]


class _Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    config: Digest
    told_from: Source


class _Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    diff_id: Digest


def keep_layer(name: str, diff_id: str, cache: Path) -> None:
    """Args: name: `plan.layers.own_recipe`. Raises TargetError: the cache cannot be written."""
    write_note(_place(name, cache), _Layer(diff_id=diff_id))


def layer(name: str, cache: Path) -> str | None:
    """The diff_id that was told; None where none was."""
    kept = read_note(_place(name, cache), _Layer)
    return kept.diff_id if kept is not None else None


def keep(prepared: Prepared, config: str, told_from: Source, cache: Path) -> None:
    """Raises TargetError: the cache cannot be written."""
    write_note(_place(prepared.identity, cache), _Image(config=config, told_from=told_from))


def hold(prepared: Prepared, image: Image, cache: Path) -> None:
    """Hold an image against what was told of it. What proved wrong is forgotten: it is told once.

    Raises:
        EngineError: it is another one.
    """
    kept = read_note(_place(prepared.identity, cache), _Image)
    if kept is None or kept.config == image.config.digest:
        return
    layers = prepared.layers.layers
    names = [own_recipe(one, prepared.layers.layout) for one in layers]
    diff_ids = image.config.diff_ids[-len(layers) :]
    told = [layer(name, cache) for name in names]
    wrong = [title(one) for one, was, is_ in zip(layers, told, diff_ids, strict=True) if was not in (None, is_)]
    for name in (prepared.identity, *names):
        _place(name, cache).unlink(missing_ok=True)
    why = f"{image.config.digest[:19]} was made, {kept.config[:19]} was foretold{': ' + wrong[0] if wrong else ''}"
    if kept.told_from == "layers":
        raise EngineError("the image is not the one that was foretold", why=why, hint="a fault of envsnap's: please report it")
    ends = WheelEnds(cache)
    for wheel in wheels_of(prepared.layers):
        ends.forget(wheel.sha256)
    raise EngineError(
        "the image is not the one that was foretold from the installed files",
        why=f"{why}; what an index said of a wheel's files at the capture is not what is in that wheel",
        hint="the wheels that were fetched have the lock's hashes: build again goes by them alone",
    )


def _place(name: str, cache: Path) -> Path:
    return cache / "foretold" / f"{name}.json"
