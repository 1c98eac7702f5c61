"""Commits that are not at hand: whom they are fetched from, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.errors import InputError
from envsnap.probes.fetch import find_repository
from envsnap.progress import Silent
from tests import samples


class Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("remote", "why"),
    [(None, "without a remote"), ("ext::sh -c evil", "is not an https, ssh, git or file address")],
)
def test_nothing_is_said_to_be_fetched_where_nobody_is_asked(tmp_path: Path, remote: str | None, why: str) -> None:
    found = samples.lock().source
    assert found is not None
    listener = Listener()
    with pytest.raises(InputError, match="is not at hand") as failed:
        find_repository(replace(found, remote=remote, submodules=()), [], tmp_path, listener)
    assert why in failed.value.why and not listener.notes


def test_whom_a_commit_is_fetched_from_is_said_without_its_login(tmp_path: Path) -> None:
    found = samples.lock().source
    assert found is not None
    listener = Listener()
    with pytest.raises(InputError):
        find_repository(replace(found, remote=(tmp_path / "gone").as_uri(), submodules=()), [], tmp_path, listener)
    assert listener.notes == [f"fetching {str(found.commit)[:12]} from {(tmp_path / 'gone').as_uri()}"]
