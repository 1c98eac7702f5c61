"""The guest script that compiles: what it writes follows from the source and the interpreter's version, and from nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import py_compile
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from envsnap.guest import compile as guest
from envsnap.oci.image import EPOCH
from envsnap.target import GUEST_DIRECTORY

STDLIB = Path(os.__file__).parent

# Each with something whose marshalled form hangs on what else is in the process.
TRAPS = {
    "sets.py": "x = 1 in {'here_and_there', 'or_not'}\ndef one(x):\n    return x in {'here_and_there', 'or_not'}\n",
    "local_class.py": "def outer():\n    class Inner:\n        def method(self): pass\n    return Inner\n",
    "characters.py": "unit = 'µ'\nsign = '-'\nother = '§'\n",
    "names.py": "import os.path\nenvironment = os.path.join('environment')\ndef µ(self, *, key=('µ', b'a', 1 << 40, 2.5)): return key\n",
    "docs.py": '"""environment, path"""\nclass A:\n    """A class."""\n    here_and_there: int = 3\n',
}
COMPANY = "µ = 'here_and_there', 'or_not', 'Inner', 'outer'\ndef outer():\n    class Inner:\n        def method(self): pass\n"


def ask(python: str, sources: Sequence[tuple[str, str]], before: str = "") -> Mapping[str, str]:
    """Path -> digest of its .pyc, all made by one process."""
    frames = b"".join(
        struct.pack(">II", len(path.encode()), len(source.encode())) + path.encode() + source.encode() for path, source in sources
    )
    program = f"import runpy, sys\n{before}\nsys.argv = ['guest', 'compile']\nrunpy.run_path({str(GUEST_DIRECTORY)!r}, run_name='__main__')"
    answer = subprocess.run(
        [python, "-s", "-S", "-B", "-c", program], input=frames, capture_output=True, check=True, env={"PYTHONHASHSEED": "0"}
    ).stdout
    found = {}
    for path, _ in sources:
        size = struct.unpack_from(">I", answer)[0]
        found[path], answer = hashlib.sha256(answer[4 : 4 + size]).hexdigest(), answer[4 + size :]
    assert not answer
    return found


def pythons() -> list[str]:
    """The one that runs this, and of each other minor version what pyenv has."""
    found = {sys.version_info[:2]: sys.executable}
    installed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for path in sorted(installed.glob("3.*.*/bin/python3")):
        major, minor = map(int, path.parts[-3].split(".")[:2])
        if (major, minor) >= (3, 8):
            found.setdefault((major, minor), str(path))
    return list(found.values())


@pytest.mark.parametrize("python", pythons())
def test_neither_order_nor_company_nor_what_was_imported_decides(python: str) -> None:
    sources = list(TRAPS.items())
    alone = {path: ask(python, [(path, source)])[path] for path, source in sources}
    company = [("company.py", COMPANY), ("more.py", COMPANY.replace("µ", "§ç"[1:])), *reversed(sources)]
    known = ("-", "µ", "or_not", "outer.<locals>.Inner")
    imports = f"import email.message, unittest, xml.dom.minidom, decimal\nkept = [sys.intern(word) for word in {known!r}]"
    assert {path: ask(python, company)[path] for path in alone} == alone
    assert {path: ask(python, company, imports)[path] for path in alone} == alone


def test_without_care_company_decides() -> None:
    """What the script is for: the traps are such."""
    code = "import marshal, sys\ncompany, *sources = {0!r}\n{1}\nfor s in sources: print(hash(marshal.dumps(compile(s, 'x', 'exec'))))"

    def naive(before: str) -> list[str]:
        program = code.format([COMPANY, *TRAPS.values()], before)
        return subprocess.run(
            [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"}
        ).stdout.split()

    assert naive("") != naive("kept = compile(company, 'y', 'exec')")


def test_the_standard_library_twice_in_different_order() -> None:
    sources = [(f"/{path.name}", path.read_text(encoding="utf-8")) for path in sorted(STDLIB.glob("[a-e]*.py"))[:40]]
    assert ask(sys.executable, sources) == ask(sys.executable, sources[::-1])


def test_it_is_what_py_compile_would_write_but_for_how_objects_are_shared(tmp_path: Path) -> None:
    for path in sorted(STDLIB.glob("[f-l]*.py"))[:20]:
        source = path.read_bytes()
        pyc = guest.byte_code("/in/the/image.py", source)
        usual = tmp_path / "usual.pyc"
        py_compile.compile(str(path), str(usual), dfile="/in/the/image.py", doraise=True)
        assert pyc is not None
        assert pyc[:4] == importlib.util.MAGIC_NUMBER
        assert struct.unpack("<III", pyc[4:16]) == (0, EPOCH, len(source))
        assert marshal.loads(pyc[16:]) == marshal.loads(usual.read_bytes()[16:])
        assert marshal.loads(pyc[16:]).co_filename == "/in/the/image.py"
        assert len(pyc) < 1.02 * usual.stat().st_size


def test_python_uses_it_until_the_module_is_edited(tmp_path: Path) -> None:
    module = tmp_path / "answer.py"
    pyc = guest.byte_code(str(module), b"VALUE = 'compiled'\n")
    assert pyc is not None
    place = Path(importlib.util.cache_from_source(str(module)))
    place.parent.mkdir()
    place.write_bytes(pyc)

    def value() -> str:
        command = [sys.executable, "-B", "-c", "import answer; print(answer.VALUE)"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    module.write_bytes(b"VALUE = 'a source'\n")  # as long as what was compiled
    os.utime(module, (EPOCH, EPOCH))
    assert value() == "compiled"
    os.utime(module)
    assert value() == "a source"


@pytest.mark.parametrize(
    "source",
    [
        b"def broken(:\n",
        b"match x:\n  case 1 case\n",
        b"x = '\xff'\n",
        b"x = 1\0\n",
        b"# -*- coding: big5 -*-\nx = 1\n",
        b"#!/usr/bin/python\n# vim: set fileencoding=koi8-r :\nx = 1\n",
        b"(" * 5000 + b")" * 5000,
        b"-" * 20_000 + b"1",  # MemoryError, with any amount of it
        b"a" + b".b" * 20_000,  # RecursionError
    ],
)
def test_what_has_no_byte_code(source: bytes) -> None:
    assert guest.byte_code("/x.py", source) is None


@pytest.mark.parametrize("source", [b"", b"# coding: latin-1\nx = '\xff'\n", b"\xef\xbb\xbfx = 1\n", b"# -*- coding: UTF-8 -*-\nx = 1\n"])
def test_what_has(source: bytes) -> None:
    assert guest.byte_code("/x.py", source)


def test_sets_whose_order_is_that_of_addresses_have_none_where_marshal_does_not_sort_them(monkeypatch: pytest.MonkeyPatch) -> None:
    source = b"def f(x): return x in {None, 'a'} or x in {1, 'b', ('c', 2)}\n"
    monkeypatch.setattr(guest, "SETS_ARE_SORTED", False)
    monkeypatch.setattr(guest, "HASHES_ARE_FIXED", True)
    assert guest.byte_code("/x.py", source) is None
    assert guest.byte_code("/x.py", source.replace(b"None", b"'none'"))
    assert guest.byte_code("/x.py", source.replace(b"('c', 2)", b"('c', ...)")) is None
    monkeypatch.setattr(guest, "SETS_ARE_SORTED", True)
    assert guest.byte_code("/x.py", source)


@pytest.mark.parametrize(
    ("stdin", "seed", "arguments", "said"),
    [
        (b"", "1", [], "PYTHONHASHSEED=0"),
        (b"", "0", ["more"], "no arguments"),
        (b"\0\0", "0", [], "cut off"),
        (struct.pack(">II", 2, 9) + b"/x" + b"x = 1", "0", [], "cut off"),
        (struct.pack(">II", 1, 0) + b"\xff", "0", [], "cut off"),
    ],
)
def test_it_says_what_it_cannot_do(stdin: bytes, seed: str, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-S", "-B", str(GUEST_DIRECTORY), "compile", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env={"PYTHONHASHSEED": seed})
    assert done.returncode == 2
    assert said in done.stderr.decode()


LARGE = "".join(f"def f{number}(a, b={number}):\n    return {{a: b, 'k{number}': [a, b, {number}]}}\n" for number in range(2000)).encode()
SPARE = 8 << 20


def answer(python: str, source: bytes, *, spare: int | None = None, directory: Path = GUEST_DIRECTORY) -> tuple[int, bytes, str]:
    """Exit code, answer and complaint. Args: spare: bytes of memory that the process may have beyond those that it starts with."""
    limit = (
        "import resource\npages = int(open('/proc/self/statm').read().split()[0])\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {spare},) * 2)\n"
        if spare is not None
        else ""
    )
    program = f"import runpy, sys\n{limit}sys.argv = ['guest', 'compile']\nrunpy.run_path({str(directory)!r}, run_name='__main__')"
    asked = struct.pack(">II", 5, len(source)) + b"/x.py" + source
    words = [python, "-s", "-S", "-B", "-c", program]
    done = subprocess.run(words, input=asked, capture_output=True, env={"PYTHONHASHSEED": "0"})
    return done.returncode, done.stdout, done.stderr.decode()


def changed(directory: Path, before: str, after: str) -> Path:
    """The guest scripts with another line in this one."""
    shutil.copytree(GUEST_DIRECTORY, directory, ignore=shutil.ignore_patterns("__pycache__"))
    script = directory / "compile.py"
    assert script.read_text().count(before) == 1
    script.write_text(script.read_text().replace(before, after))
    return directory


@pytest.mark.parametrize("python", pythons())
def test_a_limit_of_memory_decides_no_byte_code(python: str, tmp_path: Path) -> None:
    code, whole, _ = answer(python, LARGE)
    assert code == 0 and len(whole) > len(LARGE)
    code, nothing, said = answer(python, LARGE, spare=SPARE)
    assert (code, nothing) == (guest.NOT_ENOUGH_MEMORY, b"") and f"not enough memory to compile /x.py ({len(LARGE)} bytes)" in said
    assert answer(python, LARGE, spare=1 << 30) == (0, whole, "")
    careless = changed(tmp_path / "guest", "            raise\n", "            pass\n")
    assert answer(python, LARGE, spare=SPARE, directory=careless)[:2] == (0, bytes(4)), "and this is what the care is for"


def test_too_little_memory_is_told_from_too_deep_a_nesting(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(guest, "compile", fails, raising=False)
    assert guest.byte_code("/x.py", b"x = 1\n") is None
    monkeypatch.setattr(guest, "ROOM_BYTES", 1 << 60)
    with pytest.raises(MemoryError):
        guest.byte_code("/x.py", b"x = 1\n")


def test_where_the_stack_is_measured_it_is_as_large_everywhere(tmp_path: Path) -> None:
    try:
        assert guest.on_a_stack_of_its_own(threading.stack_size) == guest.STACK_BYTES
    finally:
        threading.stack_size(0)
    always = changed(tmp_path / "guest", "STACK_IS_MEASURED = sys.version_info >= (3, 14)", "STACK_IS_MEASURED = True")
    assert answer(sys.executable, LARGE, directory=always) == answer(sys.executable, LARGE)
    assert answer(sys.executable, LARGE, spare=2 * SPARE, directory=always)[0] == guest.NOT_ENOUGH_MEMORY
