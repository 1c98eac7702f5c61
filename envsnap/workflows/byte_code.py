"""Byte code of an assembled image: by exactly its interpreter's version, from wherever that can be run here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from envsnap.blobs import BlobStore
from envsnap.bytecode.carried import unpack_carried, unpack_conda
from envsnap.bytecode.compiler import Compiler, Sources, sources_of, sources_of_tree
from envsnap.bytecode.interpreters import Command, Interpreter, NotFound, find_interpreter, on_this_host
from envsnap.errors import InputError
from envsnap.inventory.interpreter import unpack
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory
from envsnap.model.layers import BytecodeLayer, LayerPlan, Layout, PlannedWheel, TreeLayer
from envsnap.model.plan import CARRIED
from envsnap.rootless import runtime
from envsnap.storage import scratch_directory
from envsnap.target import GUEST_DIRECTORY

_HOST_LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")


class ByteCode:
    """Writes layers of byte code.

    Args:
        wheel: sha256 -> where that file lies; None when it is not at hand.
        kept: blobs of the lock.
        otherwise: modules of a wheel that is not at hand.
    """

    def __init__(
        self,
        compiler: Compiler,
        layout: Layout,
        wheel: Callable[[str], Path | None],
        kept: BlobStore,
        otherwise: Callable[[PlannedWheel], Sources],
    ) -> None:
        self._compiler = compiler
        self._layout = layout
        self._wheel = wheel
        self._kept = kept
        self._otherwise = otherwise

    def write(self, layer: BytecodeLayer, writer: LayerWriter, advance: Callable[[int], object] = lambda _: None) -> bool:
        """Write one layer. Returns whether the image's own interpreter, which nobody vouches for, made any of it.

        Args:
            advance: told of bytes of source whose byte code is there.

        Raises:
            TargetError: no interpreter of the version can be run here. InputError: a wheel is not at hand.
        """
        sources = [sources_of_tree(layer.tree, self._kept, self._layout)] if layer.tree is not None else []
        for planned in layer.wheels:
            path = self._wheel(planned.sha256)
            sources.append(sources_of(planned, path, self._layout) if path is not None else self._otherwise(planned))
        return self._compiler.write_layer(sources, self._layout, writer, advance)


def _not_at_hand(wheel: PlannedWheel) -> Sources:
    raise InputError(f"{wheel.file} is not at hand", hint="envsnap build without --offline fetches it")


@contextmanager
def byte_code(
    plan: LayerPlan,
    inventory: BaseInventory,
    wheel: Callable[[str], Path | None],
    cache: Path,
    env: Mapping[str, str],
    kept: BlobStore,
    *,
    trusted: bool = False,
    otherwise: Callable[[PlannedWheel], Sources] = _not_at_hand,
) -> Iterator[ByteCode]:
    """What makes the byte code of a plan's layers: an interpreter of this host, the lock's (carried, or conda's), or the base's own, which
    its inventory keeps.

    Args:
        kept: blobs of the lock.
        trusted: the lock's and the base's interpreters may be run as this user could run anything. Else they are foreign code: bubblewrap
            shows them their own files, the compiler and the host's libraries, and no network; without it they are not run. What they make
            is kept for images that have them.
        otherwise: modules of a wheel that is not at hand; raises InputError where they are not to be had either.
    """
    version, own = next(((layer.version, layer.own) for layer in plan.layers if isinstance(layer, BytecodeLayer)), ("", ""))
    with scratch_directory(cache, ".python.") as scratch:

        def find() -> Interpreter | NotFound:
            found = find_interpreter(version, on_this_host(version, env))
            if isinstance(found, Interpreter):
                return found
            sandbox = None if trusted else runtime.probe("bwrap", env)
            if isinstance(sandbox, runtime.Absent):
                why = f"{found.reason}, and the image's own is not run without bubblewrap ({sandbox.reason})"
                return NotFound(reason=why, hint=f"install bubblewrap; or {found.hint}; or --engine docker")
            # Each is unpacked only if those before it are of no use.
            foreign = chain(_of_lock(plan, kept, scratch), _of_base(inventory, cache, scratch))
            found = find_interpreter(version, (_confined(command, scratch, sandbox) for command in foreign))
            return dataclasses.replace(found, is_own=True) if isinstance(found, Interpreter) and not trusted else found

        with Compiler(version, find, cache, own=own) as compiler:
            yield ByteCode(compiler, plan.layout, wheel, kept, otherwise)


def _confined(command: Command, files: Path, sandbox: runtime.Found | None) -> Command:
    if sandbox is None:
        return command
    shown = [str(files), str(GUEST_DIRECTORY), *(path for path in _HOST_LIBRARIES if Path(path).exists())]
    binds = [word for path in shown for word in ("--ro-bind", path, path)]
    kept_apart = ("--unshare-all", "--die-with-parent", "--new-session", "--dev", "/dev", "--proc", "/proc", "--chdir", "/")
    return Command(argv=(sandbox.program, *kept_apart, *binds, "--", *command.argv), env=command.env)


def _of_lock(plan: LayerPlan, kept: BlobStore, scratch: Path) -> Iterator[Command]:
    """The one that is carried, or conda's."""
    for layer in plan.layers:
        if isinstance(layer, TreeLayer) and layer.path == CARRIED.rpartition("/")[0]:
            yield unpack_carried(kept, layer.tree, f"python{plan.layout.python}", scratch / "carried")
        elif isinstance(layer, TreeLayer) and layer.path == f"/{plan.layout.prefix}":
            yield unpack_conda(kept, layer.tree, plan.layout.python, scratch / "conda")


def _of_base(inventory: BaseInventory, cache: Path, scratch: Path) -> Iterator[Command]:
    if inventory.interpreter is None:
        return
    store = BlobStore(cache / "blobs")
    try:
        found = unpack(store, inventory.interpreter, scratch / "interpreter")
    except InputError as error:
        if store.drop_damaged(inventory.interpreter):
            what, hint = "what the cache kept of the base's interpreter was damaged", "run it again: the base is read anew"
            raise InputError(what, why=error.what, hint=hint) from error
        return  # pruned from the cache, or refused: then it is as if the base had none
    yield Command(argv=found.argv, env=found.env)
