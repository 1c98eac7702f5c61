"""The GPUs where this runs, through NVML.

    python -B GUEST gpu --out FILE --salt SALT --pynvml FILE

--salt SALT       mixed into the hash of each UUID; the same salt tells the same card.
--pynvml FILE     NVIDIA's own binding, one file of the standard library alone; the environment's is not touched.

The document is `envsnap.model.facts.GpuProbe`. Three outcomes are kept apart: devices that answer, a host without an NVIDIA driver
(one sentence, nothing wrong), and a driver that is there and does not work (the sentence, and a problem). NVML says NotSupported for
many fields of many devices; that is an answer. Serials are never asked for, and a UUID leaves this module only as a salted hash.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import re
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations
from typing import Any, Callable, Mapping, Sequence, TypeVar

from .text import write_document

T = TypeVar("T")
MIB = 1 << 20
LIBRARY = "libnvidia-ml.so.1"
SWITCH = "NVSwitch"

P2P_READ = 0  # nvmlGpuP2PCapsIndex_t; nvidia-ml-py 13 spells its NVML_P2P_CAPS_INDEX_READ as a tuple by mistake

# Levels of nvmlGpuTopologyLevel_t, with the words of `nvidia-smi topo -m`.
PCIE_LEVELS = {0: "on one board", 10: "PCIe PIX", 20: "PCIe PXB", 30: "PCIe PHB", 40: "PCIe NODE", 50: "PCIe SYS"}


def load(path: str) -> Any:
    """Pynvml from its file, which has no package around it."""
    spec = spec_from_file_location("envsnap_pynvml", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # it looks itself up there
    spec.loader.exec_module(module)
    return module


def read(pynvml: Any, salt: str) -> dict[str, Any]:
    """Ask NVML for everything that is recorded of the GPUs."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        refusal = refusal_to_load()
        if refusal:
            return broken(f"the NVIDIA driver's library cannot be loaded: {refusal}", {})
        return {"facts": {"unavailable": f"no NVIDIA driver: {LIBRARY} not found"}, "readings": {}}
    except pynvml.NVMLError as error:
        return broken(f"the NVIDIA driver does not answer: {error}", {})
    try:
        return Host(pynvml, salt).probe()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def refusal_to_load() -> str:
    """What the loader has against NVML's library; "" where there is none. pynvml says "not found" of both."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        absent = rf"(?:Error loading shared library )?{re.escape(LIBRARY)}: .*No such file or directory"
        return "" if re.match(absent, str(error)) else str(error)
    return ""


def together(problems: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """One problem for each thing that is wrong, however many devices it befell."""
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem["what"], []).append(problem["where"])
    more = {what: f" and {len(where) - 1} more" if len(where) > 1 else "" for what, where in places.items()}
    return [{"where": f"{where[0]}{more[what]}", "what": what} for what, where in places.items()]


def broken(why: str, known: Mapping[str, Any], problems: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    return {"facts": {**known, "unavailable": why}, "readings": {}, "problems": [*together(problems), {"where": "nvml", "what": why}]}


def main(argv: Sequence[str]) -> int:
    arguments = argparse.ArgumentParser(prog="gpu", description="Write what the GPUs here are as one JSON document.")
    for name in ("--out", "--salt", "--pynvml"):
        arguments.add_argument(name, required=True)
    options = arguments.parse_args(argv)
    write_document(options.out, read(load(options.pynvml), options.salt))
    return 0


class Host:
    """One initialised NVML. `nvml` is the module `pynvml`, which has no types."""

    def __init__(self, nvml: Any, salt: str) -> None:
        self.nvml = nvml
        self.salt = salt
        self.problems: list[dict[str, str]] = []
        self.not_said = {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND}
        self.gone = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_DRIVER_NOT_LOADED}

    def ask(self, where: str, question: Callable[..., T], *arguments: object, also_not_said: frozenset[int] = frozenset()) -> T | None:
        """One answer of NVML; None where it has none, with a problem unless that is normal.

        Raises:
            NVMLError: the device is gone, and no further question about it can be answered.
        """
        try:
            return question(*arguments)
        except self.nvml.NVMLError as error:
            if error.value in self.gone:
                raise
            if error.value not in self.not_said | also_not_said:
                self.problems.append({"where": f"nvml {where}", "what": f"{question.__name__}: {error}"})
            return None

    def probe(self) -> dict[str, Any]:
        nvml = self.nvml
        known: dict[str, str | None] = {}
        try:
            known["driver"] = self.ask("driver", nvml.nvmlSystemGetDriverVersion)
            cuda = self.ask("driver", nvml.nvmlSystemGetCudaDriverVersion_v2)
            known["cuda_driver"] = None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return broken(f"the NVIDIA driver does not answer: {error}", known, self.problems)
        found = ((index, self.handle(index)) for index in range(count))
        handles = {index: handle for index, handle in found if handle is not None}
        devices: list[dict[str, Any]] = []
        readings: dict[str, float | int | str] = {}
        for index in tuple(handles):
            try:
                devices.append(self.device(f"gpu{index}", handles[index]))
                readings.update(self.readings(f"gpu{index}", handles[index]))
            except nvml.NVMLError as error:
                del handles[index]
                self.problems.append({"where": f"nvml gpu{index}", "what": f"the device does not answer: {error}"})
        if not devices:
            why = f"none of the {count} NVIDIA devices answers" if count else "the NVIDIA driver is there and sees no device"
            return broken(why, known, self.problems)
        facts = {**known, "devices": devices, "topology": self.topology(handles)}
        return {"facts": facts, "readings": readings, "problems": together(self.problems)}

    def handle(self, index: int) -> Any | None:
        try:
            return self.nvml.nvmlDeviceGetHandleByIndex(index)
        except self.nvml.NVMLError as error:
            self.problems.append({"where": f"nvml gpu{index}", "what": f"the device does not answer: {error}"})
            return None

    def device(self, where: str, handle: Any) -> dict[str, Any]:
        nvml = self.nvml
        name = nvml.nvmlDeviceGetName(handle)  # every card has one: without it nothing else is worth asking
        capability = self.ask(where, nvml.nvmlDeviceGetCudaComputeCapability, handle)
        memory = self.ask(where, nvml.nvmlDeviceGetMemoryInfo, handle)
        limit_mw = self.ask(where, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        uuid = self.ask(where, nvml.nvmlDeviceGetUUID, handle)
        # Outside MIG most drivers call the question itself invalid.
        attributes = self.ask(where, nvml.nvmlDeviceGetAttributes_v2, handle, also_not_said=frozenset({nvml.NVML_ERROR_INVALID_ARGUMENT}))
        return {
            "name": name,
            "compute_capability": "" if capability is None else f"{capability[0]}.{capability[1]}",
            "memory_mib": 0 if memory is None else memory.total // MIB,
            "mig": self.mig(where, handle),
            "power_limit_w": None if limit_mw is None else round(limit_mw / 1000),
            "sm_count": None if attributes is None else attributes.multiprocessorCount,
            "identity": "" if uuid is None else hashlib.sha256(f"{self.salt}\0{uuid}".encode()).hexdigest()[:16],
        }

    def mig(self, where: str, handle: Any) -> str:
        """Profile names of the MIG instances, "none" where MIG is on without any; "" where it is off or unknown."""
        nvml = self.nvml
        mode = self.ask(where, nvml.nvmlDeviceGetMigMode, handle)
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return ""
        absent = frozenset({nvml.NVML_ERROR_NOT_FOUND})
        profiles: list[str] = []
        for index in range(self.ask(where, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            instance = self.ask(where, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index, also_not_said=absent)
            name = None if instance is None else self.ask(where, nvml.nvmlDeviceGetName, instance)
            if name is not None:  # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
                profiles.append(name.rpartition(" MIG ")[2])
        return ",".join(profiles) or "none"

    def readings(self, where: str, handle: Any) -> Mapping[str, float | int | str]:
        nvml = self.nvml
        power_mw = self.ask(where, nvml.nvmlDeviceGetPowerUsage, handle)
        ecc = self.ask(where, nvml.nvmlDeviceGetEccMode, handle)
        since_boot = nvml.NVML_VOLATILE_ECC
        values: dict[str, float | int | str | None] = {
            "sm_clock_mhz": self.ask(where, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self.ask(where, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            "temperature_c": self.ask(where, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            "power_draw_w": None if power_mw is None else power_mw / 1000,
            "ecc": None if ecc is None else ("on" if ecc[0] == nvml.NVML_FEATURE_ENABLED else "off"),
            "ecc_corrected": self.ask(where, nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, since_boot),
            "ecc_uncorrected": self.ask(
                where, nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, since_boot
            ),
            "nvlinks_active": self.active_nvlinks(where, handle),
        }
        return {f"{where}.{name}": value for name, value in values.items() if value is not None}

    def active_nvlinks(self, where: str, handle: Any) -> int | None:
        links = self.nvlinks(where, handle)
        return None if links is None else len(links)

    def nvlinks(self, where: str, handle: Any) -> list[int] | None:
        """The NVLinks of a device that are up, by number; None where it has none to ask for, or one cannot be asked."""
        nvml = self.nvml
        faults = len(self.problems)
        past_the_last = frozenset({nvml.NVML_ERROR_INVALID_ARGUMENT})
        active: list[int] = []
        for link in range(nvml.NVML_NVLINK_MAX_LINKS):
            state = self.ask(where, nvml.nvmlDeviceGetNvLinkState, handle, link, also_not_said=past_the_last)
            if state is None:
                return active if link and len(self.problems) == faults else None
            if state == nvml.NVML_FEATURE_ENABLED:
                active.append(link)
        return active

    def nvlink_ends(self, where: str, handle: Any) -> Counter[str]:
        """How many active NVLinks lead to a switch, and to the device at each PCI bus; none where one cannot be asked."""
        nvml = self.nvml
        faults = len(self.problems)
        ends: Counter[str] = Counter()
        for link in self.nvlinks(where, handle) or ():
            if self.ask(where, nvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link) == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
                ends[SWITCH] += 1
            else:
                remote = self.ask(where, nvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
                if remote is not None:
                    ends[bus_of(remote)] += 1
        return ends if len(self.problems) == faults else Counter()

    def topology(self, handles: Mapping[int, Any]) -> list[str]:
        ends: dict[int, Counter[str]] = {}
        buses: dict[int, str] = {}
        for index, handle in handles.items():
            try:
                ends[index] = self.nvlink_ends(f"gpu{index}", handle)
                pci = self.ask(f"gpu{index}", self.nvml.nvmlDeviceGetPciInfo, handle)
                buses[index] = "" if pci is None else bus_of(pci)
            except self.nvml.NVMLError as error:
                ends[index], buses[index] = Counter(), ""
                self.problems.append({"where": f"nvml gpu{index}", "what": f"the device does not answer: {error}"})
        return [
            f"{a}-{b} {self.link(f'gpu{a}-gpu{b}', handles[a], handles[b], ends[a][buses[b]] or min(ends[a][SWITCH], ends[b][SWITCH]))}"
            for a, b in combinations(sorted(handles), 2)
        ]

    def link(self, where: str, one: Any, other: Any, nvlinks: int) -> str:
        """Args: nvlinks: how many of them join the two; 0 where they do not say."""
        nvml = self.nvml
        faults = len(self.problems)
        try:
            if self.ask(where, nvml.nvmlDeviceGetP2PStatus, one, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
                return f"{nvlinks}x NVLink" if nvlinks else "NVLink"
            if len(self.problems) > faults:
                return "unknown"
            level = self.ask(where, nvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
            read_status = self.ask(where, nvml.nvmlDeviceGetP2PStatus, one, other, P2P_READ)
        except nvml.NVMLError as error:
            self.problems.append({"where": f"nvml {where}", "what": f"a device does not answer: {error}"})
            return "unknown"
        link = "unknown" if level is None else PCIE_LEVELS.get(level, f"level {level}")
        return link if read_status in (None, nvml.NVML_P2P_STATUS_OK) else f"{link}, no peer access"


def bus_of(pci: Any) -> str:
    """Where a device is on the PCI bus, to tell which is which; it is not kept. Pynvml gives bytes of plain C structures."""
    name = pci.busId
    return (name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)).lower()
