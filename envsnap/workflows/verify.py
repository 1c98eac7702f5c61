"""verify: the collector and the smoke-train run in the image, and are held against the lock."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envsnap import lockfile, parity, render
from envsnap.blobs import BlobStore
from envsnap.engines.interface import Engine
from envsnap.errors import EngineError, InputError, TargetError, UsageError
from envsnap.model.lock import EnvLock
from envsnap.model.parity import Fingerprint, Layer, SmokeRun, Verdict
from envsnap.model.plan import LOCK_IN_IMAGE, LOCK_LABEL, MANIFEST_IN_IMAGE, NO_SOURCE, SOURCE_LABEL
from envsnap.oci.documents import Manifest
from envsnap.oci.image import Image
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.target import Target
from envsnap.workflows import attest, local, places, reference, rootless, transfer
from envsnap.workflows.records import own_tag
from envsnap.workflows.transfer import Places, source_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is verified against what.

    Attributes:
        against: the lock; blobs: the store beside it, None when the lock came out of the image and has none.
        image_digest: None for an interpreter of this host.
        source: whether the project's files are to be judged.
        manifest: of the project's files in the image, as built into it; None without them.
        gpus: as docker's `--gpus`; "none" on a CPU.
    """

    target: Target
    name: str
    against: EnvLock
    blobs: BlobStore | None
    image_digest: str | None
    gpus: str
    source: Literal["image", "left out", "not asked"]
    manifest: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An image, and who has it: an engine, or the cache. Attributes: read: a file of it. target: a place in it, with those GPUs."""

    config_digest: str
    labels: Mapping[str, str]
    read: Callable[[str], bytes | None]
    target: Callable[[str], Target]


def of_image(
    places_: Places,
    image_or_lock: str,
    *,
    against: Path | None,
    gpus: str | None,
    user: str | None = None,
    env: Mapping[str, str],
    progress: Progress,
) -> Subject:
    """The image that is meant by a reference, or by the lock that it was built from: run by an engine that has it, else from the cache.

    Args:
        env: where runtimes are looked for.

    Raises:
        InputError: no such lock, or the image holds no lock. UsageError: it is no name.
        EngineError: no such image is here; or no engine answers, and nothing else runs it. TargetError: no such GPUs.
    """
    built_of = transfer.lock_of(image_or_lock)
    lock_file = Path(image_or_lock) if built_of is not None else None
    reference = image_or_lock if built_of is None else own_tag(built_of)
    assembled = local.find(reference, places_.cache)
    held = _by_engine(places_.engine, reference, assembled, user)
    if held is None and assembled is not None:
        held = _by_cache(assembled, reference, places_, user, env, progress)
        held = dataclasses.replace(held, target=_unless_the_engine_could(held.target, places_.engine, reference))
    if held is None:
        raise transfer.absent(image_or_lock, places_.engine, lock=built_of)
    lock_file = against or lock_file or _local_lock(held.labels.get(LOCK_LABEL, ""))
    lock = places.read_lock(lock_file) if lock_file else _lock_of_image(held, reference)
    wanted = gpus if gpus is not None else _gpus_of(lock)
    return Subject(
        target=held.target(wanted),
        name=reference,
        against=lock,
        blobs=places.blobs_of(lock_file) if lock_file else None,
        image_digest=held.config_digest,
        gpus=wanted,
        source="left out" if held.labels.get(SOURCE_LABEL) == NO_SOURCE else "image",
        manifest=held.read(MANIFEST_IN_IMAGE),
    )


def _unless_the_engine_could(target: Callable[[str], Target], engine: Engine, reference: str) -> Callable[[str], Target]:
    """What gives an image that the engine does not have to another runtime; which GPUs cannot be given to, where the engine's could."""

    def given(gpus: str) -> Target:
        try:
            return target(gpus)
        except TargetError as error:
            with suppress(EngineError):
                engine.require()
                raise TargetError(
                    error.what,
                    why=f"the engine does not have {reference}, and only an engine gives GPUs",
                    hint=f"envsnap pull {reference}   or envsnap build LOCK --load   gives it to the engine;   or --gpus none",
                ) from error
            raise

    return given


