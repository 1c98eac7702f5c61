"""Every top-level module, imported in child processes."""

from __future__ import annotations

import json
import os
import select
import subprocess
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

from .children import Sandbox, end_group, ending, mapped_files
from .text import described, say_progress

IMPORT_TIMEOUT_S = 120.0


# They open a browser, print poems, start an editor, or are test suites that no one imports.
NOT_IMPORTED = frozenset(("antigravity", "this", "idlelib", "test", "tests", "conftest", "setup"))


def imports_child(modules_file: str, pipe: int) -> None:
    """Import one module after another; `pipe` gets a line of JSON before and after each, and the mapped files at the end."""
    import importlib

    os.set_inheritable(pipe, False)

    def tell(*words: Any) -> None:
        os.write(pipe, json.dumps(words).encode("ascii") + b"\n")

    with open(modules_file, encoding="ascii") as file:
        modules = json.load(file)
    for module in modules:
        tell("start", module)
        try:
            tell("end", module, "", place_of(importlib.import_module(module)))
        except BaseException as error:
            tell("end", module, described(error), "")
    tell("mapped", mapped_files())
    os._exit(0)  # what the modules registered to run at exit is not ours to run


def place_of(module: Any) -> str:
    """The file or folder that a module was imported from; "" for those that have none."""
    try:
        path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        return path if isinstance(path, str) else ""
    except Exception:  # a module can be anything
        return ""


class Imports(NamedTuple):
    """Attributes:
    results: module -> "" or its error.
    mapped: files of the children that reached their end.
    places: module -> the file or folder that it came from, of those that imported.
    """

    results: dict[str, str]
    mapped: set[str]
    places: dict[str, str]


def probe_imports(modules: Iterable[str]) -> Imports:
    """Import everything in as few children as it takes. What fails after others is tried again alone: only that failure is
    the module's own (an old setuptools, say, refuses to come after whoever imported distutils).
    """
    todo = sorted(set(modules) - NOT_IMPORTED)
    results: dict[str, str] = {}
    mapped: set[str] = set()
    places: dict[str, str] = {}
    with Sandbox() as sandbox:
        pending = todo
        while pending:
            some = import_round(pending, len(todo), sandbox)
            results.update(some.results)
            mapped |= some.mapped
            places.update(some.places)
            pending = [module for module in todo if module not in results]
        for module in todo:
            if results[module] not in ("", HUNG):
                alone = import_round([module], len(todo), sandbox)
                results.update(alone.results)
                places.update(alone.places)
    return Imports({module: results[module] for module in todo}, mapped, places)


HUNG = f"TimeoutError: did not finish within {IMPORT_TIMEOUT_S:.0f} s"


def import_round(modules: Sequence[str], total: int, sandbox: Sandbox) -> Imports:
    """Have one child import until it is done, dies or hangs; at least the first module gets a result."""
    names = os.path.join(sandbox.home, "modules.json")
    with open(names, "w", encoding="ascii") as file:
        json.dump(list(modules), file)
    reader, writer = os.pipe()
    child = sandbox.start(
        ["collect", "--child", "imports", "--out", names, "--pipe", str(writer)], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    current = modules[0]
    results: dict[str, str] = {}
    mapped: list[str] | None = None
    places: dict[str, str] = {}
    hung = False
    try:
        for kind, *words in lines_of(reader, IMPORT_TIMEOUT_S):
            if kind == "start":
                current = words[0]
                say_progress(total - len(modules) + len(results), total, "steps", f"imports {current}")
            elif kind == "end":
                results[words[0]] = sandbox.tidy(words[1])
                if words[2]:
                    places[words[0]] = os.path.abspath(words[2])
            elif kind == "mapped":
                mapped = words[0]
                break
        else:
            child.wait(10)
    except (TimeoutError, subprocess.TimeoutExpired):
        hung = True
    finally:
        os.close(reader)
        end_group(child)
    if mapped is None:
        results[current] = HUNG if hung else f"ProcessEnded: {ending(child.returncode)}"
    return Imports(results, set(mapped or ()), places)


def lines_of(pipe: int, timeout_s: float) -> Iterator[list[Any]]:
    """Documents from `pipe` up to its end. Raises TimeoutError when the next one takes longer than `timeout_s`."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], timeout_s)
        if not ready:
            raise TimeoutError
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)
