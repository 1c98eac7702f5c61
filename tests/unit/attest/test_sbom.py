from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from msgspec.structs import replace
from packageurl import PackageURL

from envsnap.attest.sbom import bill_of_lock, bill_of_materials
from envsnap.lockfile.digest import seal
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage, LockedPackage, LockedSystemPackage
from envsnap.model.origins import CondaOrigin, SystemOrigin, UnknownOrigin
from envsnap.model.plan import BuildPlan, CopySource, InstallWheels, MakeCondaEnvironment
from tests import samples
from tests.unit.attest.conftest import BASE, DEB, without

URL = "https://conda.example.com/conda-forge/linux-64/python-3.11.7-hab00c5b_1_cpython.conda"
NUMPY_URL = "https://conda.example.com/conda-forge/linux-64/numpy-1.26.4-py311h64a7726_0.conda"


def validated(raw: bytes) -> dict[str, Any]:
    """The document, if it is what the specification's schema allows and nothing else, with no reference made twice."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    document: dict[str, Any] = json.loads(raw)
    references = [component["bom-ref"] for component in flat(document["components"])]
    assert len(references) == len(set(references))
    return document


def flat(components: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for component in components:
        yield component
        yield from flat(component.get("components", []))


def by_reference(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["bom-ref"]: component for component in flat(document["components"])}


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in component["properties"]}


def conda_lock() -> EnvLock:
    python = LockedCondaPackage(name="python", version="3.11.7", build="hab00c5b_1_cpython", url=URL, sha256=samples.hex64("python"))
    edited = LockedCondaPackage(name="local", version="1.0", build="0", modified=("lib/x.py",))
    numpy = LockedCondaPackage(name="numpy", version="1.26.4", build="py311h64a7726_0", url=NUMPY_URL, md5="0" * 32)
    base = samples.lock()
    package = LockedPackage(
        name="numpy",
        version="1.26.4",
        origin=CondaOrigin(url=NUMPY_URL, build="py311h64a7726_0"),
        files=samples.digest("n"),
        provenance="conda",
    )
    conda = LockedConda(packages=(numpy, python, edited))
    return seal(replace(base, python=replace(base.python, kind="conda", conda=conda), packages=(package,)))


def test_the_document_is_valid_and_tells_the_base_from_the_environment(lock: EnvLock, plan: BuildPlan) -> None:
    document = validated(bill_of_materials(lock, plan, system=[DEB]))
    found = by_reference(document)
    base = found["base"]
    assert base["purl"] == f"pkg:oci/debian@{BASE.digest}?repository_url=localhost:5000/debian&tag=bookworm"
    assert {properties(component)["dev.envsnap:part"] for component in flat([base])} == {"base"}
    assert found["base/python"]["version"] == "3.11.2"  # what runs there, not what was captured
    outside = [component for name, component in found.items() if not name.startswith("base")]
    assert {properties(component)["dev.envsnap:part"] for component in outside} == {"environment"}
    assert {name for name in found if name.startswith("environment/pypi/")} == {f"environment/pypi/{one.name}" for one in lock.packages}
    assert len([name for name in found if name.endswith("/numpy") or "/numpy@" in name]) == 3  # two of the base, one of the environment
    assert found["environment/deb/libgl1:amd64"]["hashes"] == [{"alg": "SHA-256", "content": samples.hex64("libgl1")}]
    assert found["environment/source/yolo"]["externalReferences"] == [{"type": "vcs", "url": "ssh://git@git.example.com/vision/yolo.git"}]


def test_each_package_has_its_name_hash_and_origin(lock: EnvLock, plan: BuildPlan) -> None:
    found = by_reference(validated(bill_of_materials(lock, plan)))
    numpy = found["environment/pypi/numpy"]
    locked = next(one for one in lock.packages if one.name == "numpy")
    assert numpy["purl"] == f"pkg:pypi/numpy@2.4.6?file_name={locked.file}"
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": locked.sha256}]
    assert properties(numpy)["dev.envsnap:provenance"] == "index"
    thop = found["environment/pypi/ultralytics-thop"]
    commit = "9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"
    assert PackageURL.from_string(thop["purl"]).qualifiers == {"vcs_url": f"git+https://git.example.com/vision/thop.git@{commit}"}
    assert thop["hashes"] == [{"alg": "SHA-256", "content": samples.hex64("packed ultralytics-thop")}]
    # The project's own packages are nobody's on an index.
    assert found["environment/pypi/yolotools"]["purl"] == "pkg:generic/yolotools@0.3.1.dev4"


def test_names_are_as_the_specification_writes_them(lock: EnvLock, plan: BuildPlan) -> None:
    odd = replace(lock.packages[0], version="2.12.1+cu130")
    unknown = samples.index_package("rebuilt", "1!2.0")
    unknown = replace(
        unknown, origin=UnknownOrigin(reason="gone"), blob=samples.digest("r"), provenance="rebuilt", modified=("a.py", "b.py")
    )
    wheels = tuple(replace(step, wheels=step.wheels[:1]) for step in plan.steps if isinstance(step, InstallWheels))
    rebuilt = replace(wheels[0], wheels=(replace(wheels[0].wheels[0], name="rebuilt"), replace(wheels[0].wheels[0], name=odd.name)))
    document = validated(bill_of_materials(replace(lock, packages=(odd, unknown)), replace(plan, steps=(rebuilt,))))
    names = [component["purl"] for component in flat(document["components"]) if "purl" in component]
    assert names
    for name in names:
        assert PackageURL.from_string(name).to_string() == name
    component = by_reference(document)["environment/pypi/rebuilt"]
    assert [entry["value"] for entry in component["properties"] if entry["name"] == "dev.envsnap:modified"] == ["a.py", "b.py"]


def test_what_conda_installed_is_condas_and_holds_its_distributions(plan: BuildPlan) -> None:
    lock = conda_lock()
    made = replace(plan, steps=(MakeCondaEnvironment(reason="r"),))
    found = by_reference(validated(bill_of_materials(lock, made)))
    name = "pkg:conda/python@3.11.7?build=hab00c5b_1_cpython&channel=conda-forge&subdir=linux-64&type=conda"
    assert found["environment/conda/python"]["purl"] == name
    assert [one["name"] for one in found["environment/conda/numpy"]["components"]] == ["numpy"]
    assert found["environment/conda/numpy"]["hashes"] == [{"alg": "MD5", "content": "0" * 32}]
    assert "hashes" not in found["environment/conda/local"] and "externalReferences" not in found["environment/conda/local"]
    assert "base/python" not in found  # nothing of it runs


def test_what_is_not_known_is_left_out(lock: EnvLock, plan: BuildPlan) -> None:
    blind = replace(plan, base=replace(BASE, digest=None, inventory=None))
    blind = without(blind, CopySource)
    found = by_reference(validated(bill_of_materials(lock, blind)))
    assert "components" not in found["base"] and "version" not in found["base"]
    assert "version" not in found["base/python"] and "purl" not in found["base/python"]
    assert set(found["environment/deb/libgl1"]) == {"type", "bom-ref", "name", "properties"}
    assert "environment/source/yolo" not in found
    assert all("licenses" not in component for component in found.values())


def test_a_base_that_is_made_of_packages_is_told_by_them(lock: EnvLock, plan: BuildPlan) -> None:
    found = by_reference(validated(bill_of_materials(lock, plan, base_packages=[DEB])))
    assert "purl" not in found["base"]  # no registry's image
    assert found["base/deb/libgl1:amd64"]["hashes"] == [{"alg": "SHA-256", "content": DEB.sha256}]
    assert "base/deb/libc6:amd64" not in found


def test_licences_are_those_that_are_given(lock: EnvLock, plan: BuildPlan) -> None:
    found = by_reference(validated(bill_of_materials(lock, plan, licences={"numpy": "BSD-3-Clause AND 0BSD"})))
    assert found["environment/pypi/numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND 0BSD"}]
    assert "licenses" not in found["environment/pypi/yolotools"]


def test_a_change_of_content_is_another_serial_number(lock: EnvLock, plan: BuildPlan) -> None:
    one, same = bill_of_materials(lock, plan), bill_of_materials(samples.lock(), plan)
    assert one == same
    other = json.loads(bill_of_materials(lock, plan, licences={"numpy": "MIT"}))
    assert other["serialNumber"] != json.loads(one)["serialNumber"]
    assert "timestamp" not in json.dumps(json.loads(one)["metadata"])


def test_a_lock_alone_has_no_base_and_all_that_was_captured(lock: EnvLock, plan: BuildPlan) -> None:
    document = validated(bill_of_lock(lock))
    whole = document["metadata"]["component"]
    assert (whole["type"], whole["name"], properties(whole)) == ("application", "yolo-train", {"dev.envsnap:lock": lock.digest})
    assert document["metadata"]["lifecycles"] == [{"phase": "pre-build"}]
    found, built = by_reference(document), by_reference(validated(bill_of_materials(lock, plan)))
    assert {properties(component)["dev.envsnap:part"] for component in found.values()} == {"environment"}
    of_index = {name for name in built if name.startswith("environment/pypi/")}
    assert {name: found[name] for name in of_index} == {name: built[name] for name in of_index}
    assert found["environment/python"]["version"] == "3.11.7"
    assert found["environment/system/libgl1:amd64"]["purl"] == "pkg:deb/debian/libgl1@1.6.0-1?arch=amd64&distro=debian-12"
    assert found["environment/source/yolo"] == built["environment/source/yolo"]
    (graph,) = document["dependencies"]
    assert graph["ref"] == "lock" and {*graph["dependsOn"]} == {*found}
    assert bill_of_lock(samples.lock()) == bill_of_lock(lock)


def test_what_a_lock_s_environment_needs_of_another_system(lock: EnvLock) -> None:
    needed = (
        LockedSystemPackage(sonames=("libown.so.1", "libown2.so.1")),
        LockedSystemPackage(name="mesa-libGL", version="23.1", arch="x86_64", sonames=("libGL.so.1",)),
    )
    observed = replace(lock.observed, platform=samples.platform(distribution="rocky 9"))
    found = by_reference(validated(bill_of_lock(seal(replace(lock, system_packages=needed, observed=observed)))))
    assert found["environment/system/mesa-libGL:x86_64"]["purl"] == "pkg:generic/mesa-libGL@23.1"
    assert "purl" not in found["environment/library/libown.so.1"] and "environment/library/libown2.so.1" in found


def test_what_the_system_installed_goes_by_its_package(lock: EnvLock) -> None:
    origin = SystemOrigin(package="python3-pip", version="23.0.1+dfsg-1", arch="all", files=samples.digest("pip"))
    pip = replace(samples.index_package("pip", "23.0.1"), origin=origin, provenance="system", file=None, sha256=None)

    def name(package: LockedPackage) -> str:
        found = by_reference(validated(bill_of_lock(seal(replace(lock, packages=(package,), source=None)))))
        return str(found["environment/pypi/pip"]["purl"])

    assert name(pip) == "pkg:deb/debian/python3-pip@23.0.1%2Bdfsg-1?arch=all&distro=debian-12"
    assert name(replace(pip, provenance="rebuilt")) == "pkg:pypi/pip@23.0.1"


def test_a_lock_s_conda_packages_hold_their_distributions() -> None:
    found = by_reference(validated(bill_of_lock(conda_lock())))
    assert [one["name"] for one in found["environment/conda/numpy"]["components"]] == ["numpy"]
    assert "environment/conda/python" in found and "environment/python" not in found


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_bytes_hang_on_no_hash_seed(lock: EnvLock, plan: BuildPlan, seed: str) -> None:
    code = (
        "import sys, msgspec; from envsnap.model.lock import EnvLock; from envsnap.model.plan import BuildPlan;"
        "from envsnap.attest.sbom import bill_of_materials; lock, plan = sys.stdin.buffer.read().split(b'\\0');"
        "sys.stdout.buffer.write(bill_of_materials(msgspec.json.decode(lock, type=EnvLock), msgspec.json.decode(plan, type=BuildPlan)))"
    )
    import msgspec

    given = msgspec.json.encode(lock) + b"\0" + msgspec.json.encode(plan)
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}, check=True
    )
    assert done.stdout == bill_of_materials(lock, plan)
