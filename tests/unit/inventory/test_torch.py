"""What a base's torch has for extensions, out of layers that pass by."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.errors import InputError
from envsnap.inventory import files as file_system
from envsnap.inventory import torch
from envsnap.inventory.remembered import blobs_of, export, load, recall, remember
from envsnap.model.abi import TorchLibraries
from tests.fakes.shared_objects import EMPTY, ERROR, TENSOR, shared_object
from tests.unit.inventory.conftest import Entry, directory, elf, file, hard_link, link, whiteout
from tests.unit.inventory.test_read import blobs, inventory, system

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")

SITE = "usr/local/lib/python3.11/dist-packages"
LIB = f"{SITE}/torch/lib"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("made")
    return {
        "libtorch_cpu.so": shared_object(place / "libtorch_cpu.so", defines=(TENSOR, EMPTY), room=40 << 20).read_bytes(),
        "libc10.so": shared_object(place / "libc10.so", defines=(ERROR, "helper")).read_bytes(),
    }


def layer_of(made: dict[str, bytes], where: str = LIB) -> list[Entry]:
    others = [file(f"{where}/libgomp.so.1", elf(soname="libgomp.so.1")), file(f"{where}/libshm/manager", b"x")]
    return [directory(where), *others, *(file(f"{where}/{name}", data) for name, data in made.items())]


ALL = TorchLibraries(sonames=frozenset({"libtorch_cpu.so", "libc10.so"}), symbols=frozenset({TENSOR, EMPTY, ERROR}))


def found(tmp_path: Path, *layers: list[Entry]) -> TorchLibraries | None:
    return torch.recall(inventory(tmp_path, *layers), blobs(tmp_path))


def test_what_torchs_libraries_define_is_kept(tmp_path: Path, made: dict[str, bytes]) -> None:
    known = inventory(tmp_path, system(), layer_of(made))
    assert torch.recall(known, blobs(tmp_path)) == ALL
    assert known.torch_libraries in blobs_of(known)
    assert inventory(tmp_path, system(), layer_of(dict(reversed(made.items())))).torch_libraries == known.torch_libraries


def test_of_libraries_with_gigabytes_little_is_kept(tmp_path: Path, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "_MAX_SPOOL_BYTES", 20 << 20)
    assert found(tmp_path, system(), layer_of(made)) == ALL


def test_a_base_without_torch_says_nothing(tmp_path: Path, made: dict[str, bytes]) -> None:
    assert inventory(tmp_path, system()).torch_libraries is None
    assert found(tmp_path, system(), layer_of(made, "opt/torch/lib")) is None
    assert found(tmp_path, system(), layer_of(made), [whiteout(f"{SITE}/torch")]) is None


def test_layers_that_come_later_win(tmp_path: Path, made: dict[str, bytes]) -> None:
    later = found(tmp_path, system(), layer_of(made), [whiteout(f"{LIB}/libc10.so")])
    assert later is not None and later.sonames == {"libtorch_cpu.so"}
    other = {**made, "libtorch_cpu.so": made["libc10.so"]}
    replaced = found(tmp_path, system(), layer_of(made), layer_of(other))
    assert replaced is not None and replaced.symbols == {ERROR}


def test_links_of_both_kinds_are_followed(tmp_path: Path, made: dict[str, bytes]) -> None:
    linked = [
        file(f"{LIB}/libtorch_cpu.so", made["libtorch_cpu.so"]),
        hard_link(f"{LIB}/libtorch.so", f"{LIB}/libtorch_cpu.so"),
        file("opt/kept/c10", made["libc10.so"]),
        hard_link(f"{LIB}/libc10.so", "opt/kept/c10"),  # whose content nobody knew would be needed
        link(f"{LIB}/libc10_cuda.so", "libc10.so"),
    ]
    both = found(tmp_path, system(), linked)
    assert both is not None
    assert both.symbols == ALL.symbols
    assert both.sonames == {"libtorch_cpu.so", "libtorch.so", "libc10.so", "libc10_cuda.so"}


def test_of_half_a_torch_nothing_is_claimed(tmp_path: Path, made: dict[str, bytes]) -> None:
    for broken in (b"", b"text", made["libtorch_cpu.so"][: 30 << 20]):
        assert found(tmp_path, system(), layer_of({**made, "libtorch_cpu.so": broken})) is None


def test_it_travels_with_its_inventory(tmp_path: Path, made: dict[str, bytes]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    config = f"sha256:{'c' * 64}"
    known = remember(inventory(here, system(), layer_of(made)), config=config, reference="base:1", cache=here)
    export(known, here, tmp_path / "inventory.tar.gz")
    load(tmp_path / "inventory.tar.gz", there)
    assert torch.recall(known.inventory, blobs(there)) == ALL
    assert known.inventory.torch_libraries is not None
    blobs(there).path(known.inventory.torch_libraries).unlink()
    assert recall(config, there) is None


@pytest.mark.parametrize(
    "blob",
    [
        b"no gzip",
        gzip.compress(b"{"),
        gzip.compress(b'{"sonames":["a b"],"symbols":[]}'),
        gzip.compress(b'{"sonames":[],"symbols":["a\\nb"]}'),
    ],
    ids=["no gzip", "no JSON", "no soname", "no symbol"],
)
def test_a_blob_that_is_none_is_refused(tmp_path: Path, blob: bytes) -> None:
    known = replace(inventory(tmp_path, system()), torch_libraries=blobs(tmp_path).put(blob))
    with pytest.raises(InputError, match="refused what is known of a base's torch"):
        torch.recall(known, blobs(tmp_path))
