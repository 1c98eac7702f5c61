"""What brought a package in: the shortest way, however many ways and packages there are."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from envsnap.lockfile import chains
from envsnap.lockfile.chains import Chains
from envsnap.model.facts import Distribution


def distribution(name: str, *requires: str, requested: bool = False) -> Distribution:
    return Distribution(name=name, version="1.0", metadata_dir="", location="/x", requires=requires, requested=requested)


def test_the_shortest_way_also_around_in_circles() -> None:
    installed = Chains(
        [
            distribution("far", "long", requested=True),
            distribution("long", "longer"),
            distribution("longer", "wants", "long"),
            distribution("near", "Wants>=1", requested=True),
            distribution("wants", "six>=2", "longer"),
            distribution("alone", "six<1", "gone"),
            distribution("content", "six", "six==1.*"),
        ]
    )
    assert installed.required_by("six", "1.0") == ("alone 1.0: six<1", "near 1.0 > wants 1.0: six>=2")
    assert installed.required_by("nobody", "1.0") == ()


def test_thousands_of_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def read(line: str) -> Requirement:
        lines.append(line)
        return Requirement(line)

    monkeypatch.setattr(chains, "Requirement", read)
    count = 3000
    others = [distribution(f"p{n}", f"p{2 * n}", f"p{2 * n + 1}", "six>=2") for n in range(2, count)]
    installed = Chains([distribution("p1", "p2", "p3", requested=True), *others])
    said = installed.required_by("six", "1.0")
    assert len(said) == count - 2 and "p1 1.0 > p2 1.0 > p4 1.0 > p9 1.0: six>=2" in said
    assert installed.required_by("p2", "0.1") == ()
    assert len(lines) == 2 + 3 * (count - 2)
