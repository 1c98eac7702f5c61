"""What is known of base images, as screens and documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.base import BaseInventory, Inspected, Release, Remembered
from envsnap.report.text import columns, listed, plural, short, size


def list_screen(releases: Sequence[Release], inventories: Sequence[Remembered]) -> str:
    head = ("catalogue", "Python", "CUDA", "torch", "driver ≥")
    rows = [(r.reference, r.python or "-", r.cuda or "-", r.torch or "-", r.driver_branch_min or "-") for r in releases]
    lines = columns([head, *rows])
    if inventories:
        own = [(one.reference, one.inventory.python or "-", one.inventory.distribution, _depth(one.inventory)) for one in inventories]
        lines += ["", *columns([("known here", "Python", "system", ""), *own])]
    return "\n".join([*lines, "", f"{plural(len(releases), 'release')} in the catalogue, {len(inventories)} looked into here"])


def list_document(releases: Sequence[Release], inventories: Sequence[Remembered]) -> dict[str, Any]:
    return {"releases": [msgspec.to_builtins(release) for release in releases], "inventories": [_short(one) for one in inventories]}


def screen(seen: Inspected) -> str:
    config = seen.config
    rows = [
        ("image", seen.reference),
        ("digest", seen.digest or "none: only an engine has it"),
        ("config", seen.config_digest),
        ("for", f"{config.os}/{config.architecture}, {size(config.size_bytes)}"),
        ("starts", " ".join((*config.entrypoint, *config.cmd)) or "nothing by itself"),
        ("variables", str(len(config.env))),
    ]
    inventory = seen.inventory
    if inventory is None:
        return "\n".join([*columns(rows), "", f"nobody looked inside              next: envsnap bases inspect {seen.reference} --deep"])
    rows += [
        ("system", ", ".join(filter(None, (inventory.distribution, inventory.libc))) or "not known"),
        ("Python", f"{inventory.python} at {inventory.python_path}" if inventory.python else "none on its PATH"),
        ("libraries", f"{len(inventory.sonames):,} that its loader finds"),
    ]
    if not inventory.complete:
        return "\n".join([*columns(rows), "", f"not all was read              next: envsnap bases inspect {seen.reference} --deep"])
    named = [f"{package.name} {package.version}" for package in inventory.packages]
    kept = [
        f"{path or '/'} {directory.mode:04o} {directory.uid}:{directory.gid}" for path, directory in sorted(inventory.directories.items())
    ]
    rows += [
        ("packages", f"{len(named)} of Python{': ' if named else ''}{listed(named)}"),
        ("", f"{len(inventory.system_packages)} of dpkg" if inventory.dpkg_status else "no database of dpkg"),
        ("directories", f"{len(kept)} that are not 0755 of root{': ' if kept else ''}{listed(kept)}"),
        ("links", f"{len(inventory.links)} that stand for directories"),
        ("interpreter", "kept: it runs here without the image" if inventory.interpreter else "not kept: it needs what is not in the image"),
    ]
    return "\n".join([*columns(rows), "", f"known for every image with config {short(seen.config_digest)}"])


def document(seen: Inspected) -> dict[str, Any]:
    return {
        "reference": seen.reference,
        "digest": seen.digest,
        "config_digest": seen.config_digest,
        "config": msgspec.to_builtins(seen.config),
        "release": msgspec.to_builtins(seen.release) if seen.release is not None else None,
        "inventory": msgspec.to_builtins(seen.inventory) if seen.inventory is not None else None,
    }


def exported_screen(given: Remembered, file: str, size_bytes: int) -> str:
    rows = [("image", given.reference), ("config", given.config), ("holds", _summary(given.inventory))]
    return "\n".join([*columns(rows), "", f"wrote {file}   {size(size_bytes)}              next: envsnap bases import {file}"])


def exported_document(given: Remembered, file: str) -> dict[str, Any]:
    return {**_short(given), "file": file}


def imported_screen(taken: Sequence[Remembered]) -> str:
    rows = [(one.reference, short(one.config), _summary(one.inventory)) for one in taken]
    return "\n".join([*columns(rows), "", f"{plural(len(taken), 'base')} known here now, as far as whoever made the files is believed"])


def imported_document(taken: Sequence[Remembered]) -> dict[str, Any]:
    return {"inventories": [_short(one) for one in taken]}


def _short(one: Remembered) -> dict[str, Any]:
    inventory = one.inventory
    return {
        "reference": one.reference,
        "config_digest": one.config,
        "digest": one.digest,
        "complete": inventory.complete,
        "distribution": inventory.distribution,
        "python": inventory.python,
    }


def _summary(inventory: BaseInventory) -> str:
    python = f"Python {inventory.python}" if inventory.python else "no Python"
    counted = f"{plural(len(inventory.packages), 'package')} of it, {len(inventory.system_packages)} of dpkg"
    return ", ".join(filter(None, (inventory.distribution, python, counted)))


def _depth(inventory: BaseInventory) -> str:
    return "all read" if inventory.complete else "seen by a shell"
