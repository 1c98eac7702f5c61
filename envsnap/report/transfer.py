"""Moved images as screens and documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envsnap.model.transfer import Landed, MovedImage, Saved, Sent
from envsnap.report.text import WIDTH, labelled, plural, short, size


def pushed_screen(image: MovedImage, sent: Sequence[Sent]) -> str:
    rows = [(one.reference, f"{short(one.digest)}   {size(one.uploaded_bytes)} uploaded") for one in sent]
    return _screen(image, rows, f"pushed {', '.join(one.reference for one in sent)}")


def pushed_document(image: MovedImage, sent: Sequence[Sent]) -> dict[str, Any]:
    pushed = [{"reference": one.reference, "digest": one.digest, "uploaded_bytes": one.uploaded_bytes} for one in sent]
    return {"image": _document(image), "pushed": pushed}


def pulled_screen(image: MovedImage, to: str) -> str:
    return _screen(image, [], _arrived(f"pulled {image.reference}", to, image.reference))


def pulled_document(image: MovedImage, to: str) -> dict[str, Any]:
    return {"image": _document(image), "to": to}


def saved_screen(image: MovedImage, saved: Saved) -> str:
    what = "all layers" if saved.with_base else "without the base's layers: it can be loaded where those are, or can be fetched"
    return _screen(image, [("form", saved.form), ("holds", what)], f"wrote {saved.place}   {size(saved.bytes)}")


def saved_document(image: MovedImage, saved: Saved) -> dict[str, Any]:
    file = {"file": saved.place, "format": saved.form, "with_base": saved.with_base, "bytes": saved.bytes}
    return {"image": _document(image), **file}


def loaded_screen(image: MovedImage, landed: Landed) -> str:
    names = [("names", ", ".join(landed.names) or "none")]
    return _screen(image, names, _arrived("loaded", landed.to, landed.names[0] if landed.names else ""))


def loaded_document(image: MovedImage, landed: Landed) -> dict[str, Any]:
    return {"image": _document(image), "to": landed.to, "tags": list(landed.names)}


def _arrived(what: str, to: str, name: str) -> str:
    """Where an image went: "engine", "cache" or a directory; and what can be asked of it there."""
    place = {"engine": "the engine", "cache": "envsnap's own store"}.get(to)
    return f"{what} into {place or to}" + (f"              next: envsnap verify {name}" if place and name else "")


def _screen(image: MovedImage, rows: Sequence[tuple[str, str]], last: str) -> str:
    about = [("image", f"{short(image.config_digest)}   {plural(image.layers, 'layer')}, {size(image.size_bytes)}"), *rows]
    return "\n".join([*labelled(about, WIDTH), "", last])


def _document(image: MovedImage) -> dict[str, Any]:
    return {
        "reference": image.reference or None,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.config_digest,
        "size_bytes": image.size_bytes,
        "layers": image.layers,
    }
