"""What a capture tells a person to do, in order of weight, folded and aligned."""

from __future__ import annotations

import re

from msgspec.structs import replace

from envsnap.model.facts import Problem
from envsnap.model.lock import EnvLock
from envsnap.model.origins import SystemOrigin, UnknownOrigin
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
        Trouble(
            "lost 1 is unproven: no index has it", "capture … --rescue lost keeps what is installed;   or build … --allow-unproven lost"
        ),
        Trouble("two runtimes", "keep one"),
        Trouble("broken does not import here: ImportError: libX", "an image is not asked to import it either"),
        Trouble("edited 1: files were edited after it was installed: x.py", "rebuilt as a wheel, edits included"),
        Trouble("an oddity"),
    ]


def test_what_no_image_can_have_of_the_system_is_told_at_once() -> None:
    origin = SystemOrigin(package="python3-p", version="1-1", arch="all", files=samples.digest("p"))
    many = [replace(samples.index_package(f"p{number}", "1"), provenance="system", origin=origin) for number in range(6)]
    assert troubles.troubles(lock_with(packages=tuple(many[:2]))) == [
        Trouble(
            "2 packages (p0 1, p1 1) are the operating system's, of which no wheel is to be had",
            "capture … --rescue p0 --rescue p1 keeps what is installed;   "
            "or build … --allow-unproven p0 --allow-unproven p1 leaves them out",
        )
    ]
    way_out = troubles.troubles(lock_with(packages=tuple(many)))[0].do
    assert way_out == "capture … --rescue all keeps what is installed;   or build … --allow-unproven all leaves them out"


def test_packages_that_share_a_reason_share_a_line() -> None:
    offline = UnknownOrigin(reason="offline")
    names = [f"p{number:02}" for number in range(9)]
    many = tuple(replace(samples.index_package(name, "1"), provenance="unproven", origin=offline) for name in names)
    assert troubles.troubles(lock_with(packages=many)) == [
        Trouble(
            "9 packages (p00 1, p01 1, p02 1, p03 1, p04 1 and 4 more) are unproven: offline",
            "capture … --rescue all keeps what is installed;   or build … --allow-unproven all",
        )
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
    assert len(lines) == 15 and lines[-1] == "  and 26 more: -v lists all of them"
    assert len(troubles.lines([Trouble(f"trouble {number}") for number in range(40)], full=True)) == 40


def test_packages_with_a_reason_each_are_told_one_by_one_up_to_a_point() -> None:
    names = [f"p{number:02}" for number in range(12)]
    rebuilt = tuple(replace(samples.index_package(name, "1"), provenance="rebuilt", modified=("x.py",)) for name in names)
    problems = [Problem(where=f"packages.{name}", what=f"rebuilt from what is installed: {name}/x.py was edited") for name in names]
    lock = lock_with(*problems, packages=rebuilt)
    found = troubles.troubles(lock, full=False)
    assert [trouble.what for trouble in found[:3]] == [f"{name} 1: {name}/x.py was edited" for name in names[:3]]
    assert found[3].what == (
        "9 more (p03 1, p04 1, p05 1, p06 1, p07 1 and 4 more) are not what an index has, each for a reason of its own, which -v tells"
    )
    assert len(found) == 4 and len(troubles.troubles(lock)) == 12


def test_why_no_wheel_could_be_made_is_not_lost_and_making_one_is_not_advised() -> None:
    package = replace(samples.index_package("lost", "1"), provenance="unproven", origin=UnknownOrigin(reason="no index has it"))
    found = troubles.troubles(lock_with(Problem(where="packages.lost", what="cannot be packed: x.so is missing"), packages=(package,)))
    assert found == [Trouble("lost 1 is unproven: no index has it; cannot be packed: x.so is missing", "build … --allow-unproven lost")]


def test_what_is_wrong_weighs_by_its_kind_wherever_it_was_said() -> None:
    wheres = ("nvml gpu0", "path", "six-1.16.0.dist-info/METADATA", "/site/~orch", "env.TOKEN", "source", "smoke", "torch", "cuda")
    found = troubles.troubles(lock_with(*(Problem(where=where, what=f"is wrong ({where})") for where in wheres), packages=()))
    told = [re.sub(r".*\((.*)\)", r"\1", trouble.what) for trouble in found]
    assert told == ["cuda", "torch", "smoke", "source", "env.TOKEN", "/site/~orch", "six-1.16.0.dist-info/METADATA", "path", "nvml gpu0"]
    advised = {word: trouble.do for word, trouble in zip(told, found, strict=True)}
    assert "reinstall" in advised["six-1.16.0.dist-info/METADATA"] and "delete" in advised["/site/~orch"]
    assert "capture --smoke again" in advised["smoke"]


def test_of_two_with_one_name_neither_is_advised_to_be_reinstalled() -> None:
    hidden = Problem(where="/site/torch-2.7.0.dist-info", what="torch 2.7.0 is hidden by 2.11.0 in /opt/extra")
    found = troubles.troubles(lock_with(hidden, packages=()))
    assert found == [Trouble("torch 2.7.0 is hidden by 2.11.0 in /opt/extra", "uninstall the one that is not meant, and capture again")]


def test_a_hint_of_the_problem_itself_comes_before_that_of_its_kind() -> None:
    (found,) = troubles.troubles(lock_with(Problem(where="smoke", what="failed", hint="do this"), packages=()))
    assert found == Trouble("smoke: failed", "do this")
