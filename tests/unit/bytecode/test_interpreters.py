"""Finding an interpreter of exactly one version."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from envsnap.bytecode import Command, Interpreter, NotFound, find_interpreter, on_this_host

THIS = platform.python_version()


def pretend(path: Path, **answer: str) -> Path:
    """A program that answers as an interpreter would, and notes that it was asked."""
    said = {"implementation": "cpython", "version": "3.11.2", "abiflags": "", "cache_tag": "cpython-311", "magic": "a70d0d0a"} | answer
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho asked >>{path}.asked\necho '{json.dumps(said)}'\n")
    path.chmod(0o755)
    return path


def asked(path: Path) -> int:
    log = Path(f"{path}.asked")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_this_interpreter_is_found_and_told() -> None:
    found = find_interpreter(THIS, [Command(argv=(sys.executable,))])
    assert isinstance(found, Interpreter)
    assert (found.version, found.cache_tag) == (THIS, sys.implementation.cache_tag)
    assert found.magic.endswith(b"\r\n")


def test_exactly_the_version_and_the_first_that_has_it(tmp_path: Path) -> None:
    near, right, later = (
        pretend(tmp_path / name, version=version) for name, version in [("a", "3.11.7"), ("b", "3.11.2"), ("c", "3.11.2")]
    )
    found = find_interpreter("3.11.2", (Command(argv=(str(path),)) for path in (near, right, later)))
    assert isinstance(found, Interpreter)
    assert found.command.argv == (str(right),)
    assert [asked(path) for path in (near, right, later)] == [1, 1, 0]


@pytest.mark.parametrize("other", [{"implementation": "pypy"}, {"abiflags": "t"}, {"abiflags": "d"}, {"version": "3.11.2+"}])
def test_another_implementation_or_build_is_passed_over(tmp_path: Path, other: dict[str, str]) -> None:
    found = find_interpreter("3.11.2", [Command(argv=(str(pretend(tmp_path / "python", **other)),))])
    assert isinstance(found, NotFound)


def test_what_is_no_interpreter_is_passed_over(tmp_path: Path) -> None:
    broken, silent = tmp_path / "broken", pretend(tmp_path / "silent")
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    silent.write_text("#!/bin/sh\necho Python 3.11.2\n")
    commands = [Command(argv=(str(path),)) for path in (tmp_path / "absent", broken, silent)]
    found = find_interpreter("3.11.2", commands)
    assert isinstance(found, NotFound)
    assert "none was found at all" in found.reason


def test_who_has_none_is_told_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    commands = [
        Command(argv=(str(pretend(tmp_path / "a", version="3.11.7")),)),
        Command(argv=(str(pretend(tmp_path / "b", version="7.3.1", implementation="pypy")),)),
    ]
    found = find_interpreter("3.11.2", commands)
    assert isinstance(found, NotFound)
    assert "exactly that version" in found.reason
    assert "found: 3.11.7, pypy 7.3.1" in found.reason
    assert "--no-pyc" in found.hint
    assert "3.11.2" in found.hint


def test_variables_of_whoever_calls_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # with which it would not even start
    assert isinstance(find_interpreter(THIS, [Command(argv=(sys.executable,))]), Interpreter)
    assert Command(argv=("x",), env={"PYTHONHASHSEED": "1", "LD_LIBRARY_PATH": "/lib"}).variables == {
        "PYTHONHASHSEED": "0",
        "LD_LIBRARY_PATH": "/lib",
    }


def test_where_it_looks_on_this_host(tmp_path: Path) -> None:
    pyenv = pretend(tmp_path / "pyenv/versions/3.11.2/bin/python3")
    pretend(tmp_path / "pyenv/versions/3.11.7/bin/python3")
    managed = pretend(tmp_path / "uv/cpython-3.11.2-linux-x86_64-gnu/bin/python3")
    minor, plain = pretend(tmp_path / "bin/python3.11"), pretend(tmp_path / "more/python3")
    pretend(tmp_path / "pyenv/shims/python3.11")
    (tmp_path / "more/python").symlink_to(plain)
    (tmp_path / "more/python3.11").write_text("no program")
    env = {
        "HOME": str(tmp_path),
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv"),
        "PATH": f"{tmp_path}/pyenv/shims:{tmp_path}/bin::{tmp_path}/more:{tmp_path}/absent",
    }
    assert [command.argv for command in on_this_host("3.11.2", env)] == [(str(path),) for path in (pyenv, managed, minor, plain)]


def test_the_usual_places_of_a_home(tmp_path: Path) -> None:
    places = [
        pretend(tmp_path / ".pyenv/versions/3.11.2/bin/python3"),
        pretend(tmp_path / ".local/share/uv/python/cpython-3.11.2-linux-x86_64-gnu/bin/python3"),
    ]
    found = [command.argv[0] for command in on_this_host("3.11.2", {"HOME": str(tmp_path), "PATH": str(tmp_path / "none")})]
    assert found == list(map(str, places))