def _by_engine(engine: Engine, reference: str, assembled: Image | None, user: str | None) -> _Held | None:
    """None where no engine answers, or it has no such image, or another one under the name of one that was assembled here."""
    try:
        engine.require()
    except EngineError:
        return None
    image = engine.image(reference)
    if image is None or (assembled is not None and image.config_digest != assembled.config.digest):
        return None
    return _Held(
        config_digest=image.config_digest,
        labels=image.config.labels,
        read=lambda path: engine.read_file(image.image_id, path),
        target=lambda gpus: engine.target(image.image_id, gpus=gpus, user=user),
    )


def _by_cache(image: Image, reference: str, places_: Places, user: str | None, env: Mapping[str, str], progress: Progress) -> _Held:
    blobs, cache = source_of(image, places_.cache, places_.registry), places_.cache
    return _Held(
        config_digest=image.config.digest,
        labels=image.config.labels,
        read=lambda path: rootless.root_of(image, blobs, cache=cache, progress=progress).read(path),
        target=lambda gpus: rootless.target_for(
            image, blobs, name=reference, cache=cache, env=env, gpus=gpus, user=user, progress=progress
        ),
    )


def of_python(python: str, lock_file: Path, *, gpus: str | None, env: Mapping[str, str]) -> Subject:
    """An interpreter of this host, held against a lock: no engine needed."""
    lock = places.read_lock(lock_file)
    target = LocalPython(interpreter.find_python(python, env))
    return Subject(
        target=target,
        name=target.description,
        against=lock,
        blobs=places.blobs_of(lock_file),
        image_digest=None,
        gpus=gpus if gpus is not None else _gpus_of(lock),
        source="not asked",
    )


def verify(
    subject: Subject, *, require: frozenset[Layer] | None, negative_control: str, cache: Path, progress: Progress
) -> tuple[Verdict, str]:
    """Run both guest scripts in the subject and judge; returns the verdict and the device that was asked for.

    Raises:
        UsageError: a negative control that nothing would judge.
    """
    lock = subject.against
    _require_judged(negative_control, lock, require)
    device = "cpu" if subject.gpus == "none" else "cuda"
    with tempfile.TemporaryDirectory(prefix="envsnap-verify-") as scratch:
        manifest = None
        if subject.manifest is not None:
            manifest = Path(scratch, "source.json")
            manifest.write_bytes(subject.manifest)
        facts = interpreter.collect(subject.target, framework=True, imports=True, integrity=True, source=manifest, progress=progress)
        outputs = Path(scratch, "smoke")
        outputs.mkdir()
        run = _smoke(subject, device, outputs, require, negative_control, cache, progress)
        distances, equal = _gradients(lock, subject.blobs, run, outputs)
    found = Fingerprint(facts=facts, smoke=run, gradient_distance=distances, gradient_equal=equal)
    return parity.judge(lock, found, device=device, required=require, source=subject.source), device


