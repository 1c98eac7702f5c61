"""The interpreter as a blob."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.inventory import interpreter
from tests.unit.inventory.conftest import Entry, file, whiteout
from tests.unit.inventory.test_read import LIB, blobs, inventory, system


def names(store: BlobStore, digest: str) -> set[str]:
    with tarfile.open(store.path(digest)) as archive:
        return set(archive.getnames())


def test_it_holds_what_it_takes_to_run_it(tmp_path: Path) -> None:
    found = inventory(tmp_path, system())
    assert found.interpreter is not None
    assert names(blobs(tmp_path), found.interpreter) == {
        "interpreter/interpreter.json",
        "interpreter/bin/python3.11",
        "interpreter/lib/python3.11/os.py",
        "interpreter/lib/python3.11/site.py",
        "interpreter/lib/python3.11/encodings/__init__.py",
        "interpreter/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "interpreter/libraries/libz.so.1",
        "interpreter/libraries/libc.so.6",
        "interpreter/libraries/ld-linux-x86-64.so.2",
        "interpreter/libraries/libssl.so.3",
        "interpreter/loader/ld-linux-x86-64.so.2",
    }


@pytest.mark.parametrize("gone", [f"{LIB}/libz.so.1", f"{LIB}/ld-linux-x86-64.so.2"])
def test_there_is_none_where_something_is_missing(tmp_path: Path, gone: str) -> None:
    found = inventory(tmp_path, system(), [whiteout(gone)])
    assert (found.python, found.interpreter) == ("3.11.2", None)


def test_unpacked_it_is_started_by_its_own_loader(tmp_path: Path) -> None:
    found = inventory(tmp_path, system())
    assert found.interpreter is not None
    place = tmp_path / "unpacked"
    for _ in range(2):  # the second takes the first one's place
        made = interpreter.unpack(blobs(tmp_path), found.interpreter, place)
        assert made.argv == (
            str(place / "loader/ld-linux-x86-64.so.2"),
            "--library-path",
            str(place / "libraries"),
            str(place / "bin/python3.11"),
        )
        assert made.version == "3.11.2"
        assert Path(made.argv[0]).stat().st_mode & 0o111
        assert not [path for path in place.rglob("*") if path.is_symlink() or path.name == ".tar"]


def archive(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for _, info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


ABOUT = b'{"version": "3.11.2", "python": "bin/python3.11", "loader": "ld.so.1"}'


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        archive(file("interpreter/bin/python3.11")),
        archive(file("interpreter/interpreter.json", ABOUT), file("interpreter/bin/python3.11")),
        archive(file("interpreter/interpreter.json", ABOUT.replace(b"bin/", b"../bin/")), file("interpreter/loader/ld.so.1")),
        archive(file("interpreter/interpreter.json", ABOUT.replace(b"ld.so", b"../ld.so")), file("interpreter/loader/ld.so.1")),
        archive(file("interpreter/../../escaped")),
    ],
)
def test_a_blob_that_is_no_interpreter_is_refused(tmp_path: Path, data: bytes) -> None:
    store = blobs(tmp_path)
    with pytest.raises(InputError):
        interpreter.unpack(store, store.put(data), tmp_path / "x/unpacked")
    assert not (tmp_path / "x/unpacked").exists()
    assert not (tmp_path / "escaped").exists()


def test_a_blob_that_was_changed_is_refused(tmp_path: Path) -> None:
    store = blobs(tmp_path)
    digest = store.put(archive(file("interpreter/interpreter.json", ABOUT)))
    store.path(digest).write_bytes(b"changed")
    with pytest.raises(InputError, match="changed"):
        interpreter.unpack(store, digest, tmp_path / "unpacked")
