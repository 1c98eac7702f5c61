"""What relock changed."""

from __future__ import annotations

from typing import Any

from envsnap.model.lock import EnvLock
from envsnap.model.parity import Difference
from envsnap.report import diff, text


def changed(before: EnvLock, after: EnvLock) -> list[tuple[str, str, str]]:
    """Name, old and new version of each package that is another now."""
    versions = {package.name: package for package in before.packages}
    return [(new.name, versions[new.name].version, new.version) for new in after.packages if new != versions[new.name]]


def screen(
    before: EnvLock,
    after: EnvLock,
    path: str,
    differences: tuple[Difference, ...],
    conflicts: list[str],
    unknown: tuple[str, ...],
    *,
    written: bool,
    width: int = 120,
    full: bool = False,
) -> str:
    files = {package.name: package.file or "" for package in after.packages}
    lines = [f"{after.name}  ·  {text.plural(len(changed(before, after)), 'package')} changed"]
    lines += text.columns([(f"  {name}", old, "→", new, files[name]) for name, old, new in changed(before, after)])
    if before.observed.reference is not None:
        lines.append("  the smoke-train of the capture no longer speaks for it: train where it runs, and capture --smoke")
    lines += [f"  ! {conflict}" for conflict in conflicts]
    if unknown:
        lines.append(f"  what {text.listed(unknown)} {'requires' if len(unknown) == 1 else 'require'} is not known, and was not checked")
    lines += ["", *diff.screen(differences, "before", "after", width=width, full=full).splitlines(), ""]
    if written:
        lines.append(f"wrote {path}   {text.short(after.digest)}              next: envsnap build {path}")
    else:
        lines.append(f"would write {path}   {text.short(after.digest)}              next: the same without --dry-run")
    return "\n".join(lines)


def document(
    before: EnvLock,
    after: EnvLock,
    path: str,
    differences: tuple[Difference, ...],
    conflicts: list[str],
    unknown: tuple[str, ...],
    *,
    written: bool,
) -> dict[str, Any]:
    """Whether or not it is `written`, "digest" is the new lock's."""
    return {
        "lock": path,
        "written": written,
        "digest": after.digest,
        "changed": [{"name": name, "from": old, "to": new} for name, old, new in changed(before, after)],
        "differences": diff.document(differences)["differences"],
        "conflicts": conflicts,
        "unknown": list(unknown),
    }
