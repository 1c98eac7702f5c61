from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.attest import artifacts
from envsnap.attest.locations import address, git_address
from envsnap.attest.provenance import provenance
from envsnap.attest.sbom import bill_of_materials
from envsnap.attest.statements import BILL_OF_MATERIALS, PROVENANCE, TEST_RESULT, Subject, of_bill, of_verdict
from envsnap.model.lock import EnvLock
from envsnap.model.parity import CheckResult, Status, Verdict
from envsnap.model.plan import BuildPlan, CopySource, MakeCondaEnvironment
from envsnap.oci.documents import EMPTY, OCI_MANIFEST, Descriptor, Manifest, read_manifest
from tests import samples
from tests.unit.attest.conftest import BASE, DEB, without
from tests.unit.attest.test_sbom import conda_lock

SUBJECT = Subject(name="localhost:5000/yolo-train", digest=samples.digest("image"))


def materials(statement: bytes) -> dict[str, dict[str, Any]]:
    found = json.loads(statement)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert len({one["name"] for one in found}) == len(found)
    return {one["name"]: one for one in found}


def test_provenance_names_all_that_goes_in(lock: EnvLock, plan: BuildPlan) -> None:
    raw = provenance(lock, plan, SUBJECT, engine="oci", system=[DEB], options={"pyc": True})
    document = json.loads(raw)
    assert (document["_type"], document["predicateType"]) == ("https://in-toto.io/Statement/v1", PROVENANCE)
    assert document["subject"] == [{"name": "localhost:5000/yolo-train", "digest": {"sha256": samples.hex64("image")}}]
    definition = document["predicate"]["buildDefinition"]
    assert definition["buildType"] == "https://envsnap.dev/build/oci/v1"
    assert definition["externalParameters"] == {
        "lock": {"name": "yolo-train", "digest": lock.digest},
        "base": "localhost:5000/debian:bookworm",
        "options": {"pyc": True},
    }
    found = materials(raw)
    assert found["localhost:5000/debian:bookworm"]["digest"] == {"sha256": samples.hex64("base")}
    for package in lock.packages:
        assert package.file is not None
        digest = package.blob.removeprefix("sha256:") if package.blob else package.sha256
        assert found[package.file]["digest"] == {"sha256": digest}
    assert found[DEB.path.rpartition("/")[2]]["digest"] == {"sha256": DEB.sha256}
    assert found["yolo"]["digest"] == {"gitCommit": samples.COMMIT}
    assert found["yolo"]["uri"] == f"git+ssh://git@git.example.com/vision/yolo.git@{samples.COMMIT}"
    assert found["yolo.patch"]["digest"] == {"sha256": samples.hex64("patch")}
    assert found["yolo/scripts/run.sh"]["digest"] == {"sha256": samples.hex64("run.sh")}


def test_provenance_tells_neither_time_nor_host(lock: EnvLock, plan: BuildPlan) -> None:
    raw = provenance(lock, plan, SUBJECT, engine="oci")
    assert raw == provenance(samples.lock(), plan, SUBJECT, engine="oci")
    assert raw == provenance(
        replace(lock, capture=replace(lock.capture, at="2030-01-01T00:00:00Z", host="other")), plan, SUBJECT, engine="oci"
    )
    assert set(json.loads(raw)["predicate"]["runDetails"]) == {"builder"}
    assert raw != provenance(lock, plan, SUBJECT, engine="docker")


def test_provenance_without_source_and_with_a_base_that_only_an_engine_knows(lock: EnvLock, plan: BuildPlan) -> None:
    local = replace(without(plan, CopySource), base=replace(BASE, digest=None, image_id=samples.digest("id"), inventory=None))
    found = materials(provenance(lock, local, SUBJECT, engine="docker", system=[DEB]))
    assert found["localhost:5000/debian:bookworm"]["digest"] == {"sha256": samples.hex64("id")}
    assert found["localhost:5000/debian:bookworm"]["annotations"] == {"digest_of": "config"}
    assert "yolo" not in found and "uri" not in found[DEB.path.rpartition("/")[2]]


