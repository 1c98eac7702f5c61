"""Extensions held against a torch: what is missing is named, what is not torch's is nobody's business here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envsnap.layers.symbols import read_symbols
from envsnap.model.abi import Missing, SharedObject, TorchLibraries, is_of_torch, torch_libraries
from envsnap.plan.abi import described, missing_symbols
from tests.fakes.shared_objects import EMPTY, ERROR, TENSOR, VTABLE, WRAP, shared_object

TORCH = TorchLibraries(sonames=frozenset({"libtorch.so", "libc10.so"}), symbols=frozenset({TENSOR, EMPTY, ERROR}))


def extension(*undefined: str, path: str = "kernels/_C.so", needed: tuple[str, ...] = (), defined: tuple[str, ...] = ()) -> SharedObject:
    return SharedObject(path=path, needed=needed, undefined=frozenset(undefined), defined=frozenset(defined))


@pytest.mark.parametrize(
    "symbol",
    [
        TENSOR, EMPTY, ERROR, VTABLE, WRAP,
        "_ZNK3c1010TensorImpl4sizeEl", "_ZN3c10lsERSoNS_10DeviceTypeE", "_ZTIN5torch8autograd4NodeE", "_ZGVN2at6detailE",
        "_ZNKR5torch3jit5ErrorE", "aoti_torch_empty_strided", "torch_call_dispatcher",
    ],
)  # fmt: skip
def test_torchs_own_symbols(symbol: str) -> None:
    assert is_of_torch(symbol)


@pytest.mark.parametrize(
    "symbol",
    [
        "PyTuple_New", "cudaMalloc", "memcpy", "_ZSt4cout", "_ZNSt6vectorIN2at6TensorESaIS1_EE9push_backERKS1_",
        "_ZN6vision3ops3nmsERKN2at6TensorE",
        "_ZN5flash3runEN3c105ErrorE", "_ZN4atom3getEv", "_Z7forwardRN2at6TensorE", "THE_END", "torchaudio_open",
    ],
)  # fmt: skip
def test_what_others_define(symbol: str) -> None:
    """Types of torch as arguments do not make a function torch's."""
    assert not is_of_torch(symbol)


def test_nothing_is_missing_where_torch_has_it_all() -> None:
    assert missing_symbols([extension(TENSOR, ERROR, "PyTuple_New", "cudaMalloc", needed=("libc10.so", "libcudart.so.12"))], TORCH) == ()


def test_what_is_missing_is_named_sorted() -> None:
    asked = extension(WRAP, VTABLE, TENSOR, "PyTuple_New", needed=("libtorch_cuda.so", "libtorch.so", "libc10_cuda.so", "libcudart.so.13"))
    assert missing_symbols([asked], TORCH) == (
        Missing(path="kernels/_C.so", sonames=("libc10_cuda.so", "libtorch_cuda.so"), symbols=(WRAP, VTABLE)),
    )


def test_a_package_may_define_things_for_itself() -> None:
    own = extension(path="kernels/lib/libtorch_kernels.so", defined=(VTABLE,))
    asking = extension(VTABLE, needed=("libtorch_kernels.so",))
    assert missing_symbols([asking, own], TORCH) == ()
    assert [found.path for found in missing_symbols([asking], TORCH)] == ["kernels/_C.so"]


def test_torch_is_its_own_libraries_and_no_other() -> None:
    libraries = [
        SharedObject(path="torch/lib/libtorch_cpu.so", defined=frozenset({TENSOR, "mkl_free"})),
        SharedObject(path="torch/lib/libc10.so", defined=frozenset({ERROR})),
        SharedObject(path="torch/lib/libgomp.so.1", defined=frozenset({VTABLE})),
        SharedObject(path="torch/lib/libtorchvision.so", defined=frozenset({VTABLE})),
    ]
    assert torch_libraries(libraries) == TorchLibraries(
        sonames=frozenset({"libtorch_cpu.so", "libc10.so"}), symbols=frozenset({TENSOR, ERROR})
    )


def test_a_finding_is_a_clause() -> None:
    one = Missing(path="kernels/_C.so", symbols=(ERROR,))
    assert described(one) == f"kernels/_C.so needs {ERROR} that torch has not"
    more = Missing(path="kernels/_C.so", sonames=("libc10_cuda.so",), symbols=(ERROR, TENSOR, WRAP))
    assert (
        described(more)
        == f"kernels/_C.so needs libc10_cuda.so, which torch has not, and needs {ERROR} and 2 other symbols that torch has not"
    )
    assert described(more, most=2).endswith(f"needs {ERROR}, {TENSOR} and 1 other symbol that torch has not")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_of_a_compiler_and_a_linker_in_both_directions(tmp_path: Path) -> None:
    """The same extension against the torch that it was built for, and against one whose constructor has other arguments."""

    def read(place: Path) -> SharedObject:
        found = read_symbols(place.name, [place.read_bytes()])
        assert found is not None
        return found

    built_for = torch_libraries([read(shared_object(tmp_path / "libtorch.so", defines=(TENSOR, EMPTY)))])
    changed = torch_libraries([read(shared_object(tmp_path / "other/libtorch.so", defines=(TENSOR, EMPTY + "b")))])
    asking = read(shared_object(tmp_path / "_C.so", needs=(EMPTY, "PyTuple_New"), may_need=(WRAP,), libraries=("libtorch.so",)))
    assert missing_symbols([asking], built_for) == ()
    assert missing_symbols([asking], changed) == (Missing(path="_C.so", symbols=(EMPTY,)),)
