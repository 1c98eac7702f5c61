"""Where the interpreter that makes byte code comes from."""

from __future__ import annotations

import hashlib
import io
import platform
import sys
import tarfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.blobs import BlobStore
from envsnap.bytecode import Command
from envsnap.errors import InputError, TargetError
from envsnap.guest.python_tree import pack_python_tree
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory
from envsnap.model.layers import BytecodeLayer, LayerPlan, Layout, PlannedWheel, TreeLayer
from envsnap.model.plan import CARRIED
from envsnap.rootless import runtime
from envsnap.workflows.byte_code import _of_base, byte_code
from tests.fakes import conda, interpreters
from tests.fakes.wheels import DEMO, DEMO_FILE, write_wheel

VERSION = platform.python_version()
NOTHING = BaseInventory(distribution="debian 12")


def plan(wheel: Path, tree: str | None) -> LayerPlan:
    data = wheel.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    planned = PlannedWheel(name="demo-pkg", version="1.0", file=DEMO_FILE, sha256=sha256, size_bytes=len(data), source_bytes=1)
    layers = [TreeLayer(tree=tree, path=CARRIED.rpartition("/")[0])] if tree is not None else []
    minor = ".".join(VERSION.split(".")[:2])
    return LayerPlan(layout=Layout(python=minor), layers=(*layers, BytecodeLayer(wheels=(planned,), version=VERSION, own="0" * 64)))


def made(
    tmp_path: Path, tree: str | None, kept: BlobStore, *, path: str = "", trusted: bool = True, base: BaseInventory = NOTHING
) -> bytes:
    """On a host that has no Python. Args: path: where programs are looked for."""
    tmp_path.mkdir(exist_ok=True)
    wheel = write_wheel(tmp_path / DEMO_FILE, DEMO)
    made_from, blob = plan(wheel, tree), io.BytesIO()
    env = {"HOME": str(tmp_path), "PATH": path or str(tmp_path)}
    with byte_code(made_from, base, lambda _: wheel, tmp_path / "cache", env, kept, trusted=trusted) as compiled:
        writer = LayerWriter(blob.write)
        layer = made_from.layers[-1]
        assert isinstance(layer, BytecodeLayer)
        assert compiled.write(layer, writer) is not trusted
        writer.finish()
    return blob.getvalue()


@pytest.mark.skipif(Path(sys.base_prefix).resolve() == Path("/usr"), reason="the distribution's own interpreter is not carried")
def test_the_carried_interpreter_makes_it_where_the_host_has_none(tmp_path: Path) -> None:
    kept = BlobStore(tmp_path / "kept")
    pack_python_tree(tree := io.BytesIO(), CARRIED)
    assert made(tmp_path, kept.put(tree.getvalue()), kept)


def test_condas_own_interpreter_makes_it_of_its_packages_and_of_wheels(tmp_path: Path) -> None:
    """As any other of its version does."""
    (tmp_path / "scratch").mkdir()
    package, out, kept = conda.python_package(tmp_path / "scratch"), io.BytesIO(), BlobStore(tmp_path / "kept")
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for path, content in package.files.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = (tarfile.SYMTYPE, content) if isinstance(content, str) else (tarfile.REGTYPE, "")
            member.size = 0 if isinstance(content, str) else len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    tree = kept.put(out.getvalue())
    layout = Layout(python=conda.MINOR)
    wheels = plan(write_wheel(tmp_path / DEMO_FILE, DEMO), None).layers[-1]
    assert isinstance(wheels, BytecodeLayer)
    trees = TreeLayer(tree=tree, path=f"/{layout.prefix}")
    both = (BytecodeLayer(tree=tree, version=VERSION), wheels)
    made_from = LayerPlan(layout=layout, layers=(trees, *both))
    found = []
    for number, path in enumerate((str(tmp_path), str(Path(sys.executable).parent))):
        env = {"HOME": str(tmp_path), "PATH": path}
        with byte_code(
            made_from, NOTHING, lambda _: tmp_path / DEMO_FILE, tmp_path / f"cache{number}", env, kept, trusted=True
        ) as compiled:
            for layer in both:
                blob = io.BytesIO()
                writer = LayerWriter(blob.write)
                compiled.write(layer, writer)
                writer.finish()
                found.append(blob.getvalue())
    assert found[:2] == found[2:]
    with tarfile.open(fileobj=io.BytesIO(found[0]), mode="r:gz") as archive:
        assert f"{layout.prefix}/lib/python{conda.MINOR}/__pycache__/os.cpython-{conda.MINOR.replace('.', '')}.pyc" in archive.getnames()


