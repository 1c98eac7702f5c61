"""Putting documents and signatures beside an image, and asking whether they hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envsnap.attest import artifacts, licences, signatures
from envsnap.attest.keys import Password, PrivateKey, PublicKey, read_private_key, read_public_key
from envsnap.attest.provenance import Json, provenance
from envsnap.attest.purl import PackageFile
from envsnap.attest.sbom import bill_of_materials
from envsnap.attest.signatures import Bundle, Place, Signed
from envsnap.attest.statements import PREDICATES, PROVENANCE, TEST_RESULT, Subject, of_bill, of_verdict, sha256
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, Refused, UsageError
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Layer, Verdict
from envsnap.model.plan import BuildPlan, InstallPacked, InstallWheels
from envsnap.model.signature import SignatureVerdict
from envsnap.oci.documents import Descriptor, Index, Manifest, digest_of
from envsnap.oci.reference import parse_reference
from envsnap.progress import SILENT, Progress
from envsnap.registry.client import Registry

_TURNS = 5
"""Of writing a manifest of signatures, while others write it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What was signed.

    Attributes:
        repository: with its registry. digest: of the manifest or index.
        key: fingerprint of the public key.
        added: signatures and statements that were not there before.
    """

    repository: str
    digest: str
    key: str
    added: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What is said of an image. Attributes: lock: the file. provenance: an in-toto statement. sbom: CycloneDX, None for none."""

    lock: bytes
    provenance: bytes
    sbom: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Attributes: attached: digests of the artifacts that refer to the image."""

    attached: tuple[str, ...]
    signing: Signing | None = None


def private_key(path: Path, password: Password) -> PrivateKey:
    """The key of a file. Raises InputError: it cannot be read, is none, or the password is not its."""
    return read_private_key(_read(path), str(path), password)


def public_key(path: Path) -> PublicKey:
    """The key of a file. Raises InputError: it cannot be read, or is none."""
    return read_public_key(_read(path), str(path))


def document(
    raw_lock: bytes,
    lock: EnvLock,
    plan: BuildPlan,
    subject: Subject,
    *,
    engine: Literal["docker", "oci"],
    system: Sequence[PackageFile] = (),
    base_packages: Sequence[PackageFile] = (),
    options: Mapping[str, Json] | None = None,
    sbom: bool = False,
    wheels: BlobStore | None = None,
) -> Documents:
    """What is to be said of an image that was built.

    Args:
        raw_lock: the lock's file.
        system: the distribution's packages that were put on the base. base_packages: those of a base that is made of them alone.
        options: of the build, those that change its bytes.
        sbom: make a bill of materials, too. wheels: where wheels lie, for the licences that they name.
    """
    said = provenance(lock, plan, subject, engine=engine, system=system, base_packages=base_packages, options=options)
    if not sbom:
        return Documents(lock=raw_lock, provenance=said)
    known = licences_of(plan, wheels) if wheels is not None else {}
    bill = bill_of_materials(lock, plan, system=system, base_packages=base_packages, licences=known)
    return Documents(lock=raw_lock, provenance=said, sbom=bill)


def publish(
    reference: str,
    image: Manifest,
    documents: Documents,
    registry: Registry,
    *,
    key: PrivateKey | None = None,
    progress: Progress = SILENT,
) -> Published:
    """Attach an image's documents to it; with a key, sign it and what they say of it.

    Args:
        reference: that the image was pushed to.

    Raises:
        EngineError: as the registry client does.
    """
    attached = attach_all(reference, image, documents, registry)
    if key is None:
        return Published(attached=attached)
    subject = subject_of(reference, image.digest)
    statements = [documents.provenance, *([of_bill(subject, documents.sbom)] if documents.sbom is not None else [])]
    return Published(attached=attached, signing=sign(reference, image.digest, key, registry, statements=statements, progress=progress))


def verified(reference: str, config_digest: str, registry: Registry, *, machine: str) -> Manifest:
    """The manifest by which a registry has an image that is here: what a verdict about it is attached to.

    Raises:
        EngineError: what the registry has under that name is another image; and as the registry client does.
    """
    manifest, config = registry.image(reference, machine=machine)
    if config.digest != config_digest:
        raise EngineError(
            f"{reference} is another image in its registry",
            why=f"the config digest is {config.digest[:19]}… there, and {config_digest[:19]}… here",
            hint=f"envsnap push {reference}   sends this one,   envsnap pull {reference}   brings that one here",
        )
    return manifest


def publish_verdict(
    reference: str,
    image: Manifest,
    verdict: Verdict,
    against: EnvLock,
    registry: Registry,
    *,
    device: str,
    require: Collection[Layer] | None = None,
    key: PrivateKey | None = None,
) -> Published:
    """Attach a verdict to its image, whatever it is; with a key, sign it. The same verdict is not attached again.

    Args:
        reference: in the image's repository.
        device: "cpu" or "cuda". require: layers that were to suffice, None for all that the reference has.

    Raises:
        EngineError: as the registry client does.
    """
    conditions = {"device": device, **({"require": ",".join(sorted(require))} if require is not None else {})}
    observed = {"name": "observed", "digest": sha256(against.observed.digest), "annotations": conditions}
    said = of_verdict(subject_of(reference, image.digest), verdict, lock_digest=against.digest, others=[observed])
    attached = attach(reference, artifacts.artifact("verdict", said, image.descriptor, predicate_type=TEST_RESULT), registry)
    if key is None:
        return Published(attached=(attached,))
    repository = _repository(reference)  # of the image itself nothing is signed: a verdict that failed must not make it one to be pulled
    added = _add(repository, image.digest, "att", said, lambda: signatures.sign_statement(said, key), key, registry)
    return Published(
        attached=(attached,), signing=Signing(repository=repository, digest=image.digest, key=key.public.fingerprint, added=added)
    )


def subject_of(reference: str, digest: str) -> Subject:
    """How statements name an image."""
    return Subject(name=_repository(reference), digest=digest)


def attach_all(reference: str, image: Manifest, documents: Documents, registry: Registry) -> tuple[str, ...]:
    """Attach an image's documents to it as referrers; returns their digests. What is attached already is not attached again.

    Args:
        reference: in the image's repository.

    Raises:
        EngineError: as the registry client does.
    """
    bundles = [
        artifacts.artifact("lock", documents.lock, image.descriptor),
        *([artifacts.artifact("sbom", documents.sbom, image.descriptor)] if documents.sbom is not None else []),
        artifacts.artifact("provenance", documents.provenance, image.descriptor, predicate_type=PROVENANCE),
    ]
    return tuple(attach(reference, bundle, registry) for bundle in bundles)


def attach(reference: str, bundle: Bundle, registry: Registry) -> str:
    """Attach one artifact; returns its digest. Raises EngineError: as the registry client does."""
    blobs = {digest_of(blob): blob for blob in bundle.blobs}
    return registry.attach(reference, bundle.manifest, lambda blob, offset: iter([blobs[blob.digest][offset:]]))


def sign(
    reference: str,
    digest: str | None,
    key: PrivateKey,
    registry: Registry,
    *,
    statements: Sequence[bytes] = (),
    progress: Progress = SILENT,
) -> Signing:
    """Sign an image of a registry, and statements about it, as cosign does. What this key has said already is not said again.

    Args:
        digest: of the image's manifest or index; None for what the reference leads to now.
        statements: in-toto statements whose subject is the image.

    Raises:
        EngineError: there is no such image; and as the registry client does.
    """
    repository = _repository(reference)
    if digest is None:
        found = registry.head(reference)
        if found is None:
            raise EngineError(f"cannot sign {reference}", why="the registry has no such image", hint="push it first")
        digest = found.digest
    registry.manifest(f"{repository}@{digest}")  # nobody signs what no byte proves
    claim = signatures.claim(repository, digest)
    added = _add(repository, digest, "sig", claim, lambda: signatures.sign_image(repository, digest, key), key, registry)
    for statement in statements:
        added += _add(repository, digest, "att", statement, lambda said=statement: signatures.sign_statement(said, key), key, registry)  # type: ignore[misc]
    progress.detail(f"{added} signatures written beside {repository}@{digest}")
    return Signing(repository=repository, digest=digest, key=key.public.fingerprint, added=added)


def verify_signature(
    reference: str, key: PublicKey, registry: Registry, *, digest: str | None = None, required: Sequence[str] = ()
) -> SignatureVerdict:
    """Whether the owner of a key vouches for an image.

    Args:
        digest: of the image's manifest or index; None for what the reference leads to now.
        required: types of statements that must be signed, too: short names of `PREDICATES`, or URIs.

    Raises:
        EngineError: there is no such image; and as the registry client does.
        UsageError: a type is neither.
    """
    wanted = [_predicate_type(name) for name in required]
    repository = _repository(reference)
    digest = digest or registry.manifest(reference).digest

    def read(descriptor: Descriptor) -> bytes:
        return _blob(repository, descriptor, registry)

    claims, statements = (_beside(repository, digest, place, registry) for place in signatures.PLACES)
    return signatures.judge(reference, digest, key, claims, statements, read, required=wanted)


def require_signature(reference: str, digest: str, key: PublicKey, registry: Registry) -> None:
    """Go on only with an image that the owner of a key signed: itself, or the index that the reference leads to and that names it.

    Args:
        digest: of the manifest that is used from here on.

    Raises:
        Refused: no signature of this key holds.
        EngineError: as the registry client does.
    """
    verdict = verify_signature(reference, key, registry, digest=digest)
    reasons = verdict.reasons
    if verdict.verdict == "pass":
        return
    index = registry.manifest(reference)
    if isinstance(index, Index) and any(one.digest == digest for one in index.manifests):
        verdict = verify_signature(reference, key, registry, digest=index.digest)
        if verdict.verdict == "pass":
            return
        reasons = (*reasons, *(f"of the index that names it: {reason}" for reason in verdict.reasons))
    raise Refused(
        f"{reference} is not signed with the key that was asked for",
        why="; ".join(reasons),
        hint=f"envsnap verify-signature {reference} --key PUBLIC_KEY   says what is there",
    )


def signed_with(key: PublicKey, registry: Registry) -> Callable[[str, str], None]:
    """`require_signature` for `transfer.pull`."""
    return lambda reference, digest: require_signature(reference, digest, key, registry)


def licences_of(plan: BuildPlan, store: BlobStore) -> Mapping[str, str]:
    """Licences of the plan's wheels that are at hand, as they say themselves: name -> SPDX expression."""
    wheels: dict[str, str] = {}
    for step in plan.steps:
        match step:
            case InstallWheels(wheels=pinned):
                wheels |= {wheel.name: f"sha256:{wheel.sha256}" for wheel in pinned}
            case InstallPacked(packages=packed):
                wheels |= {package.name: package.blob for package in packed}
            case _:
                pass
    found = {name: licences.of_wheel(store.path(digest)) for name, digest in wheels.items() if store.has(digest)}
    return {name: licence for name, licence in found.items() if licence is not None}


