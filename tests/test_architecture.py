"""The import directions of docs/architecture.md, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "envsnap"

LEAVES = {"errors", "progress", "redaction", "model", "oci"}
EDGE_TOOLS = {"archive", "blobs", "carry", "notes", "process", "redirects", "storage", "target"}
EDGES = {"probes", "engines", "smoke", "registry", "inventory", "debian", "bytecode", "publish", "attest", "rootless"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "progress": set(),
    "redaction": {"guest"},  # rules that hold on both sides are written where both can read them
    "model": {"errors", "oci"},
    "oci": {"errors"},
    "process": {"errors"},
    "storage": {"errors"},
    "blobs": {"errors", "oci", "storage"},
    "notes": {"storage"},
    "redirects": {"redaction"},
    "target": {"process"},
    "archive": {"errors", "storage"},
    "carry": {"errors", "archive", "target"},
    "settings": {"errors"},
    **{pure: {"errors", "redaction", "model"} for pure in ("lockfile", "catalog", "render", "parity", "compat", "launch")},
    "plan": {"errors", "redaction", "model", "oci"},
    "report": {"errors", "redaction", "model"},
    "layers": {"errors", "model", "oci", "guest"},  # streams in, streams out; RECORD's rules are guest's
    **dict.fromkeys(EDGES, LEAVES | EDGE_TOOLS),
    "probes": LEAVES | EDGE_TOOLS | {"guest"},
    **dict.fromkeys(("inventory", "debian", "bytecode", "rootless"), LEAVES | EDGE_TOOLS | {"layers", "guest"}),
    "workflows": LEAVES | EDGE_TOOLS | EDGES | {"lockfile", "catalog", "plan", "render", "parity", "compat", "layers", "launch"},
    "cli": LEAVES | EDGE_TOOLS | EDGES | {"settings", "report", "workflows", "lockfile"},
    "__main__": {"cli"},
}
HEAVY = {
    "torch",
    "ultralytics",
    "wandb",
    "docker",
    "pynvml",
    "requests",
    "jinja2",
    "rich",
    "pypi_simple",
    "detect_secrets",
    "cryptography",
    "nacl",
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # Where guest scripts run, their package has another name.
            assert node.level == 0 or (node.level == 1 and room(path) == "guest"), f"{path}: relative import"
            found |= {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_directions(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("envsnap.")} - {here, "__version__"}
    allowed = set() if here == "guest" else ALLOWED[here]
    assert ours <= allowed, f"{path.relative_to(PACKAGE)} may not import {sorted(ours - allowed)}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "guest"], ids=lambda p: p.name)
def test_guest_scripts_start_with_the_standard_library_alone(path: Path) -> None:
    top = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0)
        for alias in node.names
    }
    foreign = {name.split(".")[0] for name in top if name} - set(sys.stdlib_module_names)
    assert not foreign


def test_edge_rooms_do_not_see_each_other_and_pure_rooms_touch_no_world() -> None:
    world = {"os", "subprocess", "socket", "shutil", "tempfile", "requests", "docker"}
    for path in modules():
        if room(path) in {"lockfile", "plan", "parity", "compat", "report", "layers", "launch"}:
            assert not {name.split(".")[0] for name in imported(path)} & world, path


def test_only_render_knows_jinja() -> None:
    users = {room(path) for path in modules() if any(name.split(".")[0] == "jinja2" for name in imported(path))}
    assert users == {"render"}


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = "import sys, envsnap.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & HEAVY
