"""Secrets stop here: one place decides what a secret looks like and what is left of a URL.

Used where foreign text enters (URLs, variables, a program's output) and where text leaves (logs, reports). `find_secrets` is for
what people write themselves, where every name and every template of a URL must not be taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

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


class Secret(NamedTuple):
    """Where something looks like a secret; never its value. Attributes: line: from 1; kind: "GitHub Token"."""

    line: int
    kind: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}"


# Those of detect-secrets whose patterns no ordinary code has: tried on the 140 MB of Python of a training environment, where they take
# one string of a font for a key of AWS, and nothing else. Its guesses by entropy and by names of variables are left out.
_DETECTORS = (
    ("aws", "AWSKeyDetector"),
    ("azure_storage_key", "AzureStorageKeyDetector"),
    ("discord", "DiscordBotTokenDetector"),
    ("github_token", "GitHubTokenDetector"),
    ("gitlab_token", "GitLabTokenDetector"),
    ("jwt", "JwtTokenDetector"),
    ("mailchimp", "MailchimpDetector"),
    ("npm", "NpmDetector"),
    ("openai", "OpenAIDetector"),
    ("private_key", "PrivateKeyDetector"),
    ("pypi_token", "PypiTokenDetector"),
    ("sendgrid", "SendGridDetector"),
    ("slack", "SlackDetector"),
    ("square_oauth", "SquareOAuthDetector"),
    ("stripe", "StripeDetector"),
    ("telegram_token", "TelegramBotTokenDetector"),
    ("twilio", "TwilioKeyDetector"),
)
_ALLOWED = re.compile(r"pragma:\s*(?:allow|white)list[ -]secret", re.IGNORECASE)
_LOGIN = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:'\"`{}<>$%]*:(?P<password>[^\s/@'\"`{}<>$%*]{6,})@[A-Za-z0-9\[]")
_NO_PASSWORD = re.compile(
    r"(?:my|your|the|some|user)?[_-]?(?:password|passwd|pass|secret|token|api[_-]?key|changeme|example|x+)\Z", re.IGNORECASE
)


def find_secrets(text: str) -> tuple[Secret, ...]:
    """What looks like a secret in a file or a patch, in order. A line with `pragma: allowlist secret` is taken at its word."""
    lines = text.splitlines()
    found = {
        Secret(number, kind)
        for kind, value in _suspects(text)
        for number, line in enumerate(lines, 1)
        if value in line and not _ALLOWED.search(line)
    }
    return tuple(sorted(found))


def _suspects(text: str) -> Iterator[tuple[str, str]]:
    """Kind and value of each, the first line of it."""
    yield from (("token", match.group()) for match in _SECRET_VALUE.finditer(text))
    yield from (("password in an address", match.group()) for match in _LOGIN.finditer(text) if not _NO_PASSWORD.match(match["password"]))
    for detector in _detectors():
        yield from ((detector.secret_type, value) for value in detector.analyze_string(text) if value)


@cache
def _detectors() -> tuple[RegexBasedDetector, ...]:
    """Imported when the first text is searched: it takes a tenth of a second."""
    return tuple(getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _DETECTORS)
