"""Secrets stop here: one place decides what a secret looks like and what is left of a URL.

Used where foreign text enters (URLs, variables, a program's output) and where text leaves (logs, reports).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PRIVATE_?KEY|AUTH)(?:_|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{20,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|wandb_v1_[A-Za-z0-9_]{20,}|pypi-[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
)
_URL_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]*@")
REDACTED = "****"


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret (WANDB_API_KEY, HF_TOKEN …)."""
    return _SECRET_NAME.search(name) is not None


def is_secret_value(value: str) -> bool:
    """Whether a value carries a well-known token or credentials in a URL."""
    return _SECRET_VALUE.search(value) is not None or _has_userinfo(value)


def _has_userinfo(value: str) -> bool:
    return any(match.group(0) not in ("ssh://git@", "git+ssh://git@") for match in _URL_USERINFO.finditer(value))


def url(text: str) -> str:
    """A URL without user, password, query and fragment; the fixed user of `ssh://git@` and scp-like addresses stays."""
    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc:
        return text
    user, at, host = parts.netloc.rpartition("@")
    keep = at and parts.scheme in ("ssh", "git+ssh") and user == "git"
    return urlunsplit((parts.scheme, parts.netloc if keep else host, parts.path, "", ""))


def text(value: str) -> str:
    """Free text with every recognisable secret replaced, for logs and reports."""
    value = _URL_USERINFO.sub(lambda m: m.group(0) if m.group(0).endswith("ssh://git@") else f"{m.group('scheme')}{REDACTED}@", value)
    return _SECRET_VALUE.sub(REDACTED, value)
