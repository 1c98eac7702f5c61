"""What a capture tells a person to do, in order of weight, folded and aligned."""

from __future__ import annotations

from msgspec.structs import replace

from envsnap.model.facts import Problem
from envsnap.model.lock import EnvLock, UnknownOrigin
from envsnap.report import troubles
from envsnap.report.troubles import Trouble
from tests import samples

LOCK = samples.lock()


def lock_with(*problems: Problem, **changes: object) -> EnvLock:
    lock = replace(LOCK, capture=replace(LOCK.capture, problems=problems))
    return replace(lock, **changes) if changes else lock


def test_the_gravest_comes_first() -> None:
    packages = (
        replace(samples.index_package("edited", "1"), provenance="rebuilt", modified=("x.py",)),
        replace(samples.index_package("lost", "1"), provenance="unproven", origin=UnknownOrigin(reason="no index has it")),
    )
    problems = (
        Problem(where="path", what="an oddity"),
        Problem(where="packages.edited", what="rebuilt from what is installed: files were edited after it was installed: x.py"),
        Problem(where="cuda", what="two runtimes", hint="keep one"),
    )
    observed = replace(LOCK.observed, imports_failed={"broken": "ImportError: libX"})
    found = troubles.troubles(lock_with(*problems, packages=packages, observed=observed))
    assert found == [
        Trouble("lost 1 is unproven: no index has it", "build … --allow-unproven lost"),
        Trouble("two runtimes", "keep one"),
        Trouble("broken does not import here: ImportError: libX", "an image is not asked to import it either"),
        Trouble("edited 1: files were edited after it was installed: x.py", "rebuilt as a wheel from what is installed, edits included"),
        Trouble("path: an oddity"),
    ]


def test_packages_that_share_a_reason_share_a_line() -> None:
    offline = UnknownOrigin(reason="offline")
    names = [f"p{number:02}" for number in range(9)]
    many = tuple(replace(samples.index_package(name, "1"), provenance="unproven", origin=offline) for name in names)
    assert troubles.troubles(lock_with(packages=many)) == [
        Trouble("9 packages (p00 1, p01 1, p02 1 and 6 more) are unproven: offline", "build … --allow-unproven all")
    ]


def test_what_to_do_stands_beside_or_below_and_never_leaves_the_screen() -> None:
    found = [Trouble("short", "do this"), Trouble("a bit longer", "do that"), Trouble("x" * 110, "and this"), Trouble("alone")]
    assert troubles.lines(found) == [
        "  ! short           do this",
        "  ! a bit longer    do that",
        f"  ! {'x' * 110}",
        "      and this",
        "  ! alone",
    ]


def test_of_very_many_the_first_are_shown() -> None:
    lines = troubles.lines([Trouble(f"trouble {number}") for number in range(40)])
    assert len(lines) == 15 and lines[-1] == "  and 26 more: --json lists all of them"
