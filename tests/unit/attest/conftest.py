"""A plan for the sample lock, on a base that somebody looked into."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from envsnap.attest.keys import PrivateKey
from envsnap.model.base import Base, BaseInventory, InstalledDistribution, InstalledSystemPackage
from envsnap.model.debian import DebFile
from envsnap.model.lock import EnvLock
from envsnap.model.plan import (
    AptInstall,
    BuildPlan,
    CopySource,
    InstallPacked,
    InstallWheels,
    MakeEnvironment,
    PackedInstall,
    PinnedWheel,
)
from tests import samples

INVENTORY = BaseInventory(
    distribution="debian 12",
    python="3.11.2",
    python_path="/usr/bin/python3.11",
    complete=True,
    system_packages=(
        InstalledSystemPackage(name="libc6", version="2.36-9+deb12u10", arch="amd64"),
        InstalledSystemPackage(name="zlib1g", version="1:1.2.13.dfsg-1", arch="amd64"),
    ),
    packages=(
        InstalledDistribution(name="numpy", version="1.24.2", site="usr/lib/python3/dist-packages"),
        InstalledDistribution(name="numpy", version="2.4.6", site="usr/local/lib/python3.11/dist-packages"),
    ),
)
BASE = Base(reference="localhost:5000/debian:bookworm", family="other", digest=samples.digest("base"), inventory=INVENTORY)
DEB = DebFile(
    name="libgl1",
    version="1.6.0-1",
    arch="amd64",
    path="pool/main/libg/libglvnd/libgl1_1.6.0-1_amd64.deb",
    sha256=samples.hex64("libgl1"),
    size_bytes=88_000,
)


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="session")
def other_key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def lock() -> EnvLock:
    return samples.lock()


@pytest.fixture
def plan(lock: EnvLock) -> BuildPlan:
    wheels = tuple(
        PinnedWheel(name=one.name, version=one.version, file=one.file or "", sha256=one.sha256 or "")
        for one in lock.packages
        if one.blob is None
    )
    packed = tuple(
        PackedInstall(name=one.name, version=one.version, file=one.file or "", blob=one.blob)
        for one in lock.packages
        if one.blob is not None
    )
    return BuildPlan(
        lock_name=lock.name,
        lock_digest=lock.digest,
        base=BASE,
        base_reason="asked for",
        candidates=(),
        steps=(
            MakeEnvironment(python="python3", reason="r"),
            InstallWheels(wheels=wheels, reason="r"),
            InstallPacked(packages=packed, reason="r"),
            AptInstall(packages=("libgl1",), reason="r"),
            CopySource(path="/workspace/yolo", reason="r"),
        ),
        labels={},
    )


def without(plan: BuildPlan, *kinds: type) -> BuildPlan:
    """The plan without steps of some kinds."""
    return replace(plan, steps=tuple(step for step in plan.steps if not isinstance(step, kinds)))
