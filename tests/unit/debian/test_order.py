"""In which turns dpkg gets packages: never before what has to be there first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from envsnap.debian.order import turns
from envsnap.errors import InputError
from envsnap.model.debian import DebFile
from tests.unit.debian.conftest import Made, make


def ordered(packages: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """Name -> fields. Returns names by turn."""
    made = {name: make(name, fields=fields) for name, fields in packages.items()}
    files = [one.file for one in made.values()]
    return [[file.name for file in turn] for turn in turns(files, opening(made))]


def opening(made: Mapping[str, Made]):  # type: ignore[no-untyped-def]
    @contextmanager
    def open_deb(file: DebFile) -> Iterator[BinaryIO]:
        yield io.BytesIO(made[file.name].data)

    return open_deb


def test_most_go_in_one_turn_in_circles_too() -> None:
    assert ordered({"a": {"Depends": "b, libc6 (>= 2)"}, "b": {"Depends": "c | gone"}, "c": {"Depends": "a"}}) == [["a", "b", "c"]]


def test_what_is_pre_depended_on_comes_first_with_all_that_it_needs() -> None:
    found = ordered(
        {
            "app": {"Pre-Depends": "runtime (>= 1)"},
            "data": {},
            "helper": {"Pre-Depends": "setup"},
            "runtime": {"Depends": "helper"},
            "setup": {},
            "user": {"Depends": "app"},
        }
    )
    assert found == [["data", "setup"], ["helper", "runtime"], ["app", "user"]]


def test_what_provides_a_name_counts_as_it_and_a_package_does_not_wait_for_itself() -> None:
    assert ordered({"app": {"Pre-Depends": "awk"}, "mawk": {"Provides": "awk"}}) == [["mawk"], ["app"]]
    assert ordered({"own": {"Pre-Depends": "own-name", "Provides": "own-name"}}) == [["own"]]


def test_a_circle_of_pre_depends_ends_and_is_left_to_dpkg() -> None:
    assert sorted(name for turn in ordered({"a": {"Pre-Depends": "b"}, "b": {"Pre-Depends": "a"}}) for name in turn) == ["a", "b"]


def test_a_file_that_was_changed_is_refused() -> None:
    one = make("a")
    with pytest.raises(InputError, match="refused a"):
        turns([one.file], opening({"a": make("a", version="2")}))


def test_nothing_takes_no_turn() -> None:
    assert turns([], opening({})) == ()
