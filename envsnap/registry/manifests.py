"""Manifests and indexes: read, looked for, written."""

from __future__ import annotations

from envsnap.errors import EngineError
from envsnap.oci.digest import DIGEST
from envsnap.oci.documents import INDEXES, MANIFESTS, Config, Descriptor, Index, Manifest, digest_of, read_config, read_manifest
from envsnap.registry.host import Place

LIMIT_BYTES = 8 << 20
"""Of a manifest, an index or a config; registries must take manifests of 4 MiB."""
_ACCEPT = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}


def get(place: Place, name: str, *, what: str) -> Manifest | Index:
    """What a tag or a digest names.

    Raises:
        EngineError: there is no such thing, or not what its digest says.
    """
    found = find(place, name, what=what)
    if found is None:
        raise EngineError(what, why=f"{place.host.registry} has no {_named(place, name)}", hint="check the name and the tag")
    return found


def find(place: Place, name: str, *, what: str) -> Manifest | Index | None:
    """As `get`; None when the name names nothing."""
    answer = place.read(f"manifests/{name}", limit=LIMIT_BYTES, what=what, good={200, 404}, headers=_ACCEPT)
    if answer.status == 404:
        return None
    expected = name if DIGEST.match(name) else answer.headers.get("Docker-Content-Digest", "")
    found = digest_of(answer.raw)
    if expected and expected != found:
        raise wrong_bytes(place, found, expected, what=what)
    return read_manifest(answer.raw, answer.headers.get("Content-Type", ""), what=what)


def head(place: Place, name: str, *, what: str) -> Descriptor | None:
    """What a registry says that a tag or digest names, without its bytes; None when it names nothing."""
    with place.ask("HEAD", f"manifests/{name}", what=what, good={200, 404}, headers=_ACCEPT) as answer:
        if answer.status == 404:
            return None
        digest, size = answer.headers.get("Docker-Content-Digest", ""), answer.number("Content-Length")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if not DIGEST.match(digest) or size is None:  # it need not say; then its bytes do
        found = get(place, name, what=what)
        return Descriptor(media_type=found.media_type, digest=found.digest, size=len(found.raw))
    if DIGEST.match(name) and digest != name:
        raise wrong_bytes(place, digest, name, what=what)
    return Descriptor(media_type=media_type, digest=digest, size=size)


def put(place: Place, name: str, manifest: Manifest | Index, *, what: str) -> bool:
    """Write a manifest under a tag or its digest.

    Returns:
        Whether the registry took note of its subject (OCI-Subject), and lists it among that one's referrers.

    Raises:
        EngineError: the registry refuses it, or has something else now.
    """
    headers = {"Content-Type": manifest.media_type}
    with place.ask(
        "PUT", f"manifests/{name}", what=what, good={200, 201, 202}, scopes=place.push, headers=headers, body=manifest.raw
    ) as answer:
        claimed = answer.headers.get("Docker-Content-Digest", "")
        noted = bool(answer.headers.get("OCI-Subject"))
    if not claimed:
        there = head(place, name, what=what)
        claimed = there.digest if there is not None else ""
    if claimed != manifest.digest:
        raise wrong_bytes(place, claimed, manifest.digest, what=what)
    return noted


def config_of(place: Place, manifest: Manifest, *, what: str) -> Config:
    """An image's config. Raises EngineError: it cannot be had, or does not belong to that manifest."""
    descriptor = manifest.config
    if descriptor.size > LIMIT_BYTES:
        raise EngineError(what, why=f"{place.host.registry} answered more than {LIMIT_BYTES >> 20} MiB")

    path = f"blobs/{descriptor.digest}"
    raw = place.read(path, limit=LIMIT_BYTES, what=what, good={200}, about=f"{place.repository}@{descriptor.digest}").raw
    if digest_of(raw) != descriptor.digest:
        raise wrong_bytes(place, digest_of(raw), descriptor.digest, what=what)
    config = read_config(raw, what=what)
    if len(config.diff_ids) != len(manifest.layers):
        raise EngineError(what, why=f"its manifest has {len(manifest.layers)} layers and its config {len(config.diff_ids)}")
    return config


def wrong_bytes(place: Place, found: str, expected: str, *, what: str) -> EngineError:
    """Not what a digest says; a mirror is not asked again."""
    place.host.doubted = True
    why = f"{place.host.registry} answered other bytes than their digest says: {found[:19]}…, not {expected[:19]}…"
    return EngineError(what, why=why, hint="something between here and the registry changes what it sends")


def _named(place: Place, name: str) -> str:
    return f"{place.repository}{'@' if DIGEST.match(name) else ':'}{name}"
