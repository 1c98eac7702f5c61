"""Which layers an image gets: large and stable ones below, small and lively ones above, so that a change moves few bytes.

Pure. What a layer is made of is in it; how its bytes come about is `envsnap.layers`' business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from msgspec.structs import replace

from envsnap.errors import PlanError
from envsnap.model.base import BaseInventory, Directory
from envsnap.model.debian import DebFile
from envsnap.model.kinds import plain
from envsnap.model.layers import (
    AnyLayer,
    BytecodeLayer,
    EnvironmentLayer,
    LayerPlan,
    Layout,
    LockLayer,
    PlannedWheel,
    RemovalLayer,
    SourceLayer,
    SystemLayer,
    TreeLayer,
    WheelsLayer,
)
from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    HOME_IN_IMAGE,
    WORKSPACE,
    AptInstall,
    BuildPlan,
    CarryInterpreter,
    CopySource,
    ExtendBase,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    MakeEnvironment,
    PackedInstall,
    PinnedWheel,
    RemovePackages,
)
from envsnap.oci.paths import parents
from envsnap.plan.bases import minor

FORMAT = 1
"""Of the bytes of layers: another number for each change after which the same recipe gives other bytes, byte code's of `guest/compile.py`
among them (tests/unit/plan/test_format.py holds what they are)."""
MAX_LAYERS = 120
"""Of an image, the base's included: overlay2 mounts 128 directories at most, and a container adds two of its own."""
GROUP_BYTES = 16 << 20
"""Of the wheel files in a group: what one changed package costs to send."""
_MAX_GROUP_BYTES = 1 << 40
CONDA = "conda's packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What a build plan does not say and a layer plan needs.

    Attributes:
        wheels: sha256 -> (bytes of the file, bytes of the Python sources in it).
        inventory: of the base, with what an engine made on it. base: what names these two: the base's config digest where it made nothing.
        base_layers: how many layers they have.
        system: the distribution's packages that `AptInstall` comes down to, where they become a layer.
        records: package of the base -> path of each of its files -> SHA-256; where packages are taken away.
        beside: package -> site-relative path -> content of what is put beside its wheel.
        lock: digest of the lock's bytes.
    """

    wheels: Mapping[str, tuple[int, int]]
    inventory: BaseInventory
    base: str
    base_layers: int
    lock: str
    system: Sequence[DebFile] = ()
    records: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def lay_out(plan: BuildPlan, lock: EnvLock, known: Ingredients) -> LayerPlan:
    """The layers of a plan, from below.

    Raises:
        PlanError: the base leaves no room for them.
    """
    layout = _layout(plan, lock, known.inventory)
    below: list[AnyLayer] = []
    wheels: list[PlannedWheel] = []
    lively: list[PlannedWheel] = []
    above: list[AnyLayer] = []
    compiled = True
    carried: CarryInterpreter | None = None
    writable = (HOME_IN_IMAGE, WORKSPACE)
    files = {package.name: package.files for package in lock.packages}
    for step in plan.steps:
        match step:
            case AptInstall() if known.system:
                below.insert(0, SystemLayer(packages=tuple(known.system), onto=known.base))
            case CarryInterpreter():
                carried = step
                # Its archive has a directory of its own.
                below.append(TreeLayer(tree=step.tree, path=step.path.rpartition("/")[0]))
            case MakeEnvironment():
                program = carried.program if carried is not None else known.inventory.python_path
                below.append(EnvironmentLayer(interpreter=program, version=_version(lock, known, carried), writable=writable))
            case ExtendBase():
                below.append(EnvironmentLayer(writable=writable))
            case RemovePackages(packages=gone):
                below.append(RemovalLayer(packages=gone, paths=removals({one.name for one in gone}, known.records, layout)))
            case MakeCondaEnvironment(tree=tree, path=path) if tree is not None:
                assert lock.python.conda is not None
                packages = {f"{one.name}-{one.version}-{one.build}": one.files for one in lock.python.conda.packages}
                below += [EnvironmentLayer(writable=writable), TreeLayer(tree=tree, path=path, conda=packages)]
                if step.compile:
                    below.append(BytecodeLayer(tree=tree, version=lock.python.version))
            case MakeCondaEnvironment():
                below.append(EnvironmentLayer(writable=writable))  # the packages are there: an engine had a client fetch them
            case InstallWheels():
                compiled = step.compile
                wheels += [_planned(one, one.sha256, files[one.name], known) for one in step.wheels]
            case InstallPacked():
                lively += [_planned(one, one.blob.removeprefix("sha256:"), files[one.name], known, rebuilt=True) for one in step.packages]
            case CopySource(path=path):
                assert lock.source is not None
                above.append(SourceLayer(files=lock.source.files, path=path))
            case _:
                pass
    source = next((layer for layer in above if isinstance(layer, SourceLayer)), None)
    above.append(LockLayer(lock=known.lock, files=source.files, path=source.path) if source else LockLayer(lock=known.lock))
    python = _version(lock, known, carried) if compiled else None
    room = MAX_LAYERS - known.base_layers - len(below) - len(above)
    layers = (*below, *wheel_layers(wheels, lively, python=python, room=room), *above)
    trees = [layer.tree for layer in below if isinstance(layer, TreeLayer)]
    own = _hash([trees, known.inventory.interpreter]) if trees or known.inventory.interpreter else ""
    return LayerPlan(
        layout=layout, layers=tuple(replace(layer, own=own) if isinstance(layer, BytecodeLayer) else layer for layer in layers)
    )


def link_in_the_way(plan: BuildPlan, inventory: BaseInventory) -> str | None:
    """A link of the base where the plan's layers have a directory: it would take the link's place, and hide what that leads to.

    Docker's steps write through it; a layer cannot.
    """
    paths = {HOME_IN_IMAGE, WORKSPACE, plan.workdir}
    for step in plan.steps:
        match step:
            case CarryInterpreter() | MakeEnvironment() | MakeCondaEnvironment() | CopySource():
                paths.add(step.path)
            case ExtendBase():
                paths |= {step.site, f"{step.prefix}/bin"}
            case _:
                pass
    written = {above for path in paths for above in (path.lstrip("/"), *parents(path.lstrip("/")))}
    return min(written & inventory.links.keys(), default=None)


def _merged(prefix: str, inventory: BaseInventory) -> bool:
    """Whether the base has an environment there whose lib64 is its lib."""
    return inventory.links.get(f"{prefix}/lib64") == f"{prefix}/lib"


def _layout(plan: BuildPlan, lock: EnvLock, inventory: BaseInventory) -> Layout:
    python = minor(lock.python.version)
    step = next((step for step in plan.steps if isinstance(step, ExtendBase)), None)
    if step is None:
        opt = inventory.directories.get("opt", Directory())
        return Layout(
            python=python,
            lib64="link" if lock.python.conda is None else "directory",  # conda makes no such link
            directories={"opt": opt} if opt != Directory() else {},
        )
    prefix = step.prefix.lstrip("/")
    above = {prefix, *parents(prefix), "opt"}
    return Layout(
        prefix=prefix,
        python=python,
        packages="dist-packages" if step.site.endswith("/dist-packages") else "site-packages",
        interpreter=inventory.python_path or "",
        lib64="link" if _merged(prefix, inventory) else "directory",
        directories={path: how for path, how in inventory.directories.items() if path in above or path.startswith(f"{prefix}/")},
    )


def removals(names: Collection[str], records: Mapping[str, Mapping[str, str]], layout: Layout) -> tuple[str, ...]:
    """What is to be taken away with packages: the directories below a site directory that are theirs alone, and their other files with
    their byte code.

    Args:
        names: of the packages. records: of all of the base's packages, paths from the root.
    """
    unknown = any(not paths for name, paths in records.items() if name not in names)  # whose files may lie anywhere
    others = {path for name, paths in records.items() if name not in names for path in paths}
    stays = {folder for path in others for folder in parents(path)}
    gone = {path for name in names for path in records.get(name, ())} - others
    found = set()
    for path in gone:
        site = next((folder for folder in parents(path) if folder.endswith(("/site-packages", "/dist-packages"))), None)
        below = [folder for folder in parents(path) if site is not None and folder.startswith(f"{site}/")]
        own = [] if unknown else [one for one in below if one not in stays and one != f"{site}/__pycache__"]
        found.add(own[-1] if own else path)
        if not own and path.endswith(".py"):
            folder, _, name = path.rpartition("/")
            found.add(f"{folder}/__pycache__/{name[:-3]}.cpython-{layout.python.replace('.', '')}.pyc")
    return tuple(sorted(found))


def _version(lock: EnvLock, known: Ingredients, carried: CarryInterpreter | None) -> str | None:
    """Of the interpreter that the image has."""
    return known.inventory.python if lock.python.conda is None and carried is None else lock.python.version


def _planned(
    one: PinnedWheel | PackedInstall, sha256: str, files: str | None, known: Ingredients, *, rebuilt: bool = False
) -> PlannedWheel:
    size_bytes, source_bytes = known.wheels[sha256]
    return PlannedWheel(
        name=one.name,
        version=one.version,
        file=one.file,
        sha256=sha256,
        size_bytes=size_bytes,
        source_bytes=source_bytes,
        files=files,
        extra=known.beside.get(one.name, {}),
        rebuilt=rebuilt,
    )


def title(layer: AnyLayer) -> str:
    """What a layer is, for an image's history."""
    match layer:
        case EnvironmentLayer():
            return "envsnap: an empty environment"
        case RemovalLayer(packages=gone):
            return f"envsnap: without {', '.join(f'{package.name} {package.version}' for package in gone)} of the base"
        case SystemLayer(packages=packages):
            return f"envsnap: {', '.join(package.name for package in packages)}"
        case TreeLayer(path=path):
            return f"envsnap: {path} as it was captured"
        case WheelsLayer(wheels=wheels):
            return f"envsnap: {_names(wheels)}"
        case BytecodeLayer(wheels=wheels, version=version):
            return f"envsnap: byte code of Python {version} for {_names(wheels) or CONDA}"
        case SourceLayer(path=path):
            return f"envsnap: the project's files at {path}"
        case LockLayer():
            return "envsnap: the lock"


