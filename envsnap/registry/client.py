"""Asking a registry about a base image without pulling it: a reader of manifests and configs, and nothing more.

Every byte is held against its digest before it is believed, and nothing is read past a size that no honest answer needs.
Specification: the OCI distribution and image specifications, and Docker's manifest v2 schema 2.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envsnap import redaction
from envsnap.errors import EngineError, innermost
from envsnap.model.base import ImageConfig
from envsnap.model.kinds import ARCHITECTURES
from envsnap.oci.reference import Reference, api_host, is_loopback, parse_reference

if TYPE_CHECKING:
    import requests

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CLIENT_ID = "envsnap"  # what a token server is told when it trades an identity token
_LIMIT_BYTES = 8 << 20
_TIMEOUT_S = (10, 30)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryImage:
    """What a registry says of an image for one platform.

    Attributes:
        reference: as it was asked for, without a digest.
        digest: of what the tag names, an index where there are several platforms: this is what to pin.
        manifest_digest, config_digest: of the platform's image.
        config: its `size_bytes` is the sum of the compressed layers.
        layers: how many.
    """

    reference: str
    digest: str
    manifest_digest: str
    config_digest: str
    config: ImageConfig
    layers: int


class Registry:
    """Looks images up. Credentials are docker's own: its configuration file and credential helpers."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)

    def resolve(self, reference: str, *, machine: str) -> RegistryImage:
        """What `reference` names for a machine ("x86_64", "aarch64").

        Raises:
            EngineError: no such image, access denied, no answer, an answer that is not what its digest says, or none for
                that machine.
        """
        import requests

        parsed = parse_reference(reference)
        what = f"cannot look up {reference}"
        try:
            with requests.Session() as session:
                return _resolve(_Connection(session, parsed, self._env, what), parsed, reference, machine)
        except requests.RequestException as error:
            raise EngineError(
                what,
                why=f"{parsed.registry} does not answer: {redaction.text(innermost(error))}",
                hint="check the network, the proxy and the CA bundle (SSL_CERT_FILE)",
            ) from error


def _resolve(connection: _Connection, parsed: Reference, reference: str, machine: str) -> RegistryImage:
    digest, document = connection.manifest(parsed.digest or parsed.tag)
    manifest_digest = digest
    if document.get("mediaType") in _INDEXES or "manifests" in document:
        manifest_digest = _pick(document, machine, reference)
        _, document = connection.manifest(manifest_digest)
    layers = [entry for entry in _sequence(document, "layers") if isinstance(entry, dict)]
    config_digest = str((document.get("config") or {}).get("digest", ""))
    if not layers or not _DIGEST.match(config_digest):
        raise EngineError(connection.what, why="its manifest is of a kind that is too old or no image's")
    raw = connection.blob(config_digest)
    sizes = [layer.get("size") for layer in layers]
    size = sum(item for item in sizes if isinstance(item, int)) if all(isinstance(item, int) for item in sizes) else None
    config = _image_config(parse_object(raw, connection.what), size)
    wanted = ARCHITECTURES.get(machine, machine)
    if config.architecture != wanted:
        raise EngineError(f"{reference} is not made for {machine}", why=f"it is for {config.os}/{config.architecture}")
    return RegistryImage(
        reference=reference.partition("@")[0],
        digest=digest,
        manifest_digest=manifest_digest,
        config_digest=config_digest,
        config=config,
        layers=len(layers),
    )


def _pick(index: Mapping[str, Any], machine: str, reference: str) -> str:
    """The digest of the manifest for Linux on `machine`."""
    wanted = ARCHITECTURES.get(machine, machine)
    offered: list[str] = []
    for entry in _sequence(index, "manifests"):
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict) or not _DIGEST.match(str(entry.get("digest", ""))):
            continue
        if platform.get("os") == "linux" and platform.get("architecture") == wanted:
            return str(entry["digest"])
        if platform.get("os") != "unknown":  # how attestations are listed
            offered.append(f"{platform.get('os')}/{platform.get('architecture')}")
    raise EngineError(f"{reference} is not made for {machine}", why=f"it is for {', '.join(sorted(set(offered))) or 'no platform at all'}")


