"""What real extensions say of themselves: the GPUs that they are for, and the torch that they belong to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from envsnap import guest
from envsnap.layers.symbols import read_symbols
from envsnap.model.abi import SharedObject, TorchLibraries, torch_libraries
from envsnap.model.facts import CollectedFacts
from envsnap.plan.abi import missing_symbols

GUEST = Path(guest.__file__).parent
ASK = """
import json, os, torch, torchvision
print(json.dumps([torch._C._cuda_getArchFlags().split(), os.path.dirname(torch.__file__), os.path.dirname(torchvision.__file__)]))
"""


@pytest.fixture(scope="module")
def said(training_python: Path) -> tuple[list[str], Path, Path]:
    """What torch was built for, as `torch.cuda.get_arch_list` says it where there is a GPU; where it is, and where torchvision is."""
    done = subprocess.run([training_python, "-B", "-c", ASK], capture_output=True, check=True)
    architectures, torch, torchvision = json.loads(done.stdout)
    return architectures, Path(torch), Path(torchvision)


def pieces(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def symbols_of(place: Path) -> SharedObject:
    found = read_symbols(f"{place.parent.name}/{place.name}", pieces(place))
    assert found is not None, f"{place} cannot be read"
    return found


@pytest.fixture(scope="module")
def torch(said: tuple[list[str], Path, Path]) -> TorchLibraries:
    return torch_libraries(symbols_of(place) for place in sorted((said[1] / "lib").glob("lib*.so")))


def test_architectures_agree_with_torch_and_are_found_of_other_packages(training_python: Path, said: tuple[list[str], Path, Path]) -> None:
    command = [str(training_python), "-B", str(GUEST), "collect", "--device-code", "--out", "-"]
    facts = msgspec.json.decode(subprocess.run(command, capture_output=True, check=True).stdout, type=CollectedFacts)
    codes = {found.name: found.device_code for found in facts.distributions if found.device_code is not None}
    assert list(codes["torch"].whole) == said[0]
    assert "torchvision" in codes
    assert len([name for name in codes if name.startswith("nvidia-")]) >= 2
    assert not [problem for problem in facts.problems if "GPU architectures" in problem.what]
    assert all(code.cubins or code.ptx for code in codes.values())


def test_torchvision_finds_all_in_the_torch_that_it_was_built_for(said: tuple[list[str], Path, Path], torch: TorchLibraries) -> None:
    extensions = [symbols_of(place) for place in sorted(said[2].glob("*.so"))]
    assert {"torchvision/_C.so", "torchvision/image.so"} <= {extension.path for extension in extensions}
    assert missing_symbols(extensions, torch) == ()


def test_in_a_torch_that_changed_a_function_it_does_not(said: tuple[list[str], Path, Path], torch: TorchLibraries) -> None:
    extension = symbols_of(said[2] / "_C.so")
    lost = sorted(extension.undefined & torch.symbols)[:3]
    assert lost
    other = replace(torch, sonames=torch.sonames - {"libtorch_cuda.so"}, symbols=torch.symbols - set(lost))
    (missing,) = missing_symbols([extension], other)
    assert (missing.path, list(missing.symbols), missing.sonames) == ("torchvision/_C.so", lost, ("libtorch_cuda.so",))
