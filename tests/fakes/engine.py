"""An engine that keeps images as a graph driver does: layers by what is below them, images by the digest of their config."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from typing import cast

from envsnap.engines.interface import Engine, EngineImage, Pushed
from envsnap.engines.loading import NotTaken
from envsnap.errors import EngineError
from envsnap.model.base import ImageConfig
from envsnap.oci.image import Image
from envsnap.progress import Progress


class FakeEngine:
    """Attributes:
    chains: what the engine has of layers, each as the diff_ids up to it.
    given: sizes of the archives that it was given.
    """

    name = "docker"

    def __init__(self, *, answers: bool = True, says_it_has: int | None = None, forgets: bool = False) -> None:
        self.answers = answers
        self.says_it_has = says_it_has
        self.forgets = forgets
        self.chains: set[tuple[str, ...]] = set()
        self.configs: dict[str, tuple[str, ...]] = {}
        self.tags: dict[str, str] = {}
        self.given: list[int] = []
        self.pushed: list[str] = []
        self.archives: dict[str, bytes] = {}

    def __call__(self) -> Engine:
        return cast("Engine", self)

    def require(self, *, build: bool = False) -> None:
        if not self.answers:
            raise EngineError("cannot reach a Docker engine", why="nothing is listening")

    def image(self, reference: str) -> EngineImage | None:
        image_id = self.tags.get(reference, reference)
        return self._described(image_id) if image_id in self.configs else None

    def find(self, image: Image) -> EngineImage | None:
        return self._described(image.config.digest) if image.config.digest in self.configs else None

    def layers_there(self, image: Image) -> int:
        if self.says_it_has is not None:
            return self.says_it_has
        diff_ids = image.config.diff_ids
        return max((count for count in range(1, len(diff_ids) + 1) if diff_ids[:count] in self.chains), default=0)

    def load(self, image: Image, archive: Iterator[bytes]) -> EngineImage:
        whole = b"".join(archive)
        self.given.append(len(whole))
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
        (entry,) = json.loads(found["manifest.json"])
        assert entry["RepoTags"] is None
        config = found[entry["Config"]]
        diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"])
        chains = set(self.chains)
        for count, path in enumerate(entry["Layers"], 1):
            if any(chain[:count] == diff_ids[:count] for chain in chains):
                continue
            if path not in found:
                raise NotTaken("cannot load", why=f"open {path}: no such file or directory")
            assert f"sha256:{hashlib.sha256(_inflated(found[path])).hexdigest()}" == diff_ids[count - 1]
            chains.add(diff_ids[:count])
        if self.forgets:
            raise NotTaken("cannot load", why="it does not have it")
        self.chains = chains
        image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        self.configs[image_id] = diff_ids
        return self._described(image_id)

    def save(self, reference: str) -> Iterator[bytes]:
        yield self.archives[reference]

    def pull(self, reference: str, progress: Progress) -> EngineImage:
        raise EngineError(f"cannot pull {reference}", why="this engine reaches no registry")

    def tag(self, image_id: str, reference: str) -> None:
        assert image_id in self.configs
        self.tags[reference] = image_id

    def push(self, reference: str, progress: Progress) -> Pushed:
        self.pushed.append(reference)
        return Pushed(digest="sha256:" + "9" * 64, uploaded_bytes=9)

    def _described(self, image_id: str) -> EngineImage:
        return EngineImage(
            image_id=image_id,
            config_digest=image_id,
            repo_digests=(),
            tags=tuple(sorted(tag for tag, tagged in self.tags.items() if tagged == image_id)),
            size_bytes=1,
            layers=len(self.configs[image_id]),
            config=ImageConfig(
                architecture="amd64", os="linux", env={}, labels={}, entrypoint=(), cmd=(), workdir="", user="", size_bytes=None
            ),
        )


def _inflated(blob: bytes) -> bytes:
    whole = b""
    while blob:
        inflater = zlib.decompressobj(wbits=31)
        whole += inflater.decompress(blob)
        blob = inflater.unused_data
    return whole
