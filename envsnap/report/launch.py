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
    return {"format": form, "image": image, **_file(place, text), "warnings": list(warnings)}


def exported_lock(
    form: str, lock: str, digest: str, place: Path | None, text: str, wheels: Sequence[Path], warnings: Sequence[str]
) -> dict[str, Any]:
    """Args: place: as of `exported`. wheels: those that were put beside it."""
    beside = [str(path) for path in wheels]
    return {"format": form, "lock": lock, "lock_digest": digest, **_file(place, text), "wheels": beside, "warnings": list(warnings)}


def _file(place: Path | None, text: str) -> dict[str, Any]:
    return {"file": str(place)} if place is not None else {"file": None, "text": text}


def written(place: Path, wheels: int = 0) -> str:
    """Args: wheels: how many were put beside it."""
    beside = f", and {wheels} wheel{'s' if wheels > 1 else ''} beside it" if wheels else ""
    return f"wrote {place}{beside}"
