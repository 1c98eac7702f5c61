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
import hashlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations
from typing import Any, Callable, Mapping, Sequence, TypeVar

from .text import write_document

T = TypeVar("T")
MIB = 1 << 20

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
        return {"facts": {"unavailable": "no NVIDIA driver: libnvidia-ml.so.1 not found"}, "readings": {}}
    except pynvml.NVMLError as error:
        return broken(f"the NVIDIA driver does not answer: {error}", {})
    try:
        return Host(pynvml, salt).probe()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def broken(why: str, known: Mapping[str, Any], problems: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    return {"facts": {**known, "unavailable": why}, "readings": {}, "problems": [*problems, {"where": "nvml", "what": why}]}


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
        try:
            driver = self.ask("driver", nvml.nvmlSystemGetDriverVersion)
            cuda = self.ask("driver", nvml.nvmlSystemGetCudaDriverVersion_v2)
            known = {"driver": driver, "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"}
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return broken(f"the NVIDIA driver does not answer: {error}", {}, self.problems)
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
        return {"facts": facts, "readings": readings, "problems": self.problems}

    def handle(self, index: int) -> Any | None:
        try:
            return self.nvml.nvmlDeviceGetHandleByIndex(index)
        except self.nvml.NVMLError as error:
            self.problems.append({"where": f"nvml gpu{index}", "what": f"the device does not answer: {error}"})
            return None

    def device(self, where: str, handle: Any) -> dict[str, Any]:
        nvml = self.nvml
        capability = self.ask(where, nvml.nvmlDeviceGetCudaComputeCapability, handle)
        memory = self.ask(where, nvml.nvmlDeviceGetMemoryInfo, handle)
        limit_mw = self.ask(where, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        uuid = self.ask(where, nvml.nvmlDeviceGetUUID, handle)
        # Outside MIG most drivers call the question itself invalid.
        attributes = self.ask(where, nvml.nvmlDeviceGetAttributes_v2, handle, also_not_said=frozenset({nvml.NVML_ERROR_INVALID_ARGUMENT}))
        return {
            "name": self.ask(where, nvml.nvmlDeviceGetName, handle) or "",
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
        since_boot = nvml.NVML_VOLATILE_ECC
        values: dict[str, float | int | None] = {
            "sm_clock_mhz": self.ask(where, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self.ask(where, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            "temperature_c": self.ask(where, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            "power_draw_w": None if power_mw is None else power_mw / 1000,
            "ecc_corrected": self.ask(where, nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, since_boot),
            "ecc_uncorrected": self.ask(
                where, nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, since_boot
            ),
            "nvlinks_active": self.active_nvlinks(where, handle),
        }
        return {f"{where}.{name}": value for name, value in values.items() if value is not None}

    def active_nvlinks(self, where: str, handle: Any) -> int | None:
        nvml = self.nvml
        past_the_last = frozenset({nvml.NVML_ERROR_INVALID_ARGUMENT})
        active = 0
        for link in range(nvml.NVML_NVLINK_MAX_LINKS):
            state = self.ask(where, nvml.nvmlDeviceGetNvLinkState, handle, link, also_not_said=past_the_last)
            if state is None:
                return active if link else None
            active += state == nvml.NVML_FEATURE_ENABLED
        return active

    def topology(self, handles: Mapping[int, Any]) -> list[str]:
        return [f"{a}-{b} {self.link(f'gpu{a}-gpu{b}', handles[a], handles[b])}" for a, b in combinations(sorted(handles), 2)]

    def link(self, where: str, one: Any, other: Any) -> str:
        nvml = self.nvml
        try:
            if self.ask(where, nvml.nvmlDeviceGetP2PStatus, one, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
                return "NVLink"
            level = self.ask(where, nvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
            read_status = self.ask(where, nvml.nvmlDeviceGetP2PStatus, one, other, P2P_READ)
        except nvml.NVMLError as error:
            self.problems.append({"where": f"nvml {where}", "what": f"a device does not answer: {error}"})
            return "unknown"
        link = "unknown" if level is None else PCIE_LEVELS.get(level, f"level {level}")
        return link if read_status in (None, nvml.NVML_P2P_STATUS_OK) else f"{link}, no peer access"
