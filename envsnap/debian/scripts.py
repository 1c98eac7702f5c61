"""Whether a package's maintainer scripts matter when it is installed afresh (Debian Policy 6), told without running them.

A script is read as text. What debhelper generated is judged by the tool that generated it, what does nothing is dropped, and what is left
must be a text that was read by a person (`reviewed.yaml`, by its hash). Anything else needs a shell: a wrong "harmless" would be a broken
image, a wrong "matters" costs time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files

import msgspec

from envsnap.debian.deb import Deb

_SECTION = re.compile(
    r"^# Automatically added by (?P<tool>[^/\n]+)[^\n]*\n.*?^# End automatically added section$\n?", re.MULTILINE | re.DOTALL
)
_HARMLESS_TOOLS = {
    "dh_installdeb": "dpkg-maintscript-helper, which acts on upgrades",
    "dh_makeshlibs": "ldconfig",
    "dh_python3": "byte code",
    "dh_installinit": "links for an init that no container has",
    "dh_installsystemd": "units for an init that no container has",
    "dh_systemd_enable": "units for an init that no container has",
    "dh_systemd_start": "units for an init that no container has",
    "dh_installsystemduser": "units for an init that no container has",
    "dh_icons": "a cache of icons, where something makes one",
    "dh_installmenu": "update-menus, where there is one",
}
_NOTHING = re.compile(r"(?:set -e[ux]*|exit 0|:|\}?\s*;?)\Z")
_SKELETON = re.compile(
    r"case [\"']?\$\{?1\}?[\"']? in\n"
    r"(?:\(?[a-z|\-\\\n ]+\)(?:\n:)?\n?;;\n)*"
    r"(?:\(?\*\)\n(?:echo [^\n]*\n(?:exit [01]\n)?|exit 0\n)?;;\n)?esac(?:\n|\Z)"
)
_BYTE_CODE = re.compile(r"if (?:which|command -v) py3compile >/dev/null(?: 2>&1)?; then\npy3compile [^\n;&|]*\nfi(?:\n|\Z)")
_SCRIPTS = ("preinst", "postinst", "config")
_HARMLESS_TRIGGERS = {"ldconfig"}
_ACTIVATING = {"activate", "activate-await", "activate-noawait"}

_WATCHED: Mapping[str, re.Pattern[str]] = {
    "libglib2.0-0": re.compile(r"usr/share/glib-2\.0/schemas/|usr/lib/[^/]+/gio/modules/[^/]+\.so"),
    "libglib2.0-0t64": re.compile(r"usr/share/glib-2\.0/schemas/|usr/lib/[^/]+/gio/modules/[^/]+\.so"),
    "libgdk-pixbuf-2.0-0": re.compile(r"usr/lib/[^/]+/gdk-pixbuf-2\.0/2\.10\.0/loaders/"),
    "shared-mime-info": re.compile(r"usr/share/mime/packages/"),
    "libgtk-3-0": re.compile(r"usr/lib/[^/]+/gtk-3\.0/3\.0\.0/immodules/"),
}
"""Packages that make something of other packages' files (dpkg's file triggers), and of which files."""


class _Reviewed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Attributes: seen: package and script where it was read; because: why it is harmless; text: for who reads it again."""

    sha256: str
    seen: str
    because: str


@cache
def _reviewed() -> Mapping[str, _Reviewed]:
    rows = msgspec.yaml.decode((files(__package__) / "reviewed.yaml").read_bytes(), type=tuple[_Reviewed, ...])
    return {row.sha256: row for row in rows}


def matter(deb: Deb) -> Iterator[str]:
    """Why a package cannot be unpacked alone, a clause each; none when it can."""
    for script in _SCRIPTS:
        reason = _script(deb.text(script))
        if reason:
            yield f"its {script} {reason}"
    for line in deb.text("triggers").splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2 and words[0] in _ACTIVATING and words[1] not in _HARMLESS_TRIGGERS:
            yield f"it triggers {words[1]}"


def watched(paths: Iterable[str], present: Collection[str]) -> Iterator[str]:
    """Which packages, of those that are or will be there, would have work with new files; a clause each."""
    watching = {name: pattern for name, pattern in _WATCHED.items() if name in present}
    if not watching:
        return
    seen: set[str] = set()
    for path in paths:
        for name, pattern in watching.items():
            if name not in seen and pattern.match(path):
                seen.add(name)
                yield f"{name} has to process its {path}"


def residue(script: str) -> str:
    """What is left of a script that is not known to be harmless; lines without indentation, "" for nothing."""
    kept = _SECTION.sub(lambda found: "" if found["tool"] in _HARMLESS_TOOLS else found[0], script)
    lines = [line.strip() for line in kept.splitlines()]
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    text = _BYTE_CODE.sub("", _SKELETON.sub("", text + "\n"))
    return "\n".join(line for line in text.splitlines() if not _NOTHING.match(line))


def fingerprint(left: str) -> str:
    """What names a residue in `reviewed.yaml`: its SHA-256, the names of architectures left out."""
    neutral = re.sub(r"\b(?:x86_64|aarch64|amd64|arm64)\b", "ARCH", left)
    return hashlib.sha256(neutral.encode()).hexdigest()


def _script(script: str) -> str:
    if not script:
        return ""
    first = script.splitlines()[0]
    if first.startswith("#!") and not re.match(r"#!\s*/?bin/(?:sh|bash|dash)\b", first):
        return f"is for {first.removeprefix('#!').strip()}"
    left = residue(script)
    if not left or fingerprint(left) in _reviewed():
        return ""
    section = _SECTION.search(script)
    tools = [found["tool"] for found in _SECTION.finditer(script) if found["tool"] not in _HARMLESS_TOOLS]
    if tools and section is not None and not residue(_SECTION.sub("", script)):
        return f"does what {' and '.join(dict.fromkeys(tools))} generated"
    return f"does more than unpacking ({_telling(left)})"


def _telling(left: str) -> str:
    """The first line that looks like a command of consequence."""
    dull = re.compile(r"(?:if|then|else|elif|fi|case|esac|for|do|done|while|local|return|echo|\S+\)|\S+\s*\(\)|\{|;;|[A-Za-z_]+=)")
    lines = [line for line in left.splitlines() if not dull.match(line)] or left.splitlines()
    return lines[0][:60]