def _require_judged(negative_control: str, lock: EnvLock, require: frozenset[Layer] | None) -> None:
    """A control that nothing judges would pass, which is the opposite of what it is for."""
    spoilt: Layer = "L2" if negative_control == "tf32" else "L3"
    if not negative_control or (lock.observed.reference is not None and (require is None or spoilt in require)):
        return
    no_reference = lock.observed.reference is None
    raise UsageError(
        f"--negative-control {negative_control} would not be judged",
        why="the lock has no smoke-train" if no_reference else f"it shows at {spoilt}, which --require leaves out",
        hint="capture with --smoke" if no_reference else f"--require {spoilt}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InRegistry:
    """An image as a registry has it. Attributes: reference: its name; manifest: what that leads to."""

    registry: Registry
    reference: str
    manifest: Manifest


def in_registry(image_or_lock: str, subject: Subject, places_: Places) -> InRegistry:
    """The subject as its registry has it, by the name that was given or that its lock's build was given first.

    Raises:
        UsageError: no registry is named.
        EngineError: no image of the lock's record is here; the registry has another image under that name, or none, or cannot be reached.
    """
    found = transfer.find(image_or_lock, places_)
    if not found.has_address:
        hint = "envsnap verify HOST/REPOSITORY:TAG --attach, once it is pushed"
        raise UsageError(f"which registry has {image_or_lock}?", hint=hint)
    machine = subject.against.python.interpreter.machine
    assert subject.image_digest is not None  # it is an image
    manifest = attest.verified(found.name, subject.image_digest, places_.registry, machine=machine)
    return InRegistry(registry=places_.registry, reference=found.name, manifest=manifest)


def page(verdict: Verdict, subject: Subject) -> str:
    """The verdict as one self-contained HTML page."""
    return render.verdict_page(verdict, name=subject.name, image_digest=subject.image_digest or "", lock_digest=subject.against.digest)


def _smoke(
    subject: Subject, device: str, outputs: Path, require: frozenset[Layer] | None, negative_control: str, cache: Path, progress: Progress
) -> SmokeRun | None:
    expected = subject.against.observed.reference
    if expected is None or (require is not None and not require & {"L2", "L3"}):
        return None
    if subject.blobs is None or not subject.blobs.has(expected.anchor):
        progress.warning("the anchor weights are not at hand: the fingerprint cannot be judged (copy the lock's .blobs directory too)")
        anchor = None
    else:
        subject.blobs.read(expected.anchor)  # checked against its digest before anything uses it
        anchor = subject.blobs.path(expected.anchor)
    lent = reference.kit_for(expected.kit, subject.against.python, cache, progress)
    try:
        return reference.repeat(
            subject.target,
            expected,
            device=device,
            anchor=anchor,
            lent=lent,
            outputs=outputs,
            negative_control=negative_control,
            progress=progress,
        )
    except TargetError as error:  # that it cannot train is an answer about the image, and L0 was judged all the same
        return SmokeRun(schema=1, status="failed", reason=f"{error.what}: {error.why}" if error.why else error.what)


def _gradients(lock: EnvLock, blobs: BlobStore | None, run: SmokeRun | None, outputs: Path) -> tuple[dict[str, float], dict[str, bool]]:
    expected = lock.observed.reference
    if expected is None or blobs is None or run is None:
        return {}, {}
    distances: dict[str, float] = {}
    equal: dict[str, bool] = {}
    for precision, digest in expected.smoke.gradient.items():
        if precision in run.gradients and blobs.has(digest):
            left, right = blobs.read(digest), (outputs / run.gradients[precision]).read_bytes()
            distances[precision], equal[precision] = parity.distance(left, right), left == right
    return distances, equal


def _gpus_of(lock: EnvLock) -> str:
    """Contract: the default is all that the reference used."""
    expected = lock.observed.reference
    if expected is None or expected.smoke.device == "cpu":
        return "none"
    return str(expected.smoke.gpus)


def _local_lock(digest: str) -> Path | None:
    """A local lock of equal digest wins over the copy in the image: it has its blobs beside it.

    Of several the one that can be judged furthest: with a reference, and the reference's anchor at hand.
    """
    found: list[tuple[bool, Path]] = []
    for path in sorted(Path("lockfiles").glob("*.yaml")):
        try:
            lock = places.read_lock(path)
        except InputError:
            continue  # another lock that is broken is not this image's concern
        if lock.digest == digest:
            kept = lock.observed.reference
            found.append((kept is not None and places.blobs_of(path).has(kept.anchor), path))
    return max(found, key=lambda one: one[0])[1] if found else None


def _lock_of_image(held: _Held, reference: str) -> EnvLock:
    data = held.read(LOCK_IN_IMAGE)
    if data is None:
        raise InputError(f"{reference} holds no lock", why=f"no {LOCK_IN_IMAGE} in it", hint="name one with --against LOCK")
    return lockfile.loads(data, place=f"{reference}:{LOCK_IN_IMAGE}")
