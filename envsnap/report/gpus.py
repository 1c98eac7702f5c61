"""The GPUs of a host in one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from envsnap.model.facts import GpuDevice, GpuFacts

_NVLINK = re.compile(r"(?P<pair>\d+-\d+) (?:(?P<links>\d+)x )?NVLink\Z")
_MOST_PAIRS = 4


def gpu_line(facts: GpuFacts) -> str:
    """As "8 × NVIDIA H100 80GB HBM3 (sm_90, 86 GB), driver 580.159.04, CUDA ≤ 13.0, NVLink all-to-all": cards of a kind counted
    together, what is unknown left out.
    """
    if facts.unavailable:
        return f"none: {facts.unavailable}"
    kinds = Counter(_kind(device) for device in facts.devices)
    cards = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
    driver = f"driver {facts.driver}" if facts.driver else ""
    cuda = f"CUDA ≤ {facts.cuda_driver}" if facts.cuda_driver else ""
    return ", ".join(filter(None, (cards or "no device", driver, cuda, links(facts.topology, len(facts.devices)))))


def links(topology: Sequence[str], devices: int) -> str:
    """How the cards reach each other; "" where there are no two, or nothing is known of any two.

    Args:
        topology: as in `GpuFacts`.
        devices: how many there are: all-to-all is said of all their pairs only.
    """
    known = [link for link in topology if not link.endswith(" unknown")]
    joined = [match for link in known if (match := _NVLINK.match(link))]
    pairs = max(len(known), devices * (devices - 1) // 2)
    unknown = pairs - len(known)
    if not known:
        return ""
    return _nvlink(joined, known, pairs) + (f", {unknown} unknown" if unknown else "")


def _nvlink(joined: Sequence[re.Match[str]], known: Sequence[str], pairs: int) -> str:
    if not joined:
        return "no peer access" if all(link.endswith("no peer access") for link in known) else "no NVLink"
    counts = sorted({int(match["links"] or 0) for match in joined})
    number = f", {counts[0]} to {counts[-1]} links" if counts[0] and len(counts) > 1 else ""
    if len(joined) < pairs:
        shown = ", ".join(match["pair"] for match in joined) if len(joined) <= _MOST_PAIRS else f"between {len(joined)} of {pairs} pairs"
        return f"NVLink {shown}{number}"
    if pairs == 1:
        return "NVLink"
    return f"NVLink between all pairs{number}" if len(counts) > 1 else "NVLink all-to-all"


def _kind(device: GpuDevice) -> str:
    parts = (
        f"sm_{device.compute_capability.replace('.', '')}" if device.compute_capability else "",
        f"{device.memory_mib * 1.048576 / 1000:.0f} GB" if device.memory_mib else "",
        _mig(device.mig),
    )
    known = ", ".join(filter(None, parts))
    return f"{device.name} ({known})" if known else device.name


def _mig(mig: str) -> str:
    if mig in ("", "none"):
        return "MIG without instances" if mig else ""
    return "MIG " + " + ".join(f"{count} × {profile}" if count > 1 else profile for profile, count in Counter(mig.split(",")).items())
