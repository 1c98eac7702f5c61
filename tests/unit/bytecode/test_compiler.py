"""Layers of byte code: one digest whoever makes them, kept by wheel and version, and no fault that goes unseen."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from envsnap.bytecode import Command, Compiler, Interpreter, NotFound, Sources, compiler, find_interpreter, sources_of
from envsnap.bytecode.running import Process
from envsnap.errors import EngineError, EnvsnapError, InputError, TargetError
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory
from envsnap.model.layers import Layout, PlannedWheel
from envsnap.notes import write_note
from envsnap.oci.image import EPOCH
from tests.fakes.wheels import DEMO, DEMO_FILE, write_wheel

VERSION = platform.python_version()
TAG = sys.implementation.cache_tag
LAYOUT = Layout(python="3.11")
SITE = "opt/envsnap/env/lib/python3.11/site-packages"
Find = Callable[[], Interpreter | NotFound]


def this_one() -> Interpreter | NotFound:
    return find_interpreter(VERSION, [Command(argv=(sys.executable,))])


def nobody() -> Interpreter | NotFound:
    raise AssertionError("an interpreter was looked for")


def wheel(name: str = "one", modules: Mapping[str, str] = {"pkg/__init__.py": "", "pkg/part.py": "VALUE = 1\n"}) -> Sources:
    sources = [(f"{SITE}/{path}", text.encode()) for path, text in modules.items()]
    return Sources(name=f"{name} 1", sha256=hashlib.sha256(repr((name, sources)).encode()).hexdigest(), read=lambda: iter(sources))


def unread() -> Iterator[tuple[str, bytes]]:
    raise AssertionError("the wheel was read again")
    yield


def counting(tmp_path: Path) -> tuple[Interpreter, Callable[[], int]]:
    """The interpreter of these tests, and how often it was started."""
    python, started = tmp_path / "python", tmp_path / "started"
    python.write_text(f'#!/bin/sh\necho x >> {started}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = Command(argv=(str(python),), env={"PYTHONHASHSEED": "0"})
    found = Interpreter(command=command, version=VERSION, cache_tag=str(TAG), magic=importlib.util.MAGIC_NUMBER)
    return found, lambda: len(started.read_text().splitlines())


def layer(cache: Path, *wheels: Sources, find: Find = this_one, layout: Layout = LAYOUT, workers: int = 2) -> bytes:
    blob = io.BytesIO()
    with Compiler(VERSION, find, cache, workers=workers) as made_by:
        writer = LayerWriter(blob.write)
        made_by.write_layer(wheels, layout, writer)
        writer.finish()
    return blob.getvalue()


def files(blob: bytes) -> Mapping[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def test_byte_code_lies_where_python_looks_for_it(tmp_path: Path) -> None:
    blob = layer(tmp_path, wheel())
    assert sorted(files(blob)) == [f"{SITE}/pkg/__pycache__/{name}.{TAG}.pyc" for name in ("__init__", "part")]
    for data in files(blob).values():
        assert data.startswith(importlib.util.MAGIC_NUMBER + bytes(4) + EPOCH.to_bytes(4, "little"))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        members = {member.name: member for member in archive}
    assert {(member.mode, member.uid, member.gid, member.mtime) for member in members.values() if member.isfile()} == {(0o644, 0, 0, EPOCH)}
    folders = [name for name, member in members.items() if member.isdir()]
    assert folders[0] == "opt"
    assert folders[-2:] == [f"{SITE}/pkg", f"{SITE}/pkg/__pycache__"]


def test_the_base_keeps_its_opt_as_it_was(tmp_path: Path) -> None:
    blob = layer(tmp_path, wheel(), layout=Layout(python="3.11", directories={"opt": Directory(mode=0o2775, gid=50)}))
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        member = archive.getmember("opt")
    assert (member.mode, member.gid) == (0o2775, 50)


def test_one_digest_however_many_processes_and_however_the_modules_are_dealt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {f"pkg/m{number}.py": f"def f{number}(x): return x in {{'a{number % 3}', 'b'}}\n" for number in range(40)}
    once = layer(tmp_path / "a", wheel("one", modules), wheel("two"), workers=1)
    monkeypatch.setattr(compiler, "_CHUNK_BYTES", 100)
    assert layer(tmp_path / "b", wheel("one", modules), wheel("two"), workers=3) == once
    assert len(list((tmp_path / "b/blobs/sha256").iterdir())) > len(list((tmp_path / "a/blobs/sha256").iterdir()))


def test_a_process_compiles_until_it_has_done_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter, started = counting(tmp_path)
    modules = {f"pkg/m{number}.py": f"def f{number}(x): return x in {{'a{number % 3}', 'b'}}\n" for number in range(10)}
    monkeypatch.setattr(compiler, "_CHUNK_BYTES", 1)
    made = [layer(tmp_path / "a", wheel("one", modules), wheel("two"), find=lambda: interpreter, workers=1)]
    assert started() == 1
    monkeypatch.setattr(compiler, "_PROCESS_BYTES", 1)
    made.append(layer(tmp_path / "b", wheel("one", modules), wheel("two"), find=lambda: interpreter, workers=1))
    assert started() == 1 + 11  # the empty module goes with the next one
    assert made[0] == made[1]


def test_what_was_made_is_kept_by_wheel_layout_and_version(tmp_path: Path) -> None:
    one = wheel()
    first = layer(tmp_path, one)
    again = Sources(name=one.name, sha256=one.sha256, read=unread)
    assert layer(tmp_path, again, find=nobody) == first
    with pytest.raises(AssertionError, match="read again"):
        layer(tmp_path, Sources(name="two", sha256="0" * 64, read=unread))
    with pytest.raises(AssertionError, match="looked for"):
        layer(tmp_path, again, find=nobody, layout=Layout(python="3.11", prefix="opt/other"))
    with pytest.raises(AssertionError, match="looked for"), Compiler("3.0.1", nobody, tmp_path) as other:
        other.write_layer([again], LAYOUT, LayerWriter(io.BytesIO().write))


@pytest.mark.parametrize("damage", ["blob changed", "blob gone", "facts torn", "facts of another kind"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    first = layer(tmp_path, wheel())
    (blob,) = (tmp_path / "blobs/sha256").iterdir()
    (facts,) = (tmp_path / "bytecode").iterdir()
    match damage:
        case "blob changed":
            blob.write_bytes(blob.read_bytes()[:-1] + b"!")
        case "blob gone":
            blob.unlink()
        case "facts torn":
            facts.write_bytes(facts.read_bytes()[:-5])
        case _:
            facts.write_text(json.dumps({"pieces": ["../../../etc/passwd"]}))
    assert layer(tmp_path, wheel()) == first
    assert layer(tmp_path, wheel(), find=nobody) == first


@pytest.mark.parametrize("vouched", [True, False])
def test_what_an_images_own_interpreter_made_counts_for_images_with_it_alone(tmp_path: Path, vouched: bool) -> None:
    """Whether somebody vouches for the modules or not."""
    sources = wheel() if vouched else replace(wheel(), sha256=None)

    def write(own: str, find: Find) -> bool:
        with Compiler(VERSION, find, tmp_path, own=own) as made_by:
            return made_by.write_layer([sources], LAYOUT, LayerWriter(len))

    own, started = counting(tmp_path)
    foreign = replace(own, is_own=True)
    for name, interpreter, count in (("1", foreign, 1), ("1", foreign, 1), ("2", foreign, 2), ("3", own, 3), ("", own, 3)):
        assert write(name * 64, lambda interpreter=interpreter: interpreter) == interpreter.is_own  # type: ignore[misc]
        assert started() == count, name


def test_a_blob_that_is_no_byte_code_is_refused(tmp_path: Path) -> None:
    layer(tmp_path, wheel())
    (facts,) = (tmp_path / "bytecode").iterdir()
    for data in (b"\0\0\0", b"\0\0\0\1\0\0\0\1x", b"\0\0\0\1\0\0\0\1\xffy"):
        name = hashlib.sha256(data).hexdigest()
        (tmp_path / "blobs/sha256" / name).write_bytes(data)
        write_note(facts, compiler._Kept(pieces=(f"sha256:{name}",)))
        with pytest.raises(InputError, match="no byte code"):
            layer(tmp_path, wheel())


def test_modules_without_byte_code_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "LARGEST_SOURCE", 50)
    modules = {"good.py": "x = 1\n", "broken.py": "def (:\n", "large.py": "y = 1\n" * 20, "data.txt": "x"}
    blob = layer(tmp_path, wheel("one", modules), wheel("two", {"only/broken.py": "def (:\n"}))
    assert list(files(blob)) == [f"{SITE}/__pycache__/good.{TAG}.pyc"]
    scripts = Sources(name="x", sha256="1" * 64, read=lambda: iter([("opt/envsnap/env/bin/tool.py", b"x = 1\n")]))
    assert not files(layer(tmp_path, scripts))


def test_a_module_of_two_wheels_is_there_once(tmp_path: Path) -> None:
    assert len(files(layer(tmp_path, wheel("one"), wheel("two")))) == 2


def test_progress_is_told_in_bytes_of_source(tmp_path: Path) -> None:
    told: list[int] = []
    with Compiler(VERSION, this_one, tmp_path) as made_by:
        made_by.write_layer([wheel()], LAYOUT, LayerWriter(io.BytesIO().write), told.append)
    assert sum(told) == len("VALUE = 1\n")


def test_without_an_interpreter_it_stops_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as raised:
        layer(tmp_path, wheel(), find=lambda: find_interpreter("3.11.99", [Command(argv=(sys.executable,))]))
    assert "exactly that version" in raised.value.why
    assert VERSION in raised.value.why
    assert "--no-pyc" in raised.value.hint
    assert not (tmp_path / "bytecode").exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "exit code -9"),
        ("head -c 1 >/dev/null", "ended early"),
        ("head -c 1 >/dev/null; printf '\\0\\0\\0\\4abcd'", "ended early"),
        ("head -c 1 >/dev/null; printf '\\0\\0\\0\\4abcd\\0\\0\\0\\4abcd'", "no byte code of that file"),
        ("head -c 1 >/dev/null; printf '\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0'", "another number"),
        ("head -c 1 >/dev/null; printf '\\0\\0\\0\\0\\0\\0\\0\\0\\0'", "ends early"),
        ("head -c 1 >/dev/null; printf '\\0\\0\\1\\4abcd'", "ended early"),
        ("head -c 1 >/dev/null; printf '\\0\\0'", "ended early"),
    ],
)
def test_an_interpreter_that_fails_or_lies_leaves_nothing(tmp_path: Path, program: str, said: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    bad = Interpreter(command=Command(argv=(str(python),)), version=VERSION, cache_tag=str(TAG), magic=importlib.util.MAGIC_NUMBER)
    with pytest.raises(EngineError) as raised:
        layer(tmp_path / "cache", wheel(), find=lambda: bad)
    assert said in raised.value.why
    assert "one 1" in raised.value.what
    assert "--no-pyc" in raised.value.hint
    assert not (tmp_path / "cache/bytecode").exists()


@pytest.mark.parametrize("answered", [0, 1])
def test_too_little_memory_names_the_module_and_leaves_nothing(tmp_path: Path, answered: int) -> None:
    python = tmp_path / "python"
    answers = "\\0" * 4 * answered
    python.write_text(f"#!/bin/sh\nhead -c 1 >/dev/null; printf '{answers}'; exit 4\n")
    python.chmod(0o755)
    small = Interpreter(command=Command(argv=(str(python),)), version=VERSION, cache_tag=str(TAG), magic=importlib.util.MAGIC_NUMBER)
    for one in (wheel(), Sources(name="one 1", sha256=None, read=wheel().read)):
        with pytest.raises(EngineError, match="byte code of one 1 cannot be made") as raised:
            layer(tmp_path / "cache", one, find=lambda: small)
        module = f"{SITE}/pkg/" + ("__init__.py, which has 0 bytes", "part.py, which has 10 bytes")[answered]
        assert f"not enough memory to compile {module}" in raised.value.why
        assert "ulimit -v" in raised.value.hint and "--no-pyc" in raised.value.hint
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert layer(tmp_path / "cache", wheel()) == layer(tmp_path / "other", wheel())


def test_an_interpreter_that_is_gone_is_an_error(tmp_path: Path) -> None:
    gone = Interpreter(command=Command(argv=(str(tmp_path / "gone"),)), version=VERSION, cache_tag="x", magic=b"")
    with pytest.raises(EngineError, match="cannot be made"):
        layer(tmp_path, wheel(), find=lambda: gone)


def planned(path: Path) -> PlannedWheel:
    data = path.read_bytes()
    return PlannedWheel(
        name="demo-pkg", version="1.0", file=DEMO_FILE, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), source_bytes=1
    )


def test_modules_of_a_wheel_file(tmp_path: Path) -> None:
    path = write_wheel(
        tmp_path / DEMO_FILE, {**DEMO, "demo_pkg-1.0.data/purelib/late.py": "x = 1\n", "demo_pkg-1.0.data/scripts/run.py": "1\n"}
    )
    found = files(layer(tmp_path, sources_of(planned(path), path, LAYOUT)))
    assert sorted(found) == [
        f"{SITE}/__pycache__/demo_module.{TAG}.pyc",
        f"{SITE}/__pycache__/late.{TAG}.pyc",
        f"{SITE}/demo_pkg/__pycache__/__init__.{TAG}.pyc",
    ]


def test_a_wheel_that_is_another_leaves_nothing(tmp_path: Path) -> None:
    path = write_wheel(tmp_path / DEMO_FILE, DEMO)
    wanted = planned(path)
    write_wheel(path, {**DEMO, "demo_module.py": "def main():\n    print('evil')\n"})
    with pytest.raises(InputError, match="another file"):
        layer(tmp_path, sources_of(wanted, path, LAYOUT))
    assert not (tmp_path / "bytecode").exists()
    path.unlink()
    with pytest.raises(EnvsnapError, match="cannot read"):
        layer(tmp_path, sources_of(wanted, path, LAYOUT))


def test_what_nobody_vouches_for_is_kept_by_what_it_is(tmp_path: Path) -> None:
    """So that byte code of modules that a wheel was only said to have is never taken for that wheel's."""
    known = wheel()
    unknown = Sources(name=known.name, sha256=None, read=known.read)
    first = layer(tmp_path, unknown)
    assert not (tmp_path / "bytecode").exists()
    damaged = next((tmp_path / "blobs/sha256").iterdir())
    os.utime(damaged, (1, 1))
    assert layer(tmp_path, unknown) == first
    assert damaged.stat().st_mtime > 1  # it counts as used
    assert len(list((tmp_path / "modules").iterdir())) == 1
    other = Sources(name=known.name, sha256=None, read=wheel("one", {"pkg/part.py": "VALUE = 2\n"}).read)
    assert files(layer(tmp_path, other)) != files(first)
    damaged.write_bytes(b"!")
    assert layer(tmp_path, unknown) == first


def test_a_wheel_takes_what_was_made_of_the_same_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = wheel()
    first = layer(tmp_path, Sources(name=known.name, sha256=None, read=known.read))

    def nothing(*_: object) -> None:
        raise AssertionError("it was compiled again")

    monkeypatch.setattr(Process, "compile", nothing)
    assert layer(tmp_path, known) == first
    assert layer(tmp_path, Sources(name=known.name, sha256=known.sha256, read=unread), find=nobody) == first
