"""All reasons together, in the order in which they are shown."""

from __future__ import annotations

from envsnap.compat import architecture, driver, requirement
from envsnap.compat import host as hosts
from envsnap.compat.host import Host
from envsnap.compat.image import ImageNeeds
from envsnap.model.catalog import Catalog
from envsnap.model.facts import GpuFacts
from envsnap.model.image import CheckReason


def judge(needs: ImageNeeds, os: str, machine: str, host: Host, catalog: Catalog) -> tuple[CheckReason, ...]:
    """Whether a host may run an image.

    Args:
        os, machine: of the image, as images name them ("linux", "amd64").
    """
    found = driver.judge(needs, host.gpus, catalog)
    required = requirement.judge(needs.requires, host.gpus, catalog) if needs.gpu else None
    return (
        hosts.platform(os, machine, host),
        found.reason,
        *(architecture.judge(needs, host.gpus, found.cuda, catalog) if needs.gpu else ()),
        *([required] if required is not None else []),
        *hosts.judge(needs, host),
    )


def judge_driver(needs: ImageNeeds, gpus: GpuFacts, catalog: Catalog) -> CheckReason:
    """The driver alone, as a plan asks before anything is fetched."""
    return driver.judge(needs, gpus, catalog).reason
