"""A tree that a lock keeps: what comes of it, what is refused, and what conda's packages are held against."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping

import pytest

from envsnap.errors import InputError
from envsnap.guest.conda import parse_record
from envsnap.layers.kept import read_modules, write_kept
from envsnap.layers.writer import LayerWriter
from tests.fakes import tars

TOP = "opt/envsnap/env"
TEXT, PROGRAM = b"below /opt/envsnap/env\n", bytes(range(256)) * 2000
NAME = "demo-1.0-0"


def record(name: str = "demo", packaged: str = "a" * 64) -> bytes:
    lines = [
        {"_path": "share/a.txt", "path_type": "hardlink", "sha256": packaged, "sha256_in_prefix": hashlib.sha256(TEXT).hexdigest()},
        {"_path": "bin/program", "path_type": "hardlink", "sha256": hashlib.sha256(PROGRAM).hexdigest()},
        {"_path": "bin/link", "path_type": "softlink"},
        {"_path": "lib/empty", "path_type": "directory"},
    ]
    return json.dumps({"name": name, "version": "1.0", "build": "0", "paths_data": {"paths": lines}}).encode()


FILES: Mapping[str, bytes | str | None] = {
    "bin/link": "program",
    "bin/program": PROGRAM,
    "conda-meta/history": b"",
    f"conda-meta/{NAME}.json": record(),
    "lib/empty": None,
    "share/a.txt": TEXT,
}
CONDA = {NAME: str(parse_record(record().decode()).facts["files"])}


def tree(files: Mapping[str, bytes | str | None], mode: int = 0o664) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.uid, member.mtime = 0o775 if path.startswith("bin/") else mode, 1000, 7
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def layer(data: bytes, conda: Mapping[str, str | None] = {}) -> list[tarfile.TarInfo]:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    write_kept(tars.pieces(data, 700), writer, top=TOP, conda=conda)
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue()), mode="r:gz") as archive:
        return archive.getmembers()


def test_it_lies_where_it_belongs_and_is_roots() -> None:
    found = layer(tree(FILES), CONDA)
    assert [(entry.name.removeprefix(TOP), oct(entry.mode), entry.linkname, entry.size) for entry in found] == [
        ("", "0o755", "", 0),
        ("/bin", "0o755", "", 0),
        ("/bin/link", "0o777", "program", 0),
        ("/bin/program", "0o755", "", len(PROGRAM)),
        ("/conda-meta", "0o755", "", 0),
        ("/conda-meta/history", "0o644", "", 0),
        (f"/conda-meta/{NAME}.json", "0o644", "", len(record())),
        ("/lib", "0o755", "", 0),
        ("/lib/empty", "0o755", "", 0),
        ("/share", "0o755", "", 0),
        ("/share/a.txt", "0o644", "", len(TEXT)),
    ]
    assert {(entry.uid, entry.mtime) for entry in found} == {(0, 315532800)}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share/a.txt": b"other"}, "share/a.txt is not as its record has it"),
        ({"bin/program": "/bin/true"}, "bin/program is not as its record has it"),
        ({"lib/empty": ...}, "lib/empty is not as its record has it"),
        ({"bin/link": ...}, "bin/link is not as its record has it"),
        ({f"conda-meta/{NAME}.json": record(packaged="b" * 64)}, "demo-1.0-0 has other files"),
        ({f"conda-meta/{NAME}.json": record("other")}, "is the record of another package"),
        ({f"conda-meta/{NAME}.json": ...}, "demo-1.0-0 is missing"),
        ({"conda-meta/more-1-0.json": record()}, "more-1-0 was not expected"),
        ({f"conda-meta/{NAME}.json": b"{}"}, "is not a record of conda"),
        ({f"conda-meta/{NAME}.json": b"\xff{"}, "is not a record of conda"),
        ({f"conda-meta/{NAME}.json": b"[" * 100_000}, "is not a record of conda"),
    ],
)
def test_what_is_not_what_the_lock_says_is_refused(changes: Mapping[str, object], why: str) -> None:
    files = {path: content for path, content in {**FILES, **changes}.items() if content is not ...}
    with pytest.raises(InputError) as caught:
        layer(tree(files), CONDA)  # type: ignore[arg-type]
    assert why in caught.value.why
    if not any(path.startswith("conda-meta/") for path in changes):
        layer(tree(files))  # type: ignore[arg-type]  # of a tree that is no conda's, nothing is known


@pytest.mark.parametrize("path", ["../a", "/../a", "a/../../b"])
def test_nothing_leaves_its_place(path: str) -> None:
    with pytest.raises(InputError, match="refused"):
        layer(tree({path: b""}))


def test_nothing_is_written_through_a_link() -> None:
    with pytest.raises(InputError, match="refused"):
        layer(tree({"lib": "/etc", "lib/passwd": b""}))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_other_kinds_are_refused(kind: bytes) -> None:
    member = tarfile.TarInfo("a")
    member.type, member.linkname = kind, "b"
    with pytest.raises(InputError, match="refused"):
        layer(member.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


def test_modules_are_read() -> None:
    lib = "lib/python3.11"
    files = {f"{lib}/a.py": b"a", f"{lib}/site-packages/b/c.py": b"c", f"{lib}/d.txt": b"", f"{lib}/large.py": bytes(11), "lib/e.py": b""}
    found = read_modules(tars.pieces(tree(files), 700), top=TOP, python="3.11", largest=10)
    assert list(found) == [(f"{TOP}/{lib}/a.py", b"a"), (f"{TOP}/{lib}/site-packages/b/c.py", b"c")]
