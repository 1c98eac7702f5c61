"""What an editable install puts on sys.path."""

from __future__ import annotations

import os
from typing import Iterable, NamedTuple

from .record import Entry
from .text import Problems, read_text, reason


class Mapped(NamedTuple):
    """What an editable's import machinery points at: modules with their paths, or plain directories with module ""."""

    module: str
    path: str


def pth_directories(text: str, location: str) -> list[Mapped]:
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return [
        Mapped("", os.path.abspath(os.path.join(location, line)))
        for line in lines
        if line and not line.startswith(("#", "import ", "import\t"))
    ]


def finder_mapping(text: str) -> list[Mapped]:
    """Modules that a generated finder redirects, read without running it: setuptools' MAPPING and NAMESPACES, and the
    `map_module` calls of the editables library. Raises SyntaxError, ValueError.
    """
    import ast

    found: list[Mapped] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "map_module":
            found.append(Mapped(*map(ast.literal_eval, node.args[:2])))
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id in ("MAPPING", "NAMESPACES"):
            for module, paths in ast.literal_eval(node.value).items():
                found += [Mapped(module, path) for path in ([paths] if isinstance(paths, str) else paths)]
    return found


def import_root(mapped: Mapped) -> str | None:
    """The directory that would have to be on sys.path for `module` to be found at `path`; None when there is none."""
    path = os.path.normpath(mapped.path)
    if os.path.basename(path) == "__init__.py":
        path = os.path.dirname(path)
    parts = mapped.module.split(".") if mapped.module else []
    steps = (path[:-3] if parts and path.endswith(".py") else path).split("/")
    if steps[len(steps) - len(parts) :] != parts:
        return None
    return "/".join(steps[: len(steps) - len(parts)]) or "/"


def editable_mapping(location: str, entries: Iterable[Entry], problems: Problems) -> list[Mapped]:
    """What the .pth files and finders of an editable install name, in the order of their file names."""
    found: list[Mapped] = []
    for name in sorted(entry.path for entry in entries if "/" not in entry.path):
        text = read_text(os.path.join(location, name), name, problems) if name.endswith((".pth", ".py")) else None
        if text is None:
            continue
        try:
            found += pth_directories(text, location) if name.endswith(".pth") else finder_mapping(text)
        except (SyntaxError, ValueError, TypeError, AttributeError) as error:
            problems.add(name, f"is not a finder that can be read: {reason(error)}")
    return found


def editable_paths(mapping: Iterable[Mapped], where: str, problems: Problems) -> list[str]:
    paths: dict[str, None] = {}
    for mapped in mapping:
        root = import_root(mapped)
        if root is None:
            problems.add(where, f"maps {mapped.module} to {mapped.path}, which no directory on sys.path can express")
        else:
            paths[root] = None
            if not os.path.isdir(root):
                problems.add(where, f"is installed as editable from {root}, which is not there")
    return list(paths)
