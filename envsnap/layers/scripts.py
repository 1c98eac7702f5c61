"""The scripts of a wheel: those that entry points ask for, and those that it brings.

Specifications: entry points, and the binary distribution format ("Recommended installer features"), of the Python Packaging User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

SHEBANG = b"#!python"
"""How a script of a wheel begins that wants the interpreter's path; "#!pythonw" is for other systems and means the same."""

_SECTIONS = ("console_scripts", "gui_scripts")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+ -]*[A-Za-z0-9_+-])?\Z")
_OBJECT = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*:\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*(?:\[[^\[\]]*\])?\Z")
_WRAPPER = re.compile(r"(?:\.exe|-script\.py|\.pya)\Z", re.IGNORECASE)


def entry_point_scripts(text: str, interpreter: str, python: str) -> Mapping[str, bytes]:
    """Name -> script of each entry point for the shell.

    Args:
        text: of entry_points.txt.
        interpreter: absolute path of what runs them.
        python: "3.11".

    Raises:
        ValueError: one of them is none; its text is a clause.
    """
    scripts = {}
    for name, value in _entry_points(text):
        match = _OBJECT.match(value)
        if not _NAME.match(name) or match is None:
            raise ValueError(f"its entry point {name!r} = {value[:80]!r} is none that a script can be made for")
        module, attribute = match.groups()
        scripts[name] = (
            f"#!{interpreter}\nimport sys\n\nfrom {module} import {attribute.partition('.')[0]}\n\n"
            f'if __name__ == "__main__":\n    sys.exit({attribute}())\n'
        ).encode()
    if "pip" in scripts:  # its wheel names the version of Python that it was built with; every installer puts that right
        scripts = {name: data for name, data in scripts.items() if not re.match(r"pip[0-9]+(\.[0-9]+)?\Z", name)}
        scripts |= dict.fromkeys((f"pip{python.partition('.')[0]}", f"pip{python}"), scripts["pip"])
    return scripts


def _entry_points(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section in _SECTIONS and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def wraps(file_name: str, names: Mapping[str, bytes]) -> bool:
    """Whether a script in a wheel is one that was made for an entry point where the wheel was built: it gives way to ours."""
    return _WRAPPER.sub("", file_name) in names


def with_interpreter(script: bytes, interpreter: str) -> bytes:
    """A script that begins with `SHEBANG`, for an interpreter: the whole first line is another, as pip does it."""
    return b"#!" + interpreter.encode() + b"\n" + script.partition(b"\n")[2]
