"""The registry client: what envsnap reads from and writes to registries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.model.base import ImageConfig
from envsnap.model.kinds import ARCHITECTURES
from envsnap.oci.documents import EMPTY, Config, Descriptor, Index, Manifest, digest_of
from envsnap.oci.image import BaseImage
from envsnap.oci.reference import Reference, parse_reference
from envsnap.progress import SILENT, Progress
from envsnap.registry import manifests
from envsnap.registry.download import Download, keep
from envsnap.registry.host import Host, Place
from envsnap.registry.patience import Patience
from envsnap.registry.push import Meter, Pushed, Read, send_all, unique_blobs
from envsnap.registry.referrers import attach, referrers
from envsnap.registry.tags import tags
from envsnap.registry.upload import OpenAt, exists, mount, upload
from envsnap.registry.wire import Wire

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryImage:
    """What a registry says of an image for one platform.

    Attributes:
        reference: as it was asked for, without a digest.
        digest: of what the tag names, an index where there are several platforms: this is what to pin.
        manifest_digest, config_digest: of the platform's image.
        config: its `size_bytes` is the sum of the compressed layers.
        layers: how many.
        machines: those that `reference` has an image for ("x86_64", "aarch64"), in that order.
    """

    reference: str
    digest: str
    manifest_digest: str
    config_digest: str
    config: ImageConfig
    layers: int
    machines: tuple[str, ...]


_TURNS = 4  # of sending blobs and the manifest that names them, while others send the same
_NOT_YET = ("BLOB_UNKNOWN", "DIGEST_INVALID")


def _written(send_blobs: Callable[[], int], put: Callable[[], object]) -> int:
    """Send blobs, and then what names them; returns how many bytes were sent.

    Of two that send one blob to one repository at once docker-registry 2.8 may tell either that it is there before it is, and take what
    it has half written of it for damage. So what it does not know is looked up, and named, again.

    Raises:
        EngineError: it is refused for something else, or still.
    """
    sent = 0
    for turn in range(_TURNS):
        sent += send_blobs()
        try:
            put()
            break
        except EngineError as error:
            if turn == _TURNS - 1 or not any(code in error.why for code in _NOT_YET):
                raise
            time.sleep(turn + 1)
    return sent


class Registry:
    """Registries, whichever a reference leads to; usable from many threads.

    Credentials are docker's own: its configuration file and credential helpers. Proxies and the CA bundle are the environment's. Everything
    raises EngineError, which names the registry and says what to try: there is no such thing, access is denied, no answer came in the
    time that `Patience` gives it, or one that is not what its digest says. A reference that is no name is a UsageError.

    Args:
        env: DOCKER_CONFIG, and the CA bundle (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE).
        mirrors: registry -> what is asked before it for what is read, "HOST" or "HOST/PREFIX"; a mirror that does not answer, or wrongly,
            is passed over.
        plain_http: registries and mirrors that are asked without encryption; those of this machine are, too, when they do not want any.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        mirrors: Mapping[str, Sequence[str]] | None = None,
        plain_http: frozenset[str] = frozenset(),
        patience: Patience | None = None,
    ) -> None:
        self._env = dict(env)
        self._mirrors = dict(mirrors or {})
        self._plain_http = plain_http
        self._wire = Wire(self._env, patience or Patience())
        self._hosts: dict[tuple[str, bool], Host] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End what is under way in other threads, at once and for good: what they wait for raises EngineError."""
        self._wire.cut()

    # -- reading ---------------------------------------------------------------------------------------------------------

    def resolve(self, reference: str, *, machine: str) -> RegistryImage:
        """What `reference` names for a machine ("x86_64", "aarch64").

        Raises:
            EngineError: as everything here; also when it is not made for that machine.
        """
        named, manifest, config = self._image(reference, machine)
        return RegistryImage(
            reference=reference.partition("@")[0],
            digest=named.digest,
            manifest_digest=manifest.digest,
            config_digest=config.digest,
            config=image_config(config, sum(layer.size for layer in manifest.layers)),
            layers=len(manifest.layers),
            machines=_machines(named, config),
        )

    def answers(self, reference: str) -> bool:
        """Whether the registry itself of `reference`, no mirror, has answered anything so far."""
        return self._place(parse_reference(reference)).host.answered

    def image(self, reference: str, *, machine: str) -> tuple[Manifest, Config]:
        """An image's manifest and config; raises as `resolve`."""
        _, manifest, config = self._image(reference, machine)
        return manifest, config

    def manifest(self, reference: str) -> Manifest | Index:
        """What a tag or a digest names: an image, an artifact, or an index of several."""
        parsed = parse_reference(reference)
        return self._manifest(parsed, _name(parsed), what=f"cannot look up {reference}")

    def head(self, reference: str) -> Descriptor | None:
        """What the registry itself, no mirror, says that a tag or a digest names; None when there is none. No byte proves it."""
        parsed = parse_reference(reference)
        return manifests.head(self._place(parsed), _name(parsed), what=f"cannot look up {reference}")

    def tags(self, repository: str) -> tuple[str, ...]:
        """The tags of "HOST/REPOSITORY", as the first mirror that tells them, or the registry, lists them."""
        return self._first(parse_reference(repository), lambda place: tags(place, what=f"cannot list the tags of {repository}"))

    def open_blob(self, reference: str, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob's bytes, never more than its size; goes on where a connection breaks.

        Raises:
            EngineError: while it is read; after the last piece when the digest is another one. A mirror that was wrong is passed over
                the next time.
        """
        return self._download(reference, descriptor).verified()

    def fetch(self, reference: str, descriptor: Descriptor, store: BlobStore) -> None:
        """Have a blob in a store, where it is under its digest when this returns.

        Raises:
            EngineError: as `open_blob`; but a mirror that gives other bytes is followed by the next place.
            TargetError: the store cannot be written.
        """
        keep(self._places(parse_reference(reference)), descriptor, store, what=_fetching(reference, descriptor))

    def has_blob(self, reference: str, digest: str) -> bool:
        """Whether the repository of `reference` has a blob."""
        return exists(self._place(parse_reference(reference)), digest, what=f"cannot look up {digest[:19]}… in {reference}")

    def referrers(self, reference: str, digest: str, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """What is attached to a digest in the repository of `reference`, of one type or of all."""
        place = self._place(parse_reference(reference))
        return referrers(place, digest, artifact_type, what=f"cannot look up what is attached to {reference}")

    # -- writing ---------------------------------------------------------------------------------------------------------

    def mount(self, reference: str, descriptor: Descriptor, source_reference: str) -> bool:
        """Have a blob that another repository of the same registry has, without its bytes; False when that is not to be had."""
        target, source = parse_reference(reference), parse_reference(source_reference)
        if target.registry != source.registry:
            return False
        if target.repository == source.repository:
            return self.has_blob(reference, descriptor.digest)
        return mount(self._place(target), descriptor, source.repository, what=_pushing(reference))

    def upload(self, reference: str, descriptor: Descriptor, open_at: OpenAt, *, sent: Callable[[int], object] | None = None) -> int:
        """Have a blob in the repository of `reference`; returns how many bytes were sent, 0 when it was there.

        Args:
            open_at: its bytes from an offset on (`upload.from_file`); what it raises comes out here.
            sent: called with bytes as they go out; those that are sent again are not told again.
        """
        return upload(self._place(parse_reference(reference)), descriptor, open_at, what=_pushing(reference), sent=sent)

    def put_manifest(self, reference: str, manifest: Manifest | Index) -> str:
        """Write a manifest whose blobs are there under a tag or its digest; returns the digest, which the registry confirmed."""
        parsed = parse_reference(reference)
        manifests.put(self._place(parsed), _name(parsed), manifest, what=_pushing(reference))
        return manifest.digest

    def push(self, reference: str, manifest: Manifest, read: Read, *, base: BaseImage | None = None, progress: Progress = SILENT) -> Pushed:
        """Write a whole image. Its tag appears, or moves, when everything else is there.

        Args:
            read: bytes of its config and of the layers that are not the base's.
            base: whose layers are mounted where they lie in the same registry, and else copied from where they lie.
        """
        what = _pushing(reference)
        parsed = parse_reference(reference)
        at_digest = f"{parsed.registry}/{parsed.repository}@{manifest.digest}"
        tagged = self.head(reference)
        if tagged is not None and tagged.digest == manifest.digest:
            return Pushed(digest=manifest.digest, uploaded_bytes=0)
        if self.head(at_digest) is not None:
            try:
                return Pushed(digest=self.put_manifest(reference, manifest), uploaded_bytes=0)
            except EngineError:
                pass  # a blob of it was deleted
        blobs = unique_blobs(manifest)
        ancestral = {layer.digest for layer in base.manifest.layers} if base is not None and base.manifest and base.reference else set()

        def send(blob: Descriptor, meter: Meter) -> int:
            meter.add(0)
            if base is None or blob.digest not in ancestral:
                amount = self.upload(reference, blob, partial(read, blob), sent=meter.add)
            elif self.mount(reference, blob, base.reference):
                amount = 0
            else:
                amount = self.upload(reference, blob, self._download(base.reference, blob).pieces, sent=meter.add)
            if amount == 0:
                meter.add(blob.size)
            return amount

        def send_blobs() -> int:
            with progress.task(f"push {reference}", total=sum(blob.size for blob in blobs), unit="bytes") as task:
                return send_all(blobs, send, task, what=what, cut=self.close)

        return Pushed(digest=manifest.digest, uploaded_bytes=_written(send_blobs, lambda: self.put_manifest(reference, manifest)))

    def attach(self, reference: str, manifest: Manifest, read: Read) -> str:
        """Write an artifact into the repository of `reference` and have it listed among the referrers of its subject; returns its digest.

        Args:
            manifest: whose `subject` says what it is attached to.
            read: bytes of its blobs; the empty config need not be among them.
        """

        def send_blobs() -> int:
            blobs = unique_blobs(manifest)
            return sum(self.upload(reference, blob, _empty if blob.digest == digest_of(EMPTY) else partial(read, blob)) for blob in blobs)

        _written(send_blobs, lambda: attach(self._place(parse_reference(reference)), manifest, what=f"cannot attach to {reference}"))
        return manifest.digest

    # -- where things are ------------------------------------------------------------------------------------------------

    def _image(self, reference: str, machine: str) -> tuple[Manifest | Index, Manifest, Config]:
        what = f"cannot look up {reference}"
        parsed = parse_reference(reference)
        named = self._manifest(parsed, _name(parsed), what=what)
        wanted = ARCHITECTURES.get(machine, machine)
        manifest = self._manifest(parsed, _pick(named, wanted, reference, machine), what=what) if isinstance(named, Index) else named
        if not isinstance(manifest, Manifest):
            raise EngineError(what, why="its index leads to another index")
        if not manifest.layers:
            raise EngineError(what, why="it has no layers")
        config = self._first(parsed, lambda place: manifests.config_of(place, manifest, what=what))
        if config.architecture != wanted:
            raise EngineError(f"{reference} is not made for {machine}", why=f"it is for {config.os}/{config.architecture}")
        return named, manifest, config

    def _manifest(self, parsed: Reference, name: str, *, what: str) -> Manifest | Index:
        return self._first(parsed, lambda place: manifests.get(place, name, what=what))

    def _download(self, reference: str, descriptor: Descriptor) -> Download:
        return Download(self._places(parse_reference(reference)), descriptor, what=_fetching(reference, descriptor))

    def _first(self, parsed: Reference, ask: Callable[[Place], T]) -> T:
        """The answer of the first mirror that has a good one, else the registry's."""
        *mirrors, own = self._places(parsed)
        for place in mirrors:
            try:
                return ask(place)
            except EngineError:
                continue
        return ask(own)

    def _places(self, parsed: Reference) -> list[Place]:
        """Where to read, in order; the registry itself comes last and is always there."""
        places = []
        for mirror in self._mirrors.get(parsed.registry, ()):
            registry, _, prefix = mirror.strip("/").partition("/")
            host = self._host(registry, mirror=True)
            if not host.doubted:
                places.append(Place(host=host, repository=f"{prefix}/{parsed.repository}" if prefix else parsed.repository))
        return [*places, self._place(parsed)]

    def _place(self, parsed: Reference) -> Place:
        return Place(host=self._host(parsed.registry), repository=parsed.repository)

    def _host(self, registry: str, *, mirror: bool = False) -> Host:
        with self._lock:
            if (registry, mirror) not in self._hosts:
                plain = registry in self._plain_http
                self._hosts[registry, mirror] = Host(registry, self._wire, self._env, plain=plain, mirror=mirror)
            return self._hosts[registry, mirror]


def _name(parsed: Reference) -> str:
    return parsed.digest or parsed.tag


def _fetching(reference: str, descriptor: Descriptor) -> str:
    return f"cannot fetch {descriptor.digest[:19]}… of {reference}"


def _pushing(reference: str) -> str:
    return f"cannot push to {reference}"


def _empty(offset: int) -> Iterator[bytes]:
    yield EMPTY[offset:]


def _pick(index: Index, wanted: str, reference: str, machine: str) -> str:
    """The digest of the manifest for Linux on an architecture."""
    offered: set[str] = set()
    for entry in index.manifests:
        if entry.platform == ("linux", wanted):
            return entry.digest
        if entry.platform is not None and entry.platform[0] != "unknown":  # how attestations are listed
            offered.add("/".join(entry.platform))
    raise EngineError(f"{reference} is not made for {machine}", why=f"it is for {', '.join(sorted(offered)) or 'no platform at all'}")


def _machines(named: Manifest | Index, config: Config) -> tuple[str, ...]:
    platforms = {entry.platform for entry in named.manifests} if isinstance(named, Index) else {(config.os, config.architecture)}
    return tuple(machine for machine, architecture in ARCHITECTURES.items() if ("linux", architecture) in platforms)


def image_config(config: Config, size: int | None) -> ImageConfig:
    """What a plan needs of a config. Args: size: bytes of the compressed layers, None unknown."""
    run = config.run
    return ImageConfig(
        architecture=config.architecture,
        os=config.os,
        env=config.env,
        labels=config.labels,
        entrypoint=_texts(run, "Entrypoint"),
        cmd=_texts(run, "Cmd"),
        workdir=str(run.get("WorkingDir") or ""),
        user=str(run.get("User") or ""),
        size_bytes=size,
    )


def _texts(run: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = run.get(name)
    return tuple(map(str, value)) if isinstance(value, list) else ()
