"""Documents as artifacts that refer to an image (OCI image specification 1.1: an artifact type, an empty config, a subject)."""

from __future__ import annotations

from typing import Literal

from envsnap.attest.dsse import IN_TOTO
from envsnap.attest.signatures import Bundle
from envsnap.oci.documents import EMPTY, OCI_EMPTY, OCI_MANIFEST, Descriptor, Manifest, canonical, digest_of

Kind = Literal["lock", "sbom", "provenance", "verdict"]
MEDIA_TYPES: dict[Kind, str] = {
    "lock": "application/vnd.envsnap.lock.v1+yaml",
    "sbom": "application/vnd.cyclonedx+json",
    "provenance": IN_TOTO,
    "verdict": IN_TOTO,
}
FILES: dict[Kind, str] = {"lock": "lock.yaml", "sbom": "sbom.cdx.json", "provenance": "provenance.json", "verdict": "verdict.json"}
_TITLE = "org.opencontainers.image.title"
_PREDICATE_TYPE = "in-toto.io/predicate-type"


def artifact(kind: Kind, data: bytes, subject: Descriptor, *, predicate_type: str = "") -> Bundle:
    """A document that refers to an image.

    Args:
        subject: descriptor of the image's manifest.
        predicate_type: of an in-toto statement, so that who lists referrers need not fetch it.
    """
    annotations = {_PREDICATE_TYPE: predicate_type} if predicate_type else {}
    config = Descriptor(media_type=OCI_EMPTY, digest=digest_of(EMPTY), size=len(EMPTY))
    layer = Descriptor(media_type=MEDIA_TYPES[kind], digest=digest_of(data), size=len(data), annotations={_TITLE: FILES[kind]})
    target = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": MEDIA_TYPES[kind],
        "config": config.document(),
        "layers": [layer.document()],
        "subject": target.document(),
        **({"annotations": annotations} if annotations else {}),
    }
    manifest = Manifest(
        raw=canonical(document),
        media_type=OCI_MANIFEST,
        config=config,
        layers=(layer,),
        annotations=annotations,
        artifact_type=MEDIA_TYPES[kind],
        subject=target,
    )
    return Bundle(manifest=manifest, blobs=(EMPTY, data))