def _sequence(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise EngineError(what, why="the registry's answer is not JSON") from error
    if not isinstance(document, dict):
        raise EngineError(what, why="the registry's answer is not a JSON object")
    return document


def _image_config(document: Mapping[str, Any], size: int | None) -> ImageConfig:
    config = document.get("config") or {}
    return ImageConfig(
        architecture=str(document.get("architecture", "")),
        os=str(document.get("os", "linux")),
        env=dict(str(entry).split("=", 1) for entry in _sequence(config, "Env") if "=" in str(entry)),
        labels={str(name): str(value) for name, value in (config.get("Labels") or {}).items()},
        entrypoint=tuple(map(str, _sequence(config, "Entrypoint"))),
        cmd=tuple(map(str, _sequence(config, "Cmd"))),
        workdir=str(config.get("WorkingDir") or ""),
        user=str(config.get("User") or ""),
        size_bytes=size,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credentials:
    user: str = ""
    password: str = ""
    identity_token: str = ""


def _credentials(registry: str, env: Mapping[str, str], what: str) -> _Credentials:
    """What docker's configuration file or its credential helper has for a registry; empty where they have nothing."""
    from docker import auth
    from docker.errors import DockerException

    place = str(Path(env["DOCKER_CONFIG"], "config.json")) if env.get("DOCKER_CONFIG") else None
    try:
        found = auth.load_config(place).resolve_authconfig(registry) or {}
    except (DockerException, OSError, ValueError) as error:
        why = f"docker's credentials for {registry} cannot be read: {redaction.text(str(error))}"
        raise EngineError(what, why=why, hint=f"docker login {registry}") from error
    entry = {name.lower(): value or "" for name, value in found.items()}
    return _Credentials(user=entry.get("username", ""), password=entry.get("password", ""), identity_token=entry.get("identitytoken", ""))


class _Connection:
    """Requests to one repository, with the token that they need."""

    def __init__(self, session: requests.Session, reference: Reference, env: Mapping[str, str], what: str) -> None:
        self.what = what
        self._session = session
        self._reference = reference
        self._env = env
        self._loopback = is_loopback(reference.registry)
        self._base = f"{'http' if self._loopback else 'https'}://{api_host(reference.registry)}/v2/{reference.repository}"
        self._authorization = ""
        self._verify = env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE") or env.get("SSL_CERT_FILE") or True

    def manifest(self, name: str) -> tuple[str, dict[str, Any]]:
        """The manifest or index under a tag or digest, and its digest."""
        raw, headers = self._get(f"{self._base}/manifests/{name}", accept=", ".join((*_INDEXES, *_MANIFESTS)))
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        self._expect(name if name.startswith("sha256:") else headers.get("Docker-Content-Digest", digest), digest)
        return digest, parse_object(raw, self.what)

    def blob(self, digest: str) -> bytes:
        raw, _ = self._get(f"{self._base}/blobs/{digest}", accept="*/*")
        self._expect(digest, "sha256:" + hashlib.sha256(raw).hexdigest())
        return raw

    def _expect(self, claimed: str, found: str) -> None:
        if claimed != found:
            why = f"{self._reference.registry} answered other bytes than their digest says: {found[:19]}…, not {claimed[:19]}…"
            raise EngineError(self.what, why=why, hint="something between here and the registry changes what it sends")

    def _get(self, url: str, *, accept: str) -> tuple[bytes, Mapping[str, str]]:
        status, raw, headers = self._ask(url, accept)
        if status == 401:
            self._authorization = self._authenticate(headers.get("WWW-Authenticate", ""))
            status, raw, headers = self._ask(url, accept)
        registry, name = self._reference.registry, self._reference
        if status in (401, 403):
            hint = f"docker login {registry}   or check the name: some registries say this of what does not exist"
            raise EngineError(self.what, why=f"{registry} denies access to {name.repository}", hint=hint)
        if status == 404:
            named = name.repository + (f"@{name.digest}" if name.digest else f":{name.tag}")
            raise EngineError(self.what, why=f"{registry} has no {named}", hint="check the name and the tag")
        if status != 200:
            raise EngineError(self.what, why=f"{registry} answered with HTTP {status}", hint="try again later")
        return raw, headers

    def _ask(self, url: str, accept: str) -> tuple[int, bytes, Mapping[str, str]]:
        with self._session.get(
            url, headers={"Accept": accept}, auth=self._authorize, verify=self._verify, timeout=_TIMEOUT_S, stream=True
        ) as response:
            for step in (*response.history, response):
                self._require_safe(step.url)
            raw = bytearray()
            if response.status_code == 200:
                for chunk in response.iter_content(1 << 16):
                    raw += chunk
                    if len(raw) > _LIMIT_BYTES:
                        raise EngineError(self.what, why=f"{self._reference.registry} answered more than {_LIMIT_BYTES >> 20} MiB")
            return response.status_code, bytes(raw), response.headers

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    def _require_safe(self, url: str) -> None:
        """Plain HTTP is for a registry on this machine, and only while it stays there."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (self._loopback and is_loopback(parts.netloc)):
            raise EngineError(self.what, why=f"{self._reference.registry} leads to {redaction.url(url)}, which is not encrypted")

    def _authenticate(self, challenge: str) -> str:
        """The Authorization header that the registry's challenge asks for; "" when there is nothing to give."""
        known = _credentials(self._reference.registry, self._env, self.what)
        basic = "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode("ascii") if known.user else ""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        if scheme.lower() == "basic":
            return basic
        if scheme.lower() != "bearer" or "realm" not in asked:
            return ""
        self._require_safe(asked["realm"])
        about = {"service": asked.get("service", ""), "scope": asked.get("scope") or f"repository:{self._reference.repository}:pull"}
        if known.identity_token:
            self._authorization = ""
            form = {**about, "grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": _CLIENT_ID}
            return self._token("POST", asked["realm"], form=form)
        self._authorization = basic
        return self._token("GET", asked["realm"], query=about)

    def _token(self, method: str, realm: str, *, query: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None) -> str:
        with self._session.request(
            method,
            realm,
            params=query,
            data=form,
            auth=self._authorize,
            verify=self._verify,
            timeout=_TIMEOUT_S,
            allow_redirects=False,
            stream=True,
        ) as response:
            if response.status_code != 200:
                return ""
            answer = parse_object(response.raw.read(_LIMIT_BYTES, decode_content=True), self.what)
        token = answer.get("token") or answer.get("access_token")
        return f"Bearer {token}" if isinstance(token, str) else ""
