"""Blobs, as streams that go on where they broke off."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError
from envsnap.oci.documents import Descriptor
from envsnap.registry.host import Place
from envsnap.registry.manifests import wrong_bytes
from envsnap.registry.patience import Trouble
from envsnap.registry.wire import Answer

_WORTH_IT = 1 << 20  # bytes that make an attempt one that got somewhere
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/(?:[0-9]+|\*)\Z")


class Download:
    """One blob, from the first place that has it; where that one fails in the middle, the next goes on.

    Args:
        places: mirrors, and at last the registry itself.

    Attributes:
        mirrors: that gave some of the bytes.
    """

    def __init__(self, places: Sequence[Place], descriptor: Descriptor, *, what: str) -> None:
        self._places = [*places]
        self._descriptor = descriptor
        self._what = what
        self.mirrors: list[Place] = []

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, as many as the blob's size says and never more; nothing is hashed here.

        Raises:
            EngineError: they cannot be had, or there are more or fewer.
        """
        at = start
        *mirrors, own = self._places
        for place in (*mirrors, own):
            try:
                for piece in self._from(place, at):
                    if place is not own and place not in self.mirrors:
                        self.mirrors.append(place)
                    at += len(piece)
                    yield piece
            except EngineError:
                if place is own:
                    raise
                place.host.doubted = True
            else:
                return

    def verified(self) -> Iterator[bytes]:
        """All of it; what does not match its digest ends in an error after the last piece.

        Raises:
            EngineError: as `pieces`, and when its digest is another one.
        """
        sha256 = hashlib.sha256()
        for piece in self.pieces():
            sha256.update(piece)
            yield piece
        self.require(f"sha256:{sha256.hexdigest()}")

    def require(self, digest: str) -> None:
        """Raises EngineError: that is not the blob's digest; whichever mirror had a part in it is not asked again."""
        if digest != self._descriptor.digest:
            for mirror in self.mirrors:
                mirror.host.doubted = True
            raise wrong_bytes([*self.mirrors, self._places[-1]][0], digest, self._descriptor.digest, what=self._what)

    def _from(self, place: Place, start: int) -> Iterator[bytes]:
        """What one place gives, in as many attempts as its host is worth."""
        size = self._descriptor.size
        at, kept = start, start
        attempts = place.host.attempts()
        while at < size:
            try:
                with self._open(place, at) as answer:
                    for piece in _bounded(answer, at, size):
                        at += len(piece)
                        yield piece
                if at < size:
                    raise Trouble(f"ends after {at} of {size} bytes")
            except Trouble as trouble:
                if at - kept >= _WORTH_IT:
                    kept = at
                    attempts.progressed()
                place.host.endure(attempts, trouble, what=self._what)

    def _open(self, place: Place, at: int) -> Answer:
        digest = self._descriptor.digest
        headers = {"Range": f"bytes={at}-"} if at else {}
        request = place.request(
            "GET", f"blobs/{digest}", what=self._what, good={200, 206}, headers=headers, about=f"blob {digest[:19]}… in {place.repository}"
        )
        return place.host.once(request)


def _bounded(answer: Answer, at: int, size: int) -> Iterator[bytes]:
    """Of an answer's body what lies between `at` and `size`. Raises Trouble: it is the body of something else."""
    skip = at
    if answer.status == 206:
        match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) > at:
            raise Trouble("answered with another part than was asked for", passing=False)
        skip = at - int(match[1])
    length = answer.number("Content-Length")
    if length is not None and length != size - at + skip:
        raise Trouble(f"answered with {at - skip + length} bytes where {size} are due", passing=False)
    left = size - at
    for whole in answer.pieces():
        piece = whole[skip:] if skip else whole
        skip -= min(skip, len(whole))
        if len(piece) > left:
            raise Trouble(f"answered with more than {size} bytes", passing=False)
        left -= len(piece)
        if piece:
            yield piece


def keep(places: Sequence[Place], descriptor: Descriptor, store: BlobStore, *, what: str) -> None:
    """Have a blob in a store; a mirror that gives other bytes is followed by the next place.

    Raises:
        EngineError: it cannot be had.
        TargetError: the store cannot be written.
    """
    left = [*places]
    while not store.has(descriptor.digest):
        download = Download(left, descriptor, what=what)
        try:
            with store.writer(durable=False) as blob:
                for piece in download.pieces():
                    blob.write(piece)
                download.require(f"sha256:{blob.hash.hexdigest()}")
        except EngineError:
            if not download.mirrors:
                raise
            left = [place for place in left if place not in download.mirrors]
