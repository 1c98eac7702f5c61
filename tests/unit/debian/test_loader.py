"""The dynamic loader's cache."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from envsnap.debian import loader
from envsnap.debian.loader import Entry, Libraries

LDCONFIG = shutil.which("ldconfig") or shutil.which("ldconfig", path="/usr/sbin:/sbin")
CACHE = Path("/etc/ld.so.cache")


def lines(place: Path) -> list[str]:
    said = subprocess.run([str(LDCONFIG), "-p", "-C", str(place)], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "=>" in line]


@pytest.mark.skipif(LDCONFIG is None or not CACHE.is_file(), reason="no ldconfig, or no cache of its")
def test_a_cache_that_ldconfig_made_is_read_and_written_again(tmp_path: Path) -> None:
    generic = [line for line in lines(CACHE) if "hwcap" not in line]
    (tmp_path / "again").write_bytes(loader.write(loader.read(CACHE.read_bytes())))
    assert lines(tmp_path / "again") == generic
    shuffled = sorted(loader.read(CACHE.read_bytes()), key=lambda entry: hash(entry.path))
    assert {entry.soname for entry in loader.read(loader.write(shuffled))} == {line.split()[0] for line in generic}


@pytest.mark.skipif(LDCONFIG is None, reason="no ldconfig")
def test_what_is_added_is_found_and_comes_before_what_was_there(tmp_path: Path) -> None:
    first, second = Entry("libz.so.1", "/lib/x/libz.so.1", 0x0303), Entry("libz.so.1", "/usr/local/cuda/libz.so.1", 0x0303)
    other = Entry("liba.so.10", "/lib/x/liba.so.10", 0x0303)
    (tmp_path / "c").write_bytes(loader.write([first, second, other, Entry("liba.so.9", "/lib/x/liba.so.9", 0x0303), first]))
    found = [re.sub(r"\s+", " ", line.strip()) for line in lines(tmp_path / "c")]
    assert found == [
        "libz.so.1 (libc6,x86-64) => /lib/x/libz.so.1",
        "libz.so.1 (libc6,x86-64) => /usr/local/cuda/libz.so.1",
        "liba.so.10 (libc6,x86-64) => /lib/x/liba.so.10",
        "liba.so.9 (libc6,x86-64) => /lib/x/liba.so.9",
    ]


@pytest.mark.parametrize("cache", [b"", b"glibc-ld.so.cache1.1", b"x" * 200, b"glibc-ld.so.cache1.1" + b"\xff" * 60])
def test_what_is_no_cache_has_no_libraries(cache: bytes) -> None:
    assert all(isinstance(entry, Entry) for entry in loader.read(cache))
    assert list(loader.read(cache))[3:] == []


def test_libraries_are_called_as_ldconfig_calls_them() -> None:
    library = next(Path("/").glob("lib/*-linux-gnu/libc.so.6")).read_bytes()
    for merged, folder in ((True, "usr/lib/x86_64-linux-gnu"), (False, "lib/x86_64-linux-gnu")):
        noted = Libraries("amd64", merged=merged)
        for name in ("libc-2.36.so", "libc.so.6"):
            place = f"{folder}/{name}"
            assert noted.is_one(place)
            assert b"".join(noted.teed(place, [memoryview(library)])) == library
        noted.link(f"{folder}/libc.so", "libc.so.6")
        noted.link(f"{folder}/libold.so", "libc-2.36.so")
        assert list(noted.teed(f"{folder}/libtext.so", [memoryview(b"INPUT(x)")])) == [b"INPUT(x)"]
        expected = [Entry(name, f"/lib/x86_64-linux-gnu/{name}", 0x0303) for name in ("libc.so", "libc.so.6")]
        assert noted.entries() == expected
        assert not noted.is_one("usr/lib/x86_64-linux-gnu/dri/libx.so") and not noted.is_one(f"{folder}/x.so")
