"""Blobs are held against their digests, wherever they come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError
from envsnap.oci.documents import Descriptor, digest_of
from envsnap.publish.content import FirstOf, Missing, Stored, held
from tests.fakes.layered import Blobs

BLOB = bytes(range(256)) * 20


def named(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(media_type="", digest=digest_of(data), size=len(data) if size is None else size)


@pytest.mark.parametrize("pieces", [[BLOB], [BLOB[:100], b"", BLOB[100:]], [b"", BLOB]])
def test_what_holds_is_given_unchanged(pieces: list[bytes]) -> None:
    assert b"".join(held(iter(pieces), named(BLOB), "here")) == BLOB


@pytest.mark.parametrize("pieces", [[BLOB[:-1]], [BLOB, b"x"], [b"x" + BLOB[1:]], [], [BLOB] * 3])
def test_what_does_not_hold_never_comes_whole(pieces: list[bytes]) -> None:
    given = bytearray()
    with pytest.raises(InputError, match="is damaged") as failed:
        given.extend(byte for piece in held(iter(pieces), named(BLOB), "here") for byte in piece)
    assert "here" in failed.value.why
    assert len(given) < len(BLOB)


def test_an_endless_blob_ends_at_its_size() -> None:
    def endless() -> object:
        while True:
            yield b"x" * 1000

    with pytest.raises(InputError):
        list(held(endless(), named(BLOB), "here"))  # type: ignore[arg-type]


def test_a_poisoned_blob_leaves_the_cache_and_says_what_to_do(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(BLOB)
    store.path(digest).write_bytes(b"x" * len(BLOB))
    with pytest.raises(InputError, match="is damaged") as failed:
        list(Stored(store).open(named(BLOB)))
    assert "again" in failed.value.hint
    assert not store.has(digest)
    with pytest.raises(Missing):
        list(Stored(store).open(named(BLOB)))


def test_what_is_read_counts_as_used(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    path = store.path(store.put(BLOB))
    os.utime(path, (1000, 1000))
    list(Stored(store).open(named(BLOB)))
    assert path.stat().st_mtime > 1000
    store.touch("sha256:" + "0" * 64)  # what is not there is no error


def test_sources_are_asked_in_order_until_one_has_it(tmp_path: Path) -> None:
    class Down:
        def open(self, descriptor: Descriptor) -> Blobs:
            raise EngineError("the registry does not answer")

    empty, full, last = Blobs(), Blobs(BLOB), Blobs()
    assert b"".join(FirstOf(empty, Down(), full, last).open(named(BLOB))) == BLOB  # type: ignore[arg-type]
    assert (empty.asked, last.asked) == ([digest_of(BLOB)], [])
    with pytest.raises(Missing):
        list(FirstOf(empty, last).open(named(BLOB)))
