"""What is attached to an image: the referrers API of OCI distribution 1.1, and the tag that stands in for it.

A registry without the API (docker-registry 2.8, GHCR) is given an index under the tag "sha256-<hex>" of the subject, which whoever attaches
something has to keep; the specification calls it the referrers tag schema.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from urllib.parse import quote

from envsnap.errors import EngineError
from envsnap.oci.documents import OCI_INDEX, Descriptor, Index, Manifest, canonical, read_manifest
from envsnap.registry import manifests
from envsnap.registry.host import Place
from envsnap.registry.paging import pages
from envsnap.registry.patience import Trouble

_NO_API = frozenset({400, 404, 405, 501})
_writing = threading.Lock()


def fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")


def referrers(place: Place, digest: str, artifact_type: str, *, what: str) -> tuple[Descriptor, ...]:
    """Descriptors of what is attached to `digest`, of one type or of all (""), in the registry's order."""
    listed = _from_api(place, digest, artifact_type, what)
    if listed is None:
        index = _fallback(place, digest, what)
        listed = index.manifests if index is not None else ()
    return tuple(one for one in listed if artifact_type in ("", one.artifact_type))


def _from_api(place: Place, digest: str, artifact_type: str, what: str) -> tuple[Descriptor, ...] | None:
    """None: the registry has no such API."""
    path = f"referrers/{digest}" + (f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else "")
    found: list[Descriptor] = []
    for answer in pages(place, path, of="referrers", what=what, good={200} | _NO_API, headers={"Accept": OCI_INDEX}):
        if answer.status != 200:
            return None
        page = read_manifest(answer.raw, answer.headers.get("Content-Type", ""), what=what)
        if not isinstance(page, Index):
            raise EngineError(what, why=f"{place.host.registry} answered with no index of referrers")
        found += page.manifests
    return tuple(found)


def _fallback(place: Place, digest: str, what: str) -> Index | None:
    index = manifests.find(place, fallback_tag(digest), what=what)
    return index if isinstance(index, Index) else None


def attach(place: Place, manifest: Manifest, *, what: str) -> None:
    """Write the manifest of an artifact, whose blobs are there, and have it listed among the referrers of its subject.

    Raises:
        EngineError: the registry refuses it, or others keep overwriting the list.
    """
    subject = manifest.subject
    if subject is None:
        raise ValueError("an artifact without a subject is attached to nothing")
    if manifests.put(place, manifest.digest, manifest, what=what):
        return
    own = replace(manifest.descriptor, artifact_type=manifest.artifact_type or manifest.config.media_type, annotations=manifest.annotations)
    with _writing:
        attempts = place.host.attempts()
        while True:
            index = _fallback(place, subject.digest, what)
            listed = index.manifests if index is not None else ()
            if any(one.digest == own.digest for one in listed):
                return
            manifests.put(place, fallback_tag(subject.digest), _index(index, (*listed, own), what), what=what)
            # A registry has no lock: whoever writes last wins, and the other one sees it here.
            again = _fallback(place, subject.digest, what)
            if again is not None and any(one.digest == own.digest for one in again.manifests):
                return
            place.host.endure(attempts, Trouble("keeps a list of referrers that others overwrite"), what=what)


def _index(before: Index | None, listed: tuple[Descriptor, ...], what: str) -> Index:
    """The index with these manifests; what else is known of those that were in it stays as it was."""
    known = {one["digest"]: one for one in json.loads(before.raw)["manifests"]} if before is not None else {}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [known.get(one.digest) or one.document() for one in listed],
        **({"annotations": dict(before.annotations)} if before is not None and before.annotations else {}),
    }
    index = read_manifest(canonical(document), OCI_INDEX, what=what)
    assert isinstance(index, Index)
    return index
