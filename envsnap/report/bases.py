"""What is known of base images, as screens and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from envsnap.model.base import BaseInventory, Family, FieldValue, Inspected, Release, Remembered, Statement
from envsnap.model.catalog import TorchWheel
from envsnap.model.refreshed import Refreshed
from envsnap.report.text import columns, labelled, listed, plural, short, size, wrapped

_TITLES: Mapping[Family, str] = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "paddlepaddle": "PaddlePaddle"}


def list_screen(
    releases: Sequence[Release], wheels: Sequence[TorchWheel], inventories: Sequence[Remembered], floors: Mapping[str, str]
) -> str:
    """Args: floors: reference of a release -> the oldest driver that runs it, where that is known."""
    lines: list[str] = []
    for family, title in _TITLES.items():
        rows = [
            (r.reference, r.python or "-", r.cuda or "-", r.framework or "-", floors.get(r.reference, "-"))
            for r in releases
            if r.family == family
        ]
        lines += [*columns([(f"NGC {title}", "Python", "CUDA", title, "driver ≥"), *rows]), ""] if rows else []
    if wheels:
        of_index = [(wheel.torch, wheel.cuda, wheel.torchvision) for wheel in wheels]
        lines += [*columns([("torch of the index", "CUDA", "torchvision"), *of_index]), ""]
    if inventories:
        own = [(one.reference, one.inventory.python or "-", one.inventory.distribution, _depth(one.inventory)) for one in inventories]
        lines += [*columns([("known here", "Python", "system", ""), *own]), ""]
    counted = f"{plural(len(releases), 'release')} in the catalogue, {len(inventories)} looked into here"
    return "\n".join([*lines, f"{counted}              next: envsnap bases show REF"])


def list_document(releases: Sequence[Release], wheels: Sequence[TorchWheel], inventories: Sequence[Remembered]) -> dict[str, Any]:
    return {
        "releases": [msgspec.to_builtins(release) for release in releases],
        "torch_wheels": [msgspec.to_builtins(wheel) for wheel in wheels],
        "inventories": [_short(one) for one in inventories],
    }


def show_screen(releases: Sequence[Release], width: int) -> str:
    """Rows of the catalogue, each value with its evidence."""
    return "\n\n".join(_row_screen(release, width) for release in releases)


def _row_screen(release: Release, width: int) -> str:
    values = [
        (name, _shown(name, value), release.evidence_for(name) or "") for name, value in release.values.items() if name != "reference"
    ]
    lines = [f"{release.reference}  ·  as of {release.as_of}", *_table(values, width), ""]
    more = [("sources", source) for source in release.sources] + [("beware", note) for note in release.notes]
    more += [("cross-checked", release.cross_checked)] if release.cross_checked else []
    labels = [label for label, _ in more]
    once = [("" if number and labels[number - 1] == label else label, text) for number, (label, text) in enumerate(more)]
    return "\n".join([*lines, *labelled(once, width)])


def show_document(releases: Sequence[Release]) -> dict[str, Any]:
    return {
        "releases": [
            {
                **msgspec.to_builtins(release),
                "values": {
                    name: {"value": msgspec.to_builtins(value), "evidence": release.evidence_for(name)}
                    for name, value in release.values.items()
                },
            }
            for release in releases
        ]
    }


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
    against = _against_catalogue(seen)
    if inventory is None:
        hint = f"nobody looked inside              next: envsnap bases inspect {seen.reference} --deep"
        return "\n".join([*columns(rows), "", *against, hint])
    rows += [
        ("system", ", ".join(filter(None, (inventory.distribution, inventory.libc))) or "not known"),
        ("Python", f"{inventory.python} at {inventory.python_path}" if inventory.python else "none on its PATH"),
        ("libraries", f"{len(inventory.sonames):,} that its loader finds"),
    ]
    if not inventory.complete:
        return "\n".join(
            [*columns(rows), "", *against, f"not all was read              next: envsnap bases inspect {seen.reference} --deep"]
        )
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
    return "\n".join([*columns(rows), "", *against, f"known for every image with config {short(seen.config_digest)}"])


def document(seen: Inspected) -> dict[str, Any]:
    return {
        "reference": seen.reference,
        "digest": seen.digest,
        "config_digest": seen.config_digest,
        "config": msgspec.to_builtins(seen.config),
        "release": msgspec.to_builtins(seen.release) if seen.release is not None else None,
        "statements": list(map(_statement, seen.statements)),
        "inventory": msgspec.to_builtins(seen.inventory) if seen.inventory is not None else None,
    }


def refreshed_summary(found: Refreshed) -> list[str]:
    """What was found, a line each: what was skipped, what is contradicted, and how much that was of all."""
    lines = [f"skipped {one.reference}: {one.why}" for one in found.skipped]
    lines += [
        f"! {image.reference}: {one.field} is {_shown(one.field, one.value)} ({one.by}); "
        f"the catalogue says {_shown(one.field, one.catalogued)}"
        for image in found.asked
        for one in image.statements
        if one.standing == "contradicts"
    ]
    standings = Counter(one.standing for image in found.asked if image.row is not None for one in image.statements)
    new = sum(image.row is None for image in found.asked)
    counted = [
        f"{plural(len(found.asked), 'image')} told of",
        *([f"{len(found.skipped)} skipped"] if found.skipped else []),
        *([plural(new, "new row")] if new else []),
        f"{plural(standings['as catalogued'], 'value')} as catalogued",
        f"{standings['fills']} filled",
        f"{standings['contradicts']} contradicted",
    ]
    return [*lines, f"{', '.join(counted)}{'' if found.diff else ': nothing to change'}"]


def refreshed_screen(found: Refreshed, file: str | None) -> str:
    """The diff and nothing else, so that it can be piped; or where it was written."""
    if file is None:
        return found.diff.rstrip("\n")
    changed = sum(image.proposed != image.row for image in found.asked)
    return f"wrote {file}   {plural(changed, 'row')} to change              next: git apply {file}"


def refreshed_document(found: Refreshed, file: str | None) -> dict[str, Any]:
    return {
        "diff": found.diff,
        "file": file,
        "images": [
            {
                "reference": image.reference,
                "digest": image.digest,
                "row": image.row.reference if image.row is not None else None,
                "proposed": msgspec.to_builtins(image.proposed) if image.proposed != image.row else None,
                "statements": list(map(_statement, image.statements)),
            }
            for image in found.asked
        ],
        "skipped": [{"reference": one.reference, "why": one.why} for one in found.skipped],
    }


def _against_catalogue(seen: Inspected) -> list[str]:
    """What an image of NVIDIA's says of itself, held against its row: contradictions begin with "!"."""
    if not seen.statements:
        return []
    row = seen.release
    if row is None:
        said = [("  ", one.field, _shown(one.field, one.value), f"({one.by})") for one in seen.statements]
        head = f"the catalogue has no row for it: envsnap bases refresh {seen.reference}   proposes one"
        return [head, *columns(said, indent=""), ""]
    lines = [
        ("! " if one.standing == "contradicts" else "  ", one.field, _shown(one.field, one.value), _against(one), f"({one.by})")
        for one in seen.statements
    ]
    told = {one.field for one in seen.statements}
    silent = [name for name in row.values if name not in told and name not in ("reference", "size_on_disk_gb")]
    rest = [f"  it does not say: {', '.join(silent)}"] if silent else []
    return [f"against the catalogue's {row.reference}, as of {row.as_of}", *columns(lines, indent=""), *rest, ""]


def _against(one: Statement) -> str:
    if one.catalogued is None or one.standing == "as catalogued":
        return one.standing
    return f"{one.standing} {_shown(one.field, one.catalogued)}"


def _statement(one: Statement) -> dict[str, Any]:
    return {
        "field": one.field,
        "value": msgspec.to_builtins(one.value),
        "by": one.by,
        "catalogued": msgspec.to_builtins(one.catalogued),
        "standing": one.standing,
    }


def _shown(field: str, value: FieldValue | None) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, int):
        return size(value) if field.endswith("_bytes") else str(value)
    return value if value is not None else "nothing"


def _table(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    """Three columns, the last of which goes on below itself."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines: list[str] = []
    for name, value, text in rows:
        head = f"  {name.ljust(first)}  {value.ljust(second)}  "
        lines += wrapped(text, width, first=head, rest=" " * len(head)) or [head.rstrip()]
    return lines


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