def test_without_any_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as raised:
        made(tmp_path, None, BlobStore(tmp_path / "kept"))
    assert "--no-pyc" in raised.value.hint


def test_a_bases_interpreter_that_is_damaged_is_let_go(tmp_path: Path) -> None:
    """One that is refused for what it is stays: to read the base anew would not help."""
    store = BlobStore(tmp_path / "cache/blobs")
    inventory = replace(NOTHING, interpreter=store.put(b"no archive"))
    digest = str(inventory.interpreter)

    def found() -> list[Command]:
        return list(_of_base(inventory, tmp_path / "cache", tmp_path))

    assert found() == [] and store.has(digest)
    store.path(digest).write_bytes(bytes(10))
    with pytest.raises(InputError, match="the base's interpreter was damaged") as caught:
        found()
    assert "run it again" in caught.value.hint
    assert found() == [] and not store.has(digest)


@pytest.mark.parametrize("data", [b"no archive", b"", b"\0" * 10240])
def test_a_tree_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    kept = BlobStore(tmp_path / "kept")
    with pytest.raises(InputError, match="no interpreter"):
        made(tmp_path, kept.put(data), kept)
    with pytest.raises(InputError, match="missing"):
        made(tmp_path, "sha256:" + "0" * 64, kept)


@pytest.mark.skipif(Path(sys.base_prefix).resolve() == Path("/usr"), reason="the distribution's own interpreter is not carried")
def test_a_foreign_interpreter_is_run_in_a_sandbox_or_not_at_all(tmp_path: Path) -> None:
    kept = BlobStore(tmp_path / "kept")
    pack_python_tree(tree := io.BytesIO(), CARRIED)
    digest = kept.put(tree.getvalue())
    with pytest.raises(TargetError) as refused:
        made(tmp_path, digest, kept, trusted=False)
    assert "bubblewrap" in refused.value.why and "--no-pyc" in refused.value.hint
    if isinstance(runtime.probe("bwrap", {"PATH": "/usr/bin"}), runtime.Absent):
        pytest.skip("no bubblewrap that works here")
    only_bwrap = tmp_path / "bin"
    only_bwrap.mkdir()
    (only_bwrap / "bwrap").symlink_to("/usr/bin/bwrap")
    for name in ("sh", "env"):
        (only_bwrap / name).symlink_to(f"/bin/{name}")
    confined = made(tmp_path, digest, kept, path=str(only_bwrap), trusted=False)
    assert confined == made(tmp_path / "again", digest, kept)


def test_a_base_s_interpreter_that_nobody_read_here_is_not_run_as_this_user(tmp_path: Path) -> None:
    """One that leaves a mark shows what would happen if it were."""
    (tmp_path / "cache").mkdir()
    mark = tmp_path / "mark"
    kept = BlobStore(tmp_path / "cache/blobs")
    base = BaseInventory(distribution="debian 12", python=VERSION, interpreter=kept.put(interpreters.that_runs(f": > {mark}", VERSION)))
    with pytest.raises(TargetError, match="byte code cannot be made"):
        made(tmp_path, None, kept, trusted=False, base=base)
    assert not mark.exists()
    with pytest.raises(TargetError, match="byte code cannot be made"):
        made(tmp_path, None, kept, trusted=True, base=base)
    assert mark.exists()
