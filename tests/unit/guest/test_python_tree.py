"""The interpreter as an archive: what goes in, what names its place, and that it runs at another one."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from envsnap.guest import python_tree
from envsnap.guest.compile import MTIME
from envsnap.guest.elf import read_elf
from envsnap.guest.python_tree import pack_python_tree, program
from tests.fakes.conda import PATCHELF

NEW = "/opt/envsnap/python"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Looks like an installation; its program is one of the system's that looks for libraries below the prefix."""
    prefix = tmp_path / "a/prefix/that/is/long/enough"
    library = prefix / "lib" / program()
    for path, text in {
        "os.py": "name = 'x'\n",
        "broken.py": "def (:\n",
        "json/__init__.py": "x = 1\n",
        "_sysconfigdata__linux.py": f"build_time_vars = {{'prefix': '{prefix}', 'LIBDIR': '{prefix}/lib'}}\n",
        "test/regression.py": "",
        "idlelib/idle.py": "",
        "site-packages/of_somebody.py": "",
        "config-3.x-machine/libpython.a": "!",
        "__pycache__/os.cpython-3.pyc": "old",
        "lib-dynload/_testcapi.so": "",
    }.items():
        (library / path).parent.mkdir(parents=True, exist_ok=True)
        (library / path).write_text(text)
    (prefix / "include" / program()).mkdir(parents=True)
    (prefix / "include" / program() / "Python.h").write_text("#define X\n")
    (prefix / "bin").mkdir()
    binary = prefix / "bin" / program()
    shutil.copy("/bin/true", binary)
    subprocess.run([PATCHELF, "--set-rpath", f"/usr/lib:{prefix}/lib", binary], check=True)
    (prefix / "bin/pip").write_text(f"#!{prefix}/bin/python3\n")
    (prefix / "lib/libpython3.so.1.0").write_bytes(binary.read_bytes())
    (prefix / "lib/libpython3.so").symlink_to("libpython3.so.1.0")
    return prefix


def packed(prefix: Path) -> tuple[python_tree.Interpreter, bytes]:
    out = io.BytesIO()
    return pack_python_tree(out, NEW, str(prefix)), out.getvalue()


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        return {member.name: tree.extractfile(member).read() for member in tree if member.isfile()}  # type: ignore[union-attr]


def test_what_goes_in(prefix: Path) -> None:
    needs, archive = packed(prefix)
    files, tag = contents(archive), sys.implementation.cache_tag
    below = f"python/lib/{program()}"
    assert list(files) == [
        f"python/bin/{program()}",
        f"python/include/{program()}/Python.h",
        "python/lib/libpython3.so.1.0",
        f"{below}/_sysconfigdata__linux.py",
        f"{below}/__pycache__/_sysconfigdata__linux.{tag}.pyc",
        f"{below}/broken.py",
        f"{below}/json/__init__.py",
        f"{below}/json/__pycache__/__init__.{tag}.pyc",
        f"{below}/os.py",
        f"{below}/__pycache__/os.{tag}.pyc",
    ]
    assert needs.libc.startswith("2.") and "libc.so.6" in needs.sonames and list(needs.sonames) == sorted(needs.sonames)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        members = {member.name: member for member in tree}
    assert {member.mtime for member in members.values()} == {MTIME} and {(m.uid, m.gid, m.uname) for m in members.values()} == {(0, 0, "")}
    assert {name for name, member in members.items() if member.isfile() and member.mode == 0o755} == {
        f"python/bin/{program()}",
        "python/lib/libpython3.so.1.0",
    }
    assert next(iter(members)) == "python" and members[below].isdir()


def test_its_place_is_the_new_one(prefix: Path, tmp_path: Path) -> None:
    _, archive = packed(prefix)
    files = contents(archive)
    assert str(prefix).encode() not in b"".join(files.values())
    settings = files[f"python/lib/{program()}/_sysconfigdata__linux.py"]
    assert f"'LIBDIR': '{NEW}/lib'".encode() in settings
    moved = tmp_path / "moved"
    for name, search in ((f"python/bin/{program()}", "$ORIGIN/../lib"), ("python/lib/libpython3.so.1.0", "$ORIGIN")):
        moved.write_bytes(files[name])
        elf = read_elf(str(moved))
        assert elf is not None and elf.search == ("/usr/lib", search)
        moved.chmod(0o755)
        assert subprocess.run([moved]).returncode == 0  # not damaged
    code = files[f"python/lib/{program()}/__pycache__/os.{sys.implementation.cache_tag}.pyc"]
    assert struct.unpack("<I", code[8:12]) == (MTIME,)
    assert f"{NEW}/lib/{program()}/os.py".encode() in code


def test_the_same_files_give_the_same_bytes(prefix: Path) -> None:
    assert packed(prefix) == packed(prefix)


def test_a_search_path_that_is_too_short_to_be_another_is_refused(prefix: Path) -> None:
    with pytest.raises(ValueError, match="no room"):
        python_tree.searched_elsewhere(b"\0/p/lib\0", "/p/lib", "lib/python3.11/lib-dynload/x.so", "/p")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x\0/prefix/long/lib\0y\0", b"x\0$ORIGIN/../lib\0\0\0y\0"),
        (b"\0/prefix/long/lib:/usr/lib\0y", b"\0$ORIGIN/../lib:/usr/lib\0\0\0y"),
        (b"\0/prefix/long/library\0y", b"\0/prefix/long/library\0y"),
        (b"\0see /prefix/long/lib\0y", b"\0see /prefix/long/lib\0y"),
    ],
)
def test_only_a_folder_of_a_search_path_is_replaced(data: bytes, expected: bytes) -> None:
    assert python_tree.searched_elsewhere(data, "/prefix/long/lib", "bin/python3", "/prefix/long") == expected


def test_what_cannot_be_carried_says_why(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(place: str) -> str:
        with pytest.raises(ValueError, match=r".") as raised:
            pack_python_tree(io.BytesIO(), NEW, place)
        return str(raised.value)

    assert "the distribution's own" in why("/usr")
    with monkeypatch.context() as patch:
        patch.setattr(python_tree, "libc", lambda: "musl")
        assert "glibc" in why(str(prefix))
    (prefix / "conda-meta").mkdir()
    assert "--rescue conda" in why(str(prefix))
    (prefix / "conda-meta").rmdir()
    (prefix / "bin" / program()).write_text("#!/bin/sh\n")
    assert f"no bin/{program()}" in why(str(prefix))


def test_a_real_one_runs_at_another_place(tmp_path: Path) -> None:
    if Path(sys.base_prefix).resolve() == Path("/usr"):
        pytest.skip("the interpreter that runs this is the distribution's own")
    with (tmp_path / "tree.tar").open("wb") as file:
        needs = pack_python_tree(file, NEW)
    with tarfile.open(tmp_path / "tree.tar") as tree:
        tree.extractall(tmp_path)
    code = "import ssl, sqlite3, ctypes, json, sys; print(sys.prefix, [line for line in open('/proc/self/maps') if %r in line])"
    done = subprocess.run(
        [tmp_path / "python/bin" / program(), "-I", "-v", "-c", code % f"{sys.base_prefix}/"],
        capture_output=True,
        text=True,
        env={},
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'python'} []\n"
    assert "# code object from /" not in done.stderr  # it has byte code of all that was imported
    assert needs.libc >= "2." and not any(name.startswith(("libpython", "ld-linux")) for name in needs.sonames)
