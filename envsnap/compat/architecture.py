"""Whether the GPU code of an image's packages runs on a host's GPUs, as machine code (cubin) or compiled by the driver (PTX).

Rules: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility"; architecture- and family-specific code by its
"Compute Capabilities": sm_80 runs on 8.x from 8.0, sm_90a on 9.0 alone, sm_100f on 10.x from 10.0, PTX of compute_80 on all from 8.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from envsnap.compat.image import ImageNeeds
from envsnap.model.catalog import Catalog, minor_of, numbers
from envsnap.model.facts import GpuDevice, GpuFacts
from envsnap.model.image import CheckReason, Status

ID = "architecture"
FRAMEWORK = "torch"
_LIBRARIES = ("nvidia-", "cuda-")
"""Of NVIDIA's own libraries a framework takes what its GPU can do: cuSPARSELt has no code for older cards, and torch does without."""
_NO_INSTANCE = "none"  # as the GPU probe says it

How = Literal["cubin", "ptx", "few", "not"]
_ORDER: tuple[Status, ...] = ("fail", "unknown", "pass")


def judge(needs: ImageNeeds, gpus: GpuFacts, cuda: str | None, catalog: Catalog) -> Iterator[CheckReason]:
    """One reason for the framework, and one for each other package that fails.

    Args:
        cuda: of the driver in effect: the newest PTX that it compiles; None unknown.
    """
    if not gpus.devices:
        yield _reason("unknown", _said(needs), gpus.unavailable or "no GPU was named", "name it: --gpu NAME, or --gpu 9.0")
        return
    yield _worst([_of_device(needs, device, cuda, catalog) for device in gpus.devices])
    for name in sorted(needs.code or ()):
        if name != FRAMEWORK and not name.startswith(_LIBRARIES):
            found = _worst([_of_package(name, needs, device, cuda, catalog) for device in gpus.devices])
            if found.status != "pass":
                yield found


def runs(architectures: Sequence[str], compute_capability: str, *, tegra: bool = False) -> Literal["cubin", "ptx", "not"]:
    """How code for these architectures runs on a GPU. Args: tegra: it is a system on a chip, which shares no machine code with cards."""
    major, minor = numbers(compute_capability)
    if any(_is_for(name, major, minor, alone=tegra) for name in architectures if name.startswith("sm_")):
        return "cubin"
    return "ptx" if any(_compiles_for(name, major, minor) for name in architectures if name.startswith("compute_")) else "not"


def _is_for(name: str, major: int, minor: int, *, alone: bool) -> bool:
    its_major, its_minor, suffix = _parts(name)
    if its_major != major:
        return False
    return its_minor == minor if alone or suffix == "a" else its_minor <= minor


def _compiles_for(name: str, major: int, minor: int) -> bool:
    its_major, its_minor, suffix = _parts(name)
    if suffix:
        return _is_for(name, major, minor, alone=False)
    return (its_major, its_minor) <= (major, minor)


def _parts(name: str) -> tuple[int, int, str]:
    """(9, 0, "a") of "sm_90a"."""
    number = name.partition("_")[2]
    digits = number.rstrip("af")
    return int(digits[:-1]), int(digits[-1]), number[len(digits) :]


def _of_device(needs: ImageNeeds, device: GpuDevice, cuda: str | None, catalog: Catalog) -> CheckReason:
    """Of one GPU and the framework; what its architecture alone decides comes first."""
    if device.mig == _NO_INSTANCE:
        hint = "sudo nvidia-smi mig -cgi …   makes one, sudo nvidia-smi -mig 0   turns it off"
        return _reason("fail", _said(needs), f"{device.name}: MIG is on and has no instance, so that CUDA sees no GPU", hint)
    if not _known(device):
        return _reason("unknown", _said(needs), f"{device.name}: its compute capability is not known", "--gpu 9.0   names it")
    row = catalog.gpus.architecture(device.compute_capability)
    if row is not None and row.last_cuda is not None and needs.cuda is not None and numbers(needs.cuda)[0] > numbers(row.last_cuda)[0]:
        needed = f"{row.name} ({device.compute_capability}) in CUDA {numbers(needs.cuda)[0]}"
        found = f"{_named(device)}: CUDA {row.last_cuda}.x was the last with code for it"
        return _reason("fail", needed, found, f"an image with CUDA {row.last_cuda}")
    if needs.code is None:
        if row is not None and row.first_cuda is not None and needs.cuda is not None and numbers(row.first_cuda) > numbers(needs.cuda)[:2]:
            found = f"{_named(device)}: no machine code for it before CUDA {row.first_cuda}; whether there is PTX is not said"
            return _reason("unknown", _said(needs), found, f"an image with CUDA {row.first_cuda} or newer")
        return _reason("unknown", _said(needs), f"{_named(device)}; {needs.says_code}", "envsnap verify tries it")
    framework = FRAMEWORK if needs.torch or FRAMEWORK in needs.code else None
    if framework is not None and framework not in needs.code:
        return _reason("unknown", _said(needs), f"{_named(device)}; of {framework} nothing says it", "envsnap verify tries it")
    if framework is None:
        return _reason("pass", _said(needs), _named(device))
    return _of_package(framework, needs, device, cuda, catalog)


