"""A whole image into a repository: its blobs from several threads, its manifest last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from envsnap.errors import EngineError
from envsnap.oci.documents import Descriptor, Manifest
from envsnap.progress import Task
from envsnap.registry.wire import FilePart

THREADS = 4
Read = Callable[[Descriptor, int], Iterator[bytes | FilePart]]
"""A blob's bytes from an offset on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Attributes: digest: of the manifest. uploaded_bytes: of blobs, as they went out; none for what was there or could be mounted."""

    digest: str
    uploaded_bytes: int


def unique_blobs(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Config and layers, each once, the largest first: so the threads end together."""
    blobs = {one.digest: one for one in (manifest.config, *manifest.layers)}
    return tuple(sorted(blobs.values(), key=lambda one: (-one.size, one.digest)))


class Meter:
    """Tells a task of bytes from many threads; from the moment that one of them fails, the others are stopped at their next piece."""

    def __init__(self, task: Task, what: str) -> None:
        self._task = task
        self._what = what
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def add(self, amount: int) -> None:
        if self.stop.is_set():
            raise EngineError(self._what, why="another part of it failed")
        with self._lock:
            self._task.advance(amount)


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, none of which outlives the context; what has not begun when it fails never does."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="registry")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def send_all(
    blobs: tuple[Descriptor, ...], send: Callable[[Descriptor, Meter], int], task: Task, *, what: str, cut: Callable[[], None]
) -> int:
    """`send` for each blob, in threads; returns the sum of what it returns, which is bytes.

    Args:
        cut: ends what is under way at once: called when a person interrupts, who shall not wait for a registry's time limits.

    Raises:
        The first error that `send` raised.
    """
    meter = Meter(task, what)
    with workers(THREADS) as pool:
        futures: list[Future[int]] = [pool.submit(send, blob, meter) for blob in blobs]
        try:
            return sum(future.result() for future in as_completed(futures))
        except BaseException as error:
            meter.stop.set()
            for future in futures:
                future.cancel()
            if not isinstance(error, Exception):
                cut()
            raise
