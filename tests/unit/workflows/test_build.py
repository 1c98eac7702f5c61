"""What is said of an image that was built: of exactly that one, whoever built it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from envsnap import lockfile
from envsnap.attest.keys import PrivateKey
from envsnap.engines.docker import DockerEngine
from envsnap.engines.interface import EngineImage, Pushed
from envsnap.errors import EngineError, UsageError
from envsnap.model.base import Base, ImageConfig
from envsnap.model.debian import DebFile, SystemPlan
from envsnap.model.layers import SystemPins
from envsnap.model.plan import AptInstall, BuildPlan
from envsnap.oci.documents import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, canonical, read_manifest
from envsnap.progress import SILENT
from envsnap.registry.client import Registry
from envsnap.workflows import attest, build, by_docker, system
from envsnap.workflows.plan import Context, PlanRequest
from envsnap.workflows.records import BuildRequest
from tests import samples
from tests.unit.workflows.test_attest import REPOSITORY, Shelf

LOCK = samples.lock()
TAG = f"{REPOSITORY}:one"
PLAN = BuildPlan(
    lock_name=LOCK.name,
    lock_digest=LOCK.digest,
    base=Base(reference="localhost:5000/debian:bookworm", family="other", digest=samples.digest("base")),
    base_reason="",
    candidates=(),
    steps=(),
    labels={},
)
ZLIB = DebFile(name="zlib1g", version="1", arch="amd64", path="pool/z/zlib1g_1_amd64.deb", sha256=samples.hex64("zlib"), size_bytes=1)
PACKAGES = SystemPlan(distribution="debian 12", arch="amd64", packages=(ZLIB,))


class Registered(Shelf):
    """Attributes: attached: documents, as they are attached."""

    def __init__(self) -> None:
        super().__init__()
        self.attached: list[bytes] = []

    def image(self, reference: str, *, machine: str) -> tuple[Manifest, None]:
        assert machine == "x86_64"
        found = self.manifests[reference]
        assert isinstance(found, Manifest)
        return found, None

    def attach(self, reference: str, manifest: Manifest, read: Any) -> str:
        assert reference == TAG
        self.attached += [b"".join(read(layer, 0)) for layer in manifest.layers]
        return manifest.digest


@pytest.fixture
def shelf() -> Registered:
    return Registered()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "lock.yaml").write_bytes(lockfile.dumps(LOCK))
    return Context(directory=tmp_path, digest=samples.digest("context"), plan=PLAN)


def built_by_docker(request: BuildRequest, shelf: Registered, context: Context, cache: Path) -> None:
    config = Descriptor(media_type=OCI_CONFIG, digest=samples.digest("config"), size=1)
    raw = canonical({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.document(), "layers": []})
    digest = shelf.put_manifest(TAG, read_manifest(raw, OCI_MANIFEST, what=""))
    image = EngineImage(
        image_id=config.digest,
        config_digest=config.digest,
        tags=(),
        repo_digests=(),
        size_bytes=1,
        layers=1,
        config=ImageConfig(architecture="amd64"),
    )
    engine = SimpleNamespace(
        image=lambda _: None, build=lambda *_: image, tag=lambda *_: None, push=lambda *_: Pushed(digest=digest, uploaded_bytes=1)
    )
    by_docker.build(context, LOCK, request, cast("DockerEngine", engine), cast("Registry", shelf), cache, SILENT, 0.0)


def test_what_docker_built_is_signed_and_described_as_what_is_assembled(shelf: Registered, context: Context, tmp_path: Path) -> None:
    key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    request = BuildRequest(plan=PlanRequest(), engine="docker", tags=(TAG,), push=True, sbom=True, sign=key)
    built_by_docker(request, shelf, context, tmp_path / "cache")
    verdict = attest.verify_signature(TAG, key.public, cast("Registry", shelf), required=["slsaprovenance1", "cyclonedx"])
    assert verdict.verdict == "pass"
    statement = json.loads(shelf.attached[-1])
    assert statement["predicate"]["buildDefinition"]["buildType"].endswith("/docker/v1")


def test_nothing_is_said_that_was_not_asked_for(shelf: Registered, context: Context, tmp_path: Path) -> None:
    built_by_docker(BuildRequest(plan=PlanRequest(), tags=(TAG,), push=True), shelf, context, tmp_path / "cache")
    assert shelf.attached == []


def test_what_another_base_came_down_to_is_not_in_the_image(context: Context) -> None:
    system.keep(context.directory, SystemPins(plan=PACKAGES, base=PACKAGES))
    assert system.kept_for(PLAN, context.directory) == SystemPins()
    apt = AptInstall(packages=("zlib1g",), reason="")
    of_packages = replace(PLAN, base=Base(reference="debian:bookworm", family="debian"), steps=(apt,))
    assert system.kept_for(of_packages, context.directory) == SystemPins(plan=PACKAGES, base=PACKAGES)


def test_a_base_that_is_gone_is_not_asked_of_a_public_registry(tmp_path: Path) -> None:
    base = Base(reference="debian:bookworm", family="debian", digest=samples.digest("base"))
    nobody: Any = SimpleNamespace()
    with pytest.raises(EngineError, match="debian:bookworm is not here"):
        by_docker.have_base(base, nobody, tmp_path, SILENT)


def test_docker_keeps_no_packages(tmp_path: Path) -> None:
    request = BuildRequest(plan=PlanRequest(), engine="docker", vendor=True)
    nobody: Any = SimpleNamespace()
    with pytest.raises(UsageError, match="Docker"):
        build.build(tmp_path / "lock.yaml", request, nobody, nobody, packages=nobody, env={}, cache=tmp_path, progress=SILENT)
