"""The lines that W&B writes as requirements.txt, each with what it can mean; nothing is silently dropped."""

from __future__ import annotations

import re

from msgspec import Struct, ValidationError, convert
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envsnap import redaction
from envsnap.model import kinds

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<extras>\[[^\]]*\])?\s*(?P<rest>.*)\Z")
_VCS = re.compile(r"(?P<vcs>git|hg|svn|bzr)\+(?P<url>[^\s#]+?)(?:@(?P<revision>[^@/\s#]+))?(?:#(?P<fragment>\S*))?\Z")
_MOST_CHARACTERS = 400
"""Of one line. Nothing that an index has is longer, and Python refuses to read numbers of thousands of digits."""
_MOST_OF_NAME = 200
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


class Pinned(Struct, frozen=True, kw_only=True):
    """NAME==VERSION."""

    name: str
    version: str


class FromVcs(Struct, frozen=True, kw_only=True):
    """Attributes: url: without credentials; commit: in full; editable: installed in place."""

    name: str
    vcs: str
    url: str
    commit: str
    subdirectory: str | None = None
    editable: bool = False


class Lost(Struct, frozen=True, kw_only=True):
    """A line that names no package that could be had. Attributes: name: as far as there is one; reason: a clause."""

    name: str | None
    reason: str


def requirement(line: str) -> Pinned | FromVcs | Lost | None:
    """What a line says; None for empty ones and comments."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    if len(line) > _MOST_CHARACTERS:
        return Lost(name=None, reason=f"{len(line)} characters are no requirement")
    if line.startswith(("-e ", "--editable ")):
        return _from_vcs(None, line.partition(" ")[2].strip(), editable=True)
    match = _NAMED.match(line)
    if match is None:
        return Lost(name=None, reason="it names no package")
    name, rest = canonicalize_name(match["name"]), match["rest"].strip()
    if len(name) > _MOST_OF_NAME:
        return Lost(name=None, reason=f"{len(name)} characters are no name")
    if rest.startswith("@"):
        return _from_vcs(name, rest[1:].strip(), editable=False)
    if not rest:
        return Lost(name=name, reason="no version was written down")
    version = rest.removeprefix("===").removeprefix("==").strip() if rest.startswith("==") else None
    if version is None:
        return Lost(name=name, reason="it is not pinned to one version")
    return _pinned(name, version)


def _pinned(name: str, version: str) -> Pinned | Lost:
    try:
        Version(version)
        Requirement(f"{name}=={version}")
        convert(version, kinds.Version)
    except (InvalidVersion, InvalidRequirement, ValidationError):
        return Lost(name=name, reason=f"{redaction.text(version)!r} is no version of Python's: a distribution's own package, perhaps")
    return Pinned(name=name, version=version)


def _from_vcs(name: str | None, address: str, *, editable: bool) -> FromVcs | Lost:
    match = _VCS.match(address)
    if match is None:
        shown = redaction.text(redaction.url(address))
        return Lost(name=name, reason=f"it came from {shown}, which nobody else has" if shown else "it says nothing of where it came from")
    fragment = dict(part.partition("=")[::2] for part in (match["fragment"] or "").split("&"))
    named = name or (canonicalize_name(fragment["egg"].partition("[")[0]) if fragment.get("egg") else None)
    if named is None:
        return Lost(name=None, reason="it does not say which package lies there")
    if match["revision"] is None or not _COMMIT.match(match["revision"]):
        return Lost(name=named, reason=f"{match['revision'] or 'no revision'} names no commit for good: it may have moved")
    return FromVcs(
        name=named,
        vcs=match["vcs"],
        url=redaction.text(redaction.url(match["url"])),
        commit=match["revision"],
        subdirectory=fragment.get("subdirectory") or None,
        editable=editable,
    )
