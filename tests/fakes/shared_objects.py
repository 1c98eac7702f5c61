"""Small shared objects of a real compiler, with symbols under whatever names."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

TENSOR, EMPTY = "_ZN2at6TensorC1Ev", "_ZN2at5emptyEN3c108ArrayRefIlEE"
ERROR, VTABLE = "_ZN3c105ErrorC1ESs", "_ZTVN3c104impl15DeviceGuardImplE"
WRAP = "THPVariable_Wrap"


def shared_object(
    place: Path,
    *,
    defines: Sequence[str] = (),
    needs: Sequence[str] = (),
    may_need: Sequence[str] = (),
    libraries: Sequence[str] = (),
    room: int = 0,
    flags: str = "a",
) -> Path:
    """Args:
    needs, may_need: symbols that stay undefined; the latter are weak.
    libraries: sonames that it needs.
    room: bytes between its tables and the end. flags: of their section, "a" or "ax" for code.
    """
    functions = [f'void defined{n}(void) __asm__("{name}"); void defined{n}(void) {{}}' for n, name in enumerate(defines)]
    weak = "__attribute__((weak))"
    calls = [(f"needed{n}", name, "") for n, name in enumerate(needs)] + [(f"maybe{n}", name, weak) for n, name in enumerate(may_need)]
    externals = [f'extern void {call}(void) __asm__("{name}") {attribute};' for call, name, attribute in calls]
    uses = f"void *used[] = {{ {', '.join(call for call, _, _ in calls) or '0'} }};"
    gap = f'__asm__(".section .room,\\"{flags}\\"\\n.zero {room}\\n.previous");' if room else ""
    place.parent.mkdir(parents=True, exist_ok=True)
    stubs = [_stub(place.parent / "stubs" / soname, soname) for soname in libraries]
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-o",
        str(place),
        "-x",
        "c",
        "-",
        "-x",
        "none",
        "-Wl,--no-as-needed",
        *map(str, stubs),
    ]
    subprocess.run(command, input="\n".join([*functions, *externals, uses, gap]).encode(), check=True)
    return place


def _stub(place: Path, soname: str) -> Path:
    place.parent.mkdir(exist_ok=True)
    subprocess.run(["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{soname}", "-o", str(place), "-x", "c", "-"], input=b"", check=True)
    return place
