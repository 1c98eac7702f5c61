"""How an image is run, as documents of run and export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envsnap.model.launch import Launch


def document(launch: Launch, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "argv": list(argv),
        "image": launch.image,
        "gpus": str(launch.gpus) if launch.gpus is not None else "none",
        "user": launch.user or None,
        "mounts": [{"source": one.source, "target": one.target, "read_only": one.read_only} for one in launch.mounts],
        "passed": [one.name for one in launch.env if one.value is None],
    }


def exported(form: str, image: str, place: Path | None, text: str, warnings: Sequence[str]) -> dict[str, Any]:
    """Args: place: None where the text is the answer."""
    file = {"file": str(place)} if place is not None else {"file": None, "text": text}
    return {"format": form, "image": image, **file, "warnings": list(warnings)}


def written(place: Path) -> str:
    return f"wrote {place}"