def test_a_base_that_is_made_of_packages_is_told_by_them(lock: EnvLock, plan: BuildPlan) -> None:
    found = materials(provenance(lock, plan, SUBJECT, engine="oci", base_packages=[DEB]))
    assert "localhost:5000/debian:bookworm" not in found
    assert found["libgl1_1.6.0-1_amd64.deb"]["uri"] == "pkg:deb/debian/libgl1@1.6.0-1?arch=amd64&distro=debian-12"


def test_provenance_of_condas_packages(plan: BuildPlan) -> None:
    lock = conda_lock()
    found = materials(provenance(lock, replace(plan, steps=(MakeCondaEnvironment(reason="r"),)), SUBJECT, engine="oci"))
    assert found["python"]["digest"] == {"sha256": samples.hex64("python")} and found["python"]["downloadLocation"].endswith(".conda")
    assert found["numpy"]["digest"] == {"md5": "0" * 32}
    tree = MakeCondaEnvironment(tree=samples.digest("tree"), reason="r")
    found = materials(provenance(lock, replace(plan, steps=(tree,)), SUBJECT, engine="oci"))
    assert found["conda.tar"]["digest"] == {"sha256": samples.hex64("tree")} and "numpy" not in found


def check(identifier: str, status: Status) -> CheckResult:
    return CheckResult(id=identifier, layer="L0", status=status, expected="e", actual="a", rule="r")


@pytest.mark.parametrize(("verdict", "result"), [("pass", "PASSED"), ("fail", "FAILED"), ("incomplete", "WARNED")])
def test_a_verdict_is_a_test_result(verdict: Any, result: str) -> None:
    checks = (check("identity.a", "pass"), check("identity.b", "fail"), check("speed", "inconclusive"), check("gpu", "skip"))
    raw = of_verdict(
        SUBJECT, Verdict(verdict=verdict, checks=checks, not_judged=("L2 was not judged",)), lock_digest=samples.digest("lock")
    )
    document = json.loads(raw)
    assert document["predicateType"] == TEST_RESULT
    assert document["predicate"] == {
        "result": result,
        "configuration": [{"name": "lock", "digest": {"sha256": samples.hex64("lock")}}],
        "passedTests": ["identity.a"],
        "warnedTests": ["speed", "L2 was not judged"],
        "failedTests": ["identity.b"],
    }


def test_a_bill_is_a_statement(lock: EnvLock, plan: BuildPlan) -> None:
    bill = bill_of_materials(lock, plan)
    document = json.loads(of_bill(SUBJECT, bill))
    assert document["predicateType"] == BILL_OF_MATERIALS and document["predicate"] == json.loads(bill)


def test_a_document_refers_to_its_image() -> None:
    subject = Descriptor(media_type=OCI_MANIFEST, digest=samples.digest("image"), size=7, annotations={"x": "y"})
    bundle = artifacts.artifact("provenance", b"{}\n", subject, predicate_type=PROVENANCE)
    read = read_manifest(bundle.manifest.raw, "", what="")
    assert isinstance(read, Manifest)
    assert read.subject == Descriptor(media_type=OCI_MANIFEST, digest=samples.digest("image"), size=7)
    assert read.artifact_type == "application/vnd.in-toto+json" and read.annotations == {"in-toto.io/predicate-type": PROVENANCE}
    assert bundle.blobs == (EMPTY, b"{}\n")
    assert [layer.media_type for layer in read.layers] == ["application/vnd.in-toto+json"]
    assert (read.digest, read.layers, read.config) == (bundle.manifest.digest, bundle.manifest.layers, bundle.manifest.config)
    assert artifacts.artifact("lock", b"x", subject).manifest.artifact_type == "application/vnd.envsnap.lock.v1+yaml"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://git.example.com/a b.git", "https://git.example.com/a%20b.git"),
        ("git@git.example.com:vision/yolo.git", "ssh://git@git.example.com/vision/yolo.git"),
        ("host:~/x", "ssh://host/~/x"),
        ("https://user:secret@git.example.com/x.git?token=secret", "https://git.example.com/x.git"),
        ("/srv/git/yolo.git", None),
        ("../yolo", None),
        ("javascript://x", None),
        ("https://", None),
        ("http://[", None),
        ("file:///srv/x.whl", "file:///srv/x.whl"),
    ],
)
def test_addresses_are_uris_or_nothing(text: str, found: str | None) -> None:
    assert address(text) == found
    assert git_address(text, "c") == (f"git+{found}@c" if found else None)
