"""Addresses as URIs: git also takes forms that are none ("git@host:path"), and a lock's text may hold anything."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from envsnap import redaction

_SCHEMES = frozenset({"http", "https", "ssh", "git", "file", "git+https", "git+http", "git+ssh", "svn+ssh", "svn"})
_AS_SCP = re.compile(r"(?:[^@/:\s]+@)?[^@/:\s]+:(?!//)(?P<path>.+)\Z")
_SAFE = "/:@!$&'()*+,;=~-._?%[]"


def address(text: str) -> str | None:
    """A URI without credentials, "git@host:path" as ssh://git@host/path; None for what leads nowhere from elsewhere (a path)."""
    if "://" not in text:
        found = _AS_SCP.match(text)
        if found is None:
            return None
        text = f"ssh://{text[: found.start('path') - 1]}/{found['path'].lstrip('/')}"
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.scheme == "file"):
        return None
    return quote(redaction.url(text), safe=_SAFE)


def git_address(text: str, commit: str | None) -> str | None:
    """As SPDX writes a place in a repository: "git+https://host/path@commit"."""
    found = address(text)
    if found is None:
        return None
    scheme = found if found.startswith(("git+", "git:")) else f"git+{found}"
    return f"{scheme}@{commit}" if commit is not None else scheme