def _names(wheels: Sequence[PlannedWheel]) -> str:
    return ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)


def wheel_layers(wheels: Sequence[PlannedWheel], lively: Sequence[PlannedWheel], *, python: str | None, room: int) -> tuple[AnyLayer, ...]:
    """The layers of wheels, from below: the large ones, each alone, and their byte code; groups of small ones, each with its byte code.

    Args:
        lively: those that change most often (packed at the capture, installed in place): groups of their own, on top.
        python: exact version of the interpreter that compiles; None for no byte code.
        room: how many layers there may be.

    Raises:
        PlanError: not even one group fits.
    """
    limit = GROUP_BYTES
    while limit < _MAX_GROUP_BYTES:
        layers = (*_layers(wheels, limit, python), *_layers(lively, limit, python))
        if len(layers) <= room:
            return layers
        limit *= 2
    raise PlanError(
        "the image would have too many layers",
        why=f"the base leaves room for {room}",
        hint="a base with fewer layers: --base slim, or --base REF",
    )


def recipe(layer: AnyLayer, layout: Layout) -> str:
    """What names a layer before it is made: hex digest of everything that decides its bytes."""
    return _hash({"format": FORMAT, "layout": plain(layout), "layer": _decisive(layer)})


def own_recipe(layer: AnyLayer, layout: Layout) -> str:
    """As `recipe`, of byte code together with the image's own interpreter: what that made says nothing of other images'."""
    name = recipe(layer, layout)
    return _hash([name, layer.own]) if isinstance(layer, BytecodeLayer) and layer.own else name


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decisive(layer: AnyLayer) -> object:
    match layer:
        case WheelsLayer(wheels=wheels) | BytecodeLayer(wheels=wheels, tree=None):
            # `files` decides no byte: it is here so that what one lock says of a wheel is never taken as checked by another's.
            rows = [[wheel.file, wheel.sha256, wheel.files, dict(wheel.extra)] for wheel in wheels]
            return [type(layer).__name__, rows, layer.version if isinstance(layer, BytecodeLayer) else ""]
        case BytecodeLayer():
            return plain(replace(layer, own=""))
        case _:
            return plain(layer)


