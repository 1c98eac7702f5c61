"""What is remembered is what was written, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from envsnap.notes import read_note, write_note


class Fact(msgspec.Struct):
    digest: str
    size: int


def test_what_was_remembered_is_what_was_written_or_nothing(tmp_path: Path) -> None:
    note = tmp_path / "notes/a.json"
    assert read_note(note, Fact) is None
    write_note(note, Fact(digest="abc", size=1))
    assert read_note(note, Fact) == Fact(digest="abc", size=1)
    whole = note.read_bytes()
    assert json.loads(whole)["of"] == {"digest": "abc", "size": 1}
    (tmp_path / "notes/b.json").write_bytes(whole)  # one thing's, under another's name
    assert read_note(tmp_path / "notes/b.json", Fact) is None
    for other in (
        b"",
        whole[:-3],
        whole.replace(b"abc", b"abd"),
        whole.replace(b"1", b"2", 1),
        whole.replace(b"abc", b"a\xffc"),
        b"\xff" * 10,
        b"{}",
    ):
        note.write_bytes(other)
        assert read_note(note, Fact) is None, other
