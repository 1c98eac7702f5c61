"""What a registry is shown: tokens, fetched with docker's own credentials and renewed when they run out.

Specifications: Docker's token and OAuth2 authentication for registries; RFC 7235 for the challenge.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from envsnap import redaction
from envsnap.errors import EngineError
from envsnap.oci.documents import parse_object
from envsnap.registry.patience import Attempts, Trouble
from envsnap.registry.wire import Answer, Wire

Scopes = frozenset[str]
"""What a request is for: "repository:team/image:pull,push"."""

_CLIENT_ID = "envsnap"  # what a token server is told when it trades an identity token
_LIMIT_BYTES = 1 << 20
_LIFETIME_S = 60  # of a token that does not say
_LONGEST_S = 24 * 3600  # whatever it says
_TOKEN = re.compile(r"[!-~]+\Z")  # what a header can hold
_SCHEME = re.compile(r"(?:^|,)\s*(bearer|basic)(?=\s|,|$)", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*"([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        """As an Authorization header; "" without a user."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii") if self.user else ""


def credentials(registry: str, env: Mapping[str, str], what: str) -> Credentials:
    """What docker's configuration file or its credential helper has for a registry; empty where they have nothing.

    Raises:
        EngineError: they cannot be read.
    """
    from docker import auth
    from docker.errors import DockerException

    place = str(Path(env["DOCKER_CONFIG"], "config.json")) if env.get("DOCKER_CONFIG") else None
    try:
        found = auth.load_config(place).resolve_authconfig(registry) or {}
    except (DockerException, OSError, ValueError) as error:
        why = f"docker's credentials for {registry} cannot be read: {redaction.text(str(error))}"
        raise EngineError(what, why=why, hint=f"docker login {registry}") from error
    entry = {name.lower(): value or "" for name, value in found.items()}
    return Credentials(user=entry.get("username", ""), password=entry.get("password", ""), identity_token=entry.get("identitytoken", ""))


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a registry wants to be asked. Attributes: realm: where tokens come from; "" for Basic."""

    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(header: str) -> Challenge | None:
    """The best of what a WWW-Authenticate header offers: a token, else a password; None for neither."""
    marks = list(_SCHEME.finditer(header))
    ends = [*(mark.start() for mark in marks), len(header)][1:]
    offers = {mark[1].lower(): dict(_PARAMETER.findall(header[mark.end() : end])) for mark, end in zip(marks, ends, strict=False)}
    if offers.get("bearer", {}).get("realm"):
        bearer = {name.lower(): value for name, value in offers["bearer"].items()}
        return Challenge(realm=bearer["realm"], service=bearer.get("service", ""), scope=bearer.get("scope", ""))
    return Challenge() if "basic" in offers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    header: str
    until: float


class Authorizer:
    """The Authorization headers of one registry; usable from many threads, of which one fetches a token for all.

    Args:
        require_safe: raises for a place that must not be shown a password.
    """

    def __init__(self, registry: str, wire: Wire, env: Mapping[str, str], require_safe: Callable[[str, str], None]) -> None:
        self._registry = registry
        self._wire = wire
        self._env = env
        self._require_safe = require_safe
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Scopes, what: str) -> str:
        """What to send for these scopes; "" as long as nothing was asked for, or when there is nothing to give.

        Raises:
            EngineError: credentials cannot be read, or tokens come from an unencrypted place.
            Trouble: no token came.
        """
        with self._lock:
            token = self._tokens.get(scopes)
            if token is not None and time.monotonic() < token.until:
                return token.header
            return self._fetch(self._challenge, scopes, what) if self._challenge is not None else ""

    def renew(self, scopes: Scopes, header: str, refused: str, what: str) -> bool:
        """Take note of a 401; returns whether there is something to show now that was not shown.

        Args:
            header: WWW-Authenticate.
            refused: the Authorization that it answers.

        Raises:
            EngineError, Trouble: as `header`.
        """
        with self._lock:
            token = self._tokens.get(scopes)
            if token is not None and token.header != refused:  # another thread was here
                return True
            challenge = parse_challenge(header)
            if challenge is None:
                return False
            self._challenge = replace(challenge, scope="")  # its scope is of this request: others may be refused for it
            self._tokens.pop(scopes, None)
            fetched = self._fetch(challenge, scopes, what)
            return bool(fetched) and (fetched != refused or bool(challenge.realm))

    def _fetch(self, challenge: Challenge, scopes: Scopes, what: str) -> str:
        """A header for these scopes, remembered; "" when the registry's token server gives nothing."""
        known = credentials(self._registry, self._env, what)
        if not challenge.realm:
            token = _Token(header=known.basic, until=float("inf"))
        else:
            self._require_safe(challenge.realm, what)
            token = self._token(challenge, scopes, known, what)
        if token.header:
            self._tokens[scopes] = token
        return token.header

    def _token(self, challenge: Challenge, scopes: Scopes, known: Credentials, what: str) -> _Token:
        wanted = sorted({*scopes, *(scope for scope in challenge.scope.split() if not _covered(scope, scopes))})
        asked = time.monotonic()
        raw = self._answer(challenge, wanted, known)
        document = parse_object(raw, what=what) if raw is not None else {}
        value = document.get("token") or document.get("access_token")
        lifetime = document.get("expires_in")
        seconds = min(lifetime, _LONGEST_S) if isinstance(lifetime, int) and lifetime > 0 else _LIFETIME_S
        return _Token(header=f"Bearer {value}" if isinstance(value, str) and _TOKEN.match(value) else "", until=asked + 0.9 * seconds)

    def _answer(self, challenge: Challenge, scopes: list[str], known: Credentials) -> bytes | None:
        """What the token server says; None when it says no."""
        attempts = Attempts(self._wire.patience, self._wire.pause)
        while True:
            try:
                with self._ask(challenge, scopes, known) as answer:
                    if trouble := answer.later():
                        raise trouble
                    return answer.body(_LIMIT_BYTES) if answer.status == 200 else None
            except Trouble as trouble:
                attempts.failed(trouble)

    def _ask(self, challenge: Challenge, scopes: list[str], known: Credentials) -> Answer:
        if known.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": known.identity_token,
                "service": challenge.service,
                "scope": " ".join(scopes),
                "client_id": _CLIENT_ID,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._wire.send("POST", challenge.realm, headers=headers, body=urlencode(form).encode("ascii"))
        query = urlencode([("service", challenge.service), *(("scope", scope) for scope in scopes)])
        url = f"{challenge.realm}{'&' if '?' in challenge.realm else '?'}{query}"
        return self._wire.send("GET", url, headers={"Authorization": known.basic} if known.basic else {})


def _covered(scope: str, scopes: Scopes) -> bool:
    """Whether a scope is among those, whatever the order of its actions."""
    name, _, actions = scope.rpartition(":")
    return any(one.rpartition(":")[0] == name and set(actions.split(",")) <= set(one.rpartition(":")[2].split(",")) for one in scopes)
