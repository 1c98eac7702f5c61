"""The config digest of an image from what is installed where it was captured, before a wheel was fetched or a layer made.

A config names layers by their uncompressed bytes, and those follow from the installed files and from what the capture read of each wheel
(`layers.installed`). Where they lie, the lock may say and anybody may be wrong: that they are the lock's is proven by their hashes, which
are those of each wheel's RECORD and, as a whole, the lock's own (`LockedPackage.files`).
"""

from __future__ import annotations

import os
import platform
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.bytecode.compiler import LARGEST_SOURCE
from envsnap.bytecode.compiler import Sources as Modules
from envsnap.errors import EnvsnapError, InputError
from envsnap.layers.installed import InstalledMembers, OtherContent, sizes
from envsnap.layers.wheel import read_member_sources, write_members, write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.image import Foretold
from envsnap.model.layers import AnyLayer, BytecodeLayer, Layout, LockLayer, PlannedWheel, SourceLayer, SystemLayer, WheelsLayer
from envsnap.model.lock import EnvLock
from envsnap.model.plan import BuildPlan
from envsnap.oci.image import config_of
from envsnap.plan.layers import own_recipe, recipe, title
from envsnap.probes.wheel_ends import WheelEnds
from envsnap.progress import Progress
from envsnap.workflows import content, foretelling, places, wheel_files
from envsnap.workflows.assemble import Advance, recall
from envsnap.workflows.assembled import Gathered, Sources, is_trusted
from envsnap.workflows.byte_code import byte_code
from envsnap.workflows.plan import PlanRequest, write_context
from envsnap.workflows.unknown import Unknown

_PIECE = 1 << 20
_SITES = (("lib", "site-packages"), ("lib64", "site-packages"), ("lib", "dist-packages"), ("local/lib", "dist-packages"))
_HINT = "plan --fetch tells it from the wheels; --python P names another environment"


def captured_here(lock: EnvLock) -> Path | None:
    """Prefix of the captured environment, where the lock says that it is one of this host; None where this user may not look there."""
    kind, _, python = lock.capture.target.partition(" ")
    if kind != "python" or lock.capture.host != platform.node() or not python.startswith("/"):
        return None
    try:
        return prefix_of(Path(python))
    except InputError:
        return None


def prefix_of(place: Path) -> Path:
    """Of an environment that is named by its directory or its interpreter, of which nothing is run.

    Raises:
        InputError: this user may not look there.
    """
    try:
        return place.absolute() if place.is_dir() else place.absolute().parent.parent
    except OSError as error:
        raise InputError(
            f"cannot look at the environment {place}", why=error.strerror or str(error), hint="name one of your own"
        ) from error


def tell(
    gathered: Gathered,
    made: BuildPlan,
    lock: EnvLock,
    lock_file: Path,
    request: PlanRequest,
    sources: Sources,
    progress: Progress,
    *,
    prefix: Path,
) -> Foretold:
    """What is told of an image from installed files.

    Args:
        sources: with `fetch`, system packages are had from their distribution; nothing else is asked for.
        prefix: of the environment that they lie in.
    """
    prepared, cache = gathered.prepared, sources.cache
    plan = prepared.layers
    names = [own_recipe(layer, plan.layout) for layer in plan.layers]
    remembered = [layer.diff_id if layer is not None else None for layer in recall(plan, cache)]
    found: list[str | Unknown | None] = [one or foretelling.layer(name, cache) for one, name in zip(remembered, names, strict=True)]
    missing = [index for index, diff_id in enumerate(found) if diff_id is None]
    if missing:
        wheel_files.require_one_content(plan, gathered.wheels.path, cache)
    if not sources.fetch and any(isinstance(plan.layers[index], SystemLayer) for index in missing):
        return Foretold(unknown_because="the layer of its system packages was never made", hint="plan --fetch-base makes it")
    with tempfile.TemporaryDirectory(prefix="envsnap-plan-") as scratch:
        context = Path(scratch, "context")
        if any(isinstance(plan.layers[index], SourceLayer | LockLayer) for index in missing):
            try:
                write_context(lock, lock_file, made, request, cache=cache, progress=progress, directory=context, offline=not sources.fetch)
            except EnvsnapError as error:
                return Foretold(unknown_because=f"{error.what}{f': {error.why}' if error.why else ''}", hint=error.hint)
        installed = _Installed(prefix, plan.layout, WheelEnds(cache))
        for index, told in _told(missing, gathered, installed, context, places.blobs_of(lock_file), sources, progress).items():
            found[index] = told
            if isinstance(told, str):
                foretelling.keep_layer(names[index], told, cache)
    layers = [(layer.diff_id, layer.made_by) for layer in prepared.below]
    unknown = []
    for layer, known in zip(plan.layers, found, strict=True):
        if isinstance(known, str):
            layers.append((known, title(layer)))
        elif known is not None:
            unknown.append(known)
    if unknown:
        more = f"; and {len(unknown) - 1} more of its layers cannot be told" if len(unknown) > 1 else ""
        return Foretold(unknown_because=unknown[0].because + more, hint=unknown[0].hint)
    return Foretold(
        config_digest=config_of(prepared.base, layers, prepared.change).digest,
        told_from="installed files",
        unknown_because="the manifest names compressed layers, and those are made of the wheels",
        hint="plan --fetch tells the manifest, too",
    )