def _of_package(name: str, needs: ImageNeeds, device: GpuDevice, cuda: str | None, catalog: Catalog) -> CheckReason:
    assert needs.code is not None
    which = ID if name == FRAMEWORK else f"{ID}.{name}"
    needed = f"{' '.join(needs.code[name])} in {name} ({needs.says_code})"
    if device.mig == _NO_INSTANCE or not _known(device):
        return _reason("pass", needed, _named(device), which=which)  # the framework's reason says it
    how = _how(name, needs, device, catalog)
    if how == "cubin":
        return _reason("pass", needed, _named(device), which=which)
    if how == "few":
        found = f"{_named(device)}, for which only a few of its kernels are"
        return _reason("unknown", needed, found, "envsnap verify tries it", which=which)
    if how == "not":
        hint = f"another build of {name}: one for sm_{_number(device)}"
        return _reason("fail", needed, f"{_named(device)}, for which it has neither machine code nor PTX", hint, which=which)
    toolkit = minor_of(needs.cuda) if needs.cuda is not None else None
    if toolkit is None or cuda is None:
        found = f"{_named(device)}, by PTX; whether the driver compiles it is not known"
        return _reason("unknown", needed, found, "envsnap verify tries it", which=which)
    if numbers(cuda) < numbers(toolkit):
        found = f"{_named(device)}, by PTX alone, and PTX of CUDA {toolkit} is not compiled by a driver of CUDA {cuda}"
        return _reason("fail", needed, found, f"a newer driver, or a build of {name} for sm_{_number(device)}", which=which)
    hint = "the driver compiles its kernels at their first use: the start is slow, and what is compiled is kept"
    return _reason("pass", needed, f"{_named(device)}, by PTX", hint, which=which)


def _how(name: str, needs: ImageNeeds, device: GpuDevice, catalog: Catalog) -> How:
    """Kernels that a package has for few GPUs alone do not make it run on them, unless it has no others."""
    assert needs.code is not None
    code, few = needs.code[name], set(needs.partial.get(name, ()))
    row = catalog.gpus.architecture(device.compute_capability)
    tegra = row is not None and row.tegra
    most = [one for one in code if one not in few] or list(code)
    how = runs(most, device.compute_capability, tegra=tegra)
    if how == "not" and runs(code, device.compute_capability, tegra=tegra) != "not":
        return "few"
    return how


def _known(device: GpuDevice) -> bool:
    return len(numbers(device.compute_capability)) == 2


def _number(device: GpuDevice) -> str:
    return device.compute_capability.replace(".", "")


def _named(device: GpuDevice) -> str:
    """As "NVIDIA H100 80GB HBM3 (9.0), MIG 1g.10gb": an instance computes as the GPU that it is a part of."""
    name = f"{device.name} ({device.compute_capability})" if device.name else f"a GPU of compute capability {device.compute_capability}"
    return f"{name}, MIG {device.mig}" if device.mig else name


def _said(needs: ImageNeeds) -> str:
    return "GPU code for this host's GPUs" if needs.code is None else f"GPU code ({needs.says_code})"


def _worst(reasons: Sequence[CheckReason]) -> CheckReason:
    """The worst of several GPUs' reasons; all of them, where all pass."""
    worst = min(reasons, key=lambda reason: _ORDER.index(reason.status))
    if worst.status != "pass":
        return worst
    hint = next((reason.hint for reason in reasons if reason.hint), "")
    return msgspec.structs.replace(worst, found="; ".join(dict.fromkeys(reason.found for reason in reasons)), hint=hint)


def _reason(status: Status, needed: str, found: str, hint: str = "", *, which: str = ID) -> CheckReason:
    return CheckReason(id=which, status=status, needed=needed, found=found, hint=hint)