def _add(repository: str, digest: str, place: Place, said: bytes, make: Callable[[], Signed], key: PrivateKey, registry: Registry) -> int:
    """Have a claim or statement in the manifest of signatures; returns 1 when it had to be added.

    There is no lock on a tag: what was written is looked for, and written again when somebody else wrote between.
    """
    reference = f"{repository}:{signatures.tag(digest, place)}"
    made: Signed | None = None
    for _ in range(_TURNS):
        before = _beside(repository, digest, place, registry)
        if signatures.already_signed(before, place, said, key.public, lambda blob: _blob(repository, blob, registry)):
            return 0 if made is None else 1
        made = made or make()
        bundle = signatures.with_signed(before, [made])
        for blob in bundle.blobs:
            registry.upload(reference, _descriptor(blob), _opener(blob))
        registry.put_manifest(reference, bundle.manifest)
    raise EngineError(f"cannot sign {repository}@{digest[:19]}…", why=f"others keep writing {reference}", hint="try again")


def _beside(repository: str, digest: str, place: Place, registry: Registry) -> Manifest | None:
    """The manifest of signatures of an image; None where there is none."""
    named = f"{repository}:{signatures.tag(digest, place)}"
    found = registry.head(named)
    if found is None:
        return None
    manifest = registry.manifest(f"{repository}@{found.digest}")
    if not isinstance(manifest, Manifest):
        raise EngineError(
            f"cannot read the signatures of {repository}@{digest[:19]}…", why=f"{named} is an index and no manifest of signatures"
        )
    return manifest


def _blob(repository: str, descriptor: Descriptor, registry: Registry) -> bytes:
    return b"".join(registry.open_blob(repository, descriptor))


def _descriptor(blob: bytes) -> Descriptor:
    return Descriptor(media_type="application/octet-stream", digest=digest_of(blob), size=len(blob))


def _opener(blob: bytes) -> Callable[[int], Iterator[bytes]]:
    return lambda offset: iter([blob[offset:]])


def _repository(reference: str) -> str:
    parsed = parse_reference(reference)
    return f"{parsed.registry}/{parsed.repository}"


def _predicate_type(name: str) -> str:
    found = PREDICATES.get(name, name)
    if "://" not in found:
        raise UsageError(f"{name} is no type of statement", hint=f"{', '.join(PREDICATES)}, or a URI")
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        hint = "name the file of a key; cosign generate-key-pair makes cosign.key to sign with and cosign.pub to check with"
        raise InputError(f"cannot read the key {path}", why=error.strerror or str(error), hint=hint) from error
