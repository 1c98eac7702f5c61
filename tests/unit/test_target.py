"""Where a guest script runs."""

from __future__ import annotations

from pathlib import Path

from envsnap.target import fill


def test_places_are_filled_in_and_other_braces_stay() -> None:
    assert fill("{out}/x {manifest} {other} {}", {"out": Path("/o"), "manifest": "/m.json"}) == "/o/x /m.json {other} {}"


def test_a_place_is_not_read_again() -> None:
    assert fill("{out} {in}", {"out": "/{in}", "in": "/{out}"}) == "/{in} /{out}"