def _told(
    missing: Sequence[int],
    gathered: Gathered,
    installed: _Installed,
    context: Path,
    kept: BlobStore,
    sources: Sources,
    progress: Progress,
) -> Mapping[int, str | Unknown]:
    """The diff_ids of layers by their number, several at a time, those that take longest first.

    Args:
        context: the rendered files, where a layer is made of them. kept: blobs of the lock.
    """
    plan = gathered.prepared.layers
    work = {index: installed.work(plan.layers[index]) for index in missing}
    ended = threading.Event()
    with (
        byte_code(
            plan,
            gathered.ground.inventory,
            gathered.wheels.path,
            sources.cache,
            sources.env,
            kept,
            trusted=is_trusted(gathered, sources.cache),
            otherwise=installed.modules,
        ) as compiled,
        progress.task("tell the image from installed files", total=sum(work.values()), unit="bytes") as task,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="told") as pool,
    ):
        parts = content.Parts(context=context, blobs=kept, system=partial(_system, gathered, sources), byte_code=compiled.write)
        others = content.writers(plan, parts)

        def advance(amount: int) -> None:
            if ended.is_set():
                raise CancelledError
            task.advance(amount)

        def tell_one(index: int) -> str | Unknown:
            layer, writer = plan.layers[index], LayerWriter(lambda _: None)
            try:
                if isinstance(layer, WheelsLayer):
                    _write_wheels(layer, installed, gathered, writer, advance)
                else:
                    others[recipe(layer, plan.layout)](writer, advance)
            except (OtherContent, OSError) as error:
                return Unknown(because=f"{_name(layer)}: {error}", hint=_HINT)
            except EnvsnapError as error:
                return Unknown(because=f"{_name(layer)}: {error.why or error.what}", hint=error.hint or _HINT)
            return writer.finish()[0]

        running = {index: pool.submit(tell_one, index) for index in sorted(missing, key=lambda index: -work[index])}
        try:
            return {index: future.result() for index, future in running.items()}
        except BaseException:
            ended.set()
            pool.shutdown(cancel_futures=True)
            raise


def _name(layer: AnyLayer) -> str:
    return title(layer).removeprefix("envsnap: ")


def _system(gathered: Gathered, sources: Sources, layer: SystemLayer, writer: LayerWriter) -> None:
    sources.packages.write(layer, gathered.ground.inventory, gathered.ground.machine, writer)


def _write_wheels(layer: WheelsLayer, installed: _Installed, gathered: Gathered, writer: LayerWriter, advance: Advance) -> None:
    layout = gathered.prepared.layers.layout
    for wheel in layer.wheels:
        extra = {name: text.encode() for name, text in wheel.extra.items()}
        path = gathered.wheels.path(wheel.sha256)
        if path is not None:
            with path.open("rb") as file:
                written = write_wheel(file, writer, layout, file=wheel.file, sha256=wheel.sha256, extra=extra, rebuilt=wheel.rebuilt)
            advance(wheel.size_bytes)
        else:
            written = write_members(installed.members(wheel, advance), writer, layout, file=wheel.file, extra=extra)
        if wheel.files not in (None, written.files):
            raise OtherContent(f"{wheel.file} installs other files than the lock says")


class _Installed:
    """Wheels as they are installed in an environment."""

    def __init__(self, prefix: Path, layout: Layout, ends: WheelEnds) -> None:
        self._prefix = prefix
        self._layout = layout
        self._ends = ends

    def members(self, wheel: PlannedWheel, advance: Advance) -> InstalledMembers:
        """Raises OtherContent: it is not installed there, or what it has was never read; InputError: what was read is refused."""
        end = self._ends.find(wheel.sha256)
        if end is None:
            raise OtherContent(f"what is in {wheel.file} was not read at a capture on this machine")
        for library, packages in _SITES:
            folder = self._prefix / library
            site = folder / f"python{self._layout.python}" / packages
            if not site.is_dir():  # a distribution's own packages lie beside those of its versions of Python
                site = folder / f"python{self._layout.python.partition('.')[0]}" / packages
            if (site / f"{end.stem}.dist-info").is_dir():
                pieces = partial(self._pieces, site, folder.parent, advance)
                return InstalledMembers(end.directory, end.size_bytes, end.record, pieces, site=self._layout.site, file=wheel.file)
        raise OtherContent(f"{wheel.name} is not installed in {self._prefix}")

    def modules(self, wheel: PlannedWheel) -> Modules:
        """For byte code. Nobody vouches that they are the wheel's."""

        def read() -> Iterator[tuple[str, bytes]]:
            try:
                yield from read_member_sources(self.members(wheel, lambda _: None), self._layout, file=wheel.file, largest=LARGEST_SOURCE)
            except OtherContent as error:
                raise InputError(f"what is installed is not {wheel.file}", why=str(error)) from error

        return Modules(name=f"{wheel.name} {wheel.version}", sha256=None, read=read)

    def work(self, layer: AnyLayer) -> int:
        """Bytes that are read for a layer."""
        if isinstance(layer, BytecodeLayer):
            return sum(wheel.source_bytes for wheel in layer.wheels)
        return sum(map(self._size, layer.wheels)) if isinstance(layer, WheelsLayer) else 0

    def _size(self, wheel: PlannedWheel) -> int:
        end = self._ends.find(wheel.sha256)
        try:
            return sizes(end.directory, end.size_bytes, wheel.file)[0] if end is not None else wheel.size_bytes
        except InputError:
            return wheel.size_bytes

    def _pieces(self, site: Path, prefix: Path, advance: Advance, place: str) -> Iterator[bytes]:
        below = f"{self._layout.site}/"
        path = site / place.removeprefix(below) if place.startswith(below) else prefix / place.removeprefix(f"{self._layout.prefix}/")
        try:
            # The lock names the directory: what lies there may be a pipe, or a device.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OtherContent(f"{path} is no file")
                while piece := file.read(_PIECE):
                    advance(len(piece))
                    yield piece
        except OSError as error:
            raise OtherContent(f"{path} cannot be read: {error.strerror}") from error
