"""Numbers of running work, as people read them."""

from __future__ import annotations

from envsnap.progress import Unit


def amount(number: float, unit: Unit) -> str:
    """A number with its unit: "12.3 MB", "1,204 files"."""
    if unit != "bytes":
        return f"{number:,} {unit}"
    for name in ("B", "kB", "MB", "GB"):
        if number < 1000 or name == "GB":
            return f"{number:.0f} {name}" if name == "B" else f"{number:.1f} {name}"
        number /= 1000
    raise AssertionError("unreachable")


def part(done: int, total: int | None, unit: Unit) -> str:
    """How much of what: "12.3 MB of 1.2 GB", "5 of 6 steps"; what is done alone where the total is unknown (None or 0)."""
    if not total:
        return amount(done, unit)
    return f"{amount(done, unit) if unit == 'bytes' else f'{done:,}'} of {amount(total, unit)}"


def duration(seconds: float) -> str:
    """A time that is left: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
