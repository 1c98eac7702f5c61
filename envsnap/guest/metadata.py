"""METADATA, WHEEL and direct_url.json."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .text import Problems, clean, reason

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
VERSION = re.compile(r"[A-Za-z0-9!+._~:-]{1,200}\Z")


def normalised(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Headers:
    """The header fields of METADATA, PKG-INFO and WHEEL."""

    def __init__(self, text: str) -> None:
        self._fields: dict[str, list[str]] = {}
        last: list[str] = []
        for line in text.replace("\r\n", "\n").split("\n"):
            if not line:
                break
            if line[0] in " \t":
                if last:
                    last[-1] += "\n" + line.strip()
                continue
            key, colon, value = line.partition(":")
            last = self._fields.setdefault(key.strip().lower(), []) if colon else []
            if colon:
                last.append(value.strip())

    def one(self, name: str) -> str:
        return (self._fields.get(name) or [""])[0]

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])


def identity(headers: Headers, metadata_dir: str, where: str, problems: Problems) -> tuple[str, str] | None:
    """Normalised name and version; what METADATA does not say is taken from the directory's name, and named as a problem."""
    stem = re.sub(r"(?:-py[0-9.]+[^-]*)?\.(?:dist-info|egg-info|egg)\Z", "", os.path.basename(metadata_dir))
    name, _, version = stem.partition("-")
    found = []
    for field, pattern, fallback in (("Name", NAME, name), ("Version", VERSION, version)):
        value = headers.one(field.lower())
        if not pattern.match(value):
            problems.add(where, f"has no usable {field}" + (f" ({value!r})" if value else ""))
            value = fallback
        if not pattern.match(value):
            problems.add(where, f"is left out: neither it nor its directory says a {field.lower()}")
            return None
        found.append(value)
    return normalised(found[0]), found[1]


def wheel_tags(headers: Headers) -> list[str]:
    """Tag lines in order, compressed sets ("py2.py3-none-any") expanded."""
    tags: list[str] = []
    for line in headers.all("tag"):
        parts = line.split("-")
        if len(parts) == 3:
            pythons, abis, platforms = (part.split(".") for part in parts)
            tags += [f"{python}-{abi}-{platform}" for python in pythons for abi in abis for platform in platforms]
    return list(dict.fromkeys(tags))


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment; the fixed user of ssh://git@ stays."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    keep = user == "git" and parts.scheme in ("ssh", "git+ssh")
    return urlunsplit((parts.scheme, parts.netloc if keep else host, parts.path, "", ""))


def read_direct_url(text: str, where: str, problems: Problems) -> dict[str, Any] | None:
    try:
        value = clean(json.loads(text, parse_constant=refuse_constant))
        if not isinstance(value, dict) or not isinstance(value.get("url"), str):
            raise ValueError("no object with a url")
        return {**value, "url": public_url(value["url"])}
    except (ValueError, RecursionError) as error:
        problems.add(where, f"is not a direct_url document: {reason(error)}")
        return None


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
