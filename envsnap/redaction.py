"""Secrets stop here: one place decides what a secret looks like and what is left of a URL.

Used where foreign text enters (URLs, variables, a program's output) and where text leaves (logs, reports). `find_secrets` is for
what people write themselves, where every name and every template of a URL must not be taken for one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

# The rules that hold where the environment is hold here, too.
from envsnap.guest.variables import FIXED_USERS, SECRET_NAME, SECRET_VALUE, URL_USERINFO

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

# Without a word's edge before it, which an escaped line end ("\\nhf_…") or address ("%3Dghp_…") takes away, and with more kinds:
# what the host knows on top of the guest's rules.
_TOKEN = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{20,}"
    r"|A(?:KI|SI|BI|CC)A[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|wandb_v1_[A-Za-z0-9_]{20,}|pypi-AgE[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36}"
    r"|sk-(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{30,}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[rs]k_live_[A-Za-z0-9]{24,}"
    r"|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"
)
# The key of W&B that is forty digits and nothing else; a commit of its repository stands after an @.
_WANDB_KEY = re.compile(
    r"(?P<before>wandb[^\n@]{0,60}?(?:key|login|password|relogin)[^\n@]{0,16}?)(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", re.IGNORECASE
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_AUTHORIZATION = re.compile(r"(?P<before>\bauthorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?)[^\s'\",;]+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<before>(?<![A-Za-z0-9])(?:[A-Za-z0-9]+_)*(?:API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PRIVATE_?KEY)(?:_[A-Za-z0-9]+)*"
    r"=['\"]?)[^\s&'\",;]{6,}",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://[^\s/'\"]*@")  # whatever stands before the scheme, and to the last @: a password may hold one
_RANDOM = re.compile(r"(?:\A|(?<=[^A-Za-z0-9]))(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{16,}(?![A-Za-z0-9])")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
REDACTED = "****"


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret (WANDB_API_KEY, HF_TOKEN …)."""
    return SECRET_NAME.search(name) is not None


def is_secret_value(value: str) -> bool:
    """Whether a value carries a well-known token or credentials in a URL."""
    return any(pattern.search(value) for pattern in (SECRET_VALUE, _TOKEN, _PRIVATE_KEY)) or _has_userinfo(value)


def _has_userinfo(value: str) -> bool:
    return any(match.group(0) not in FIXED_USERS for match in URL_USERINFO.finditer(value))


def url(text: str) -> str:
    """A URL without user, password, query and fragment; the fixed user of `ssh://git@` and scp-like addresses stays."""
    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc:
        return text
    user, at, host = parts.netloc.rpartition("@")
    keep = at and parts.scheme in ("ssh", "git+ssh") and user == "git"
    return urlunsplit((parts.scheme, parts.netloc if keep else host, parts.path, "", ""))


def is_random(segment: str) -> bool:
    """Whether a part of a URL's path may be a token of no known form, as some hosts put one there: long, letters and digits mixed."""
    return _RANDOM.search(segment) is not None or _UUID.match(segment) is not None


def shown_url(text: str) -> str:
    """`url`, for people: without what may be a token in its path, too. Nothing is found there any more."""
    parts = urlsplit(url(text))
    if not parts.netloc:
        return text
    kept = (REDACTED if is_random(segment) or is_secret_value(segment) else segment for segment in parts.path.split("/"))
    return urlunsplit(parts._replace(path="/".join(kept)))


def text(value: str) -> str:
    """Free text with every recognisable secret replaced, for logs and reports."""
    value = _USERINFO.sub(lambda m: m[0] if m[0] == "://git@" and m.string.startswith("ssh", m.start() - 3) else f"://{REDACTED}@", value)
    for pattern in (_PRIVATE_KEY, SECRET_VALUE, _TOKEN):
        value = pattern.sub(REDACTED, value)
    for pattern in (_WANDB_KEY, _AUTHORIZATION, _ASSIGNED):
        value = pattern.sub(rf"\g<before>{REDACTED}", value)
    return value


class Secret(NamedTuple):
    """Where something looks like a secret; never its value. Attributes: line: from 1, 0 in what has no lines; kind: "GitHub Token"."""

    line: int
    kind: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.kind}" if self.line else self.kind


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
_WIDE = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_ALLOWED = re.compile(r"pragma:\s*(?:allow|white)list[ -]secret", re.IGNORECASE)
_LOGIN = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:'\"`{}<>$%]*:(?P<password>[^\s/@'\"`{}<>$%*]{6,})@[A-Za-z0-9\[]")
_NO_PASSWORD = re.compile(
    r"(?:my|your|the|some|user)?[_-]?(?:password|passwd|pass|secret|token|api[_-]?key|changeme|example|x+)\Z", re.IGNORECASE
)


def find_secrets(text: str) -> tuple[Secret, ...]:
    """What looks like a secret in a file or a patch, in order. A line with `pragma: allowlist secret` is taken at its word."""
    hits = [search for search in _searches() if next(search(text), None) is not None]  # mostly none, and the lines need no look
    if not hits:
        return ()
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if not _ALLOWED.search(line)]
    return tuple(sorted({Secret(number, kind) for search in hits for number, line in lines for kind in search(line)}))


def find_secrets_in(data: bytes) -> tuple[Secret, ...]:
    """`find_secrets` of a file's bytes. What is no text is searched for tokens alone: compiled code holds the marks of key files."""
    for mark, encoding in _WIDE.items():
        if data.startswith(mark):
            return find_secrets(data.decode(encoding, "replace"))
    text = data.decode("latin-1")  # what is looked for is ASCII, and lines end alike
    if "\0" in text[:8192]:
        return (Secret(0, "token"),) if _TOKEN.search(text) else ()
    return find_secrets(text)


_Search: TypeAlias = Callable[[str], Iterator[str]]
"""The kinds that a text holds, one for each find."""


def _tokens(text: str) -> Iterator[str]:
    return ("token" for _ in _TOKEN.finditer(text))


def _wandb_keys(text: str) -> Iterator[str]:
    return ("W&B key" for _ in _WANDB_KEY.finditer(text))


def _logins(text: str) -> Iterator[str]:
    return ("password in an address" for match in _LOGIN.finditer(text) if not _NO_PASSWORD.match(match["password"]))


def _detected(detector: RegexBasedDetector, text: str) -> Iterator[str]:
    return (detector.secret_type for value in detector.analyze_string(text) if value)


@cache
def _searches() -> tuple[_Search, ...]:
    """detect-secrets is imported when the first text is searched: it takes a tenth of a second."""
    detectors = (getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _DETECTORS)
    return (_tokens, _wandb_keys, _logins, *(partial(_detected, detector) for detector in detectors))