def _layers(wheels: Sequence[PlannedWheel], limit: int, python: str | None) -> Iterator[AnyLayer]:
    large = sorted((wheel for wheel in wheels if wheel.size_bytes > limit), key=lambda wheel: (-wheel.size_bytes, wheel.name))
    for wheel in large:
        yield WheelsLayer(wheels=(wheel,))
    for group in _split(large, limit, attrgetter("source_bytes")):
        yield from _byte_code(group, python)
    for group in _split([wheel for wheel in wheels if wheel.size_bytes <= limit], limit, attrgetter("size_bytes")):
        yield WheelsLayer(wheels=group)
        yield from _byte_code(group, python)


def _byte_code(group: Sequence[PlannedWheel], python: str | None) -> Iterator[BytecodeLayer]:
    """Nothing for wheels of libraries alone."""
    compiled = tuple(wheel for wheel in group if wheel.source_bytes)
    if python is not None and compiled:
        yield BytecodeLayer(wheels=compiled, version=python)


def _split(
    wheels: Sequence[PlannedWheel], limit: int, size: Callable[[PlannedWheel], int], *, depth: int = 0
) -> Iterator[tuple[PlannedWheel, ...]]:
    """Halves by one more bit of each name's hash, until a part is small enough or one wheel: a package that comes, goes or grows moves
    no other to another part, but where a part is split.
    """
    if not wheels:
        return
    if len(wheels) == 1 or sum(map(size, wheels)) <= limit:
        yield tuple(sorted(wheels, key=lambda wheel: wheel.name))
        return
    for side in (0, 1):
        yield from _split([wheel for wheel in wheels if _bit(wheel.name, depth) == side], limit, size, depth=depth + 1)


def _bit(name: str, depth: int) -> int:
    return hashlib.sha256(name.encode()).digest()[depth // 8] >> (7 - depth % 8) & 1
