"""Facts -> lock: each way of being installed gets its origin and provenance, and each doubt its reason."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from envsnap.errors import TargetError
from envsnap.lockfile import Packed, PackedTree, Unfound, WheelAnswer, assemble, dumps, kept_tree, loads, needs_tree, recognised, to_pack
from envsnap.model.base import InstalledDistribution
from envsnap.model.facts import CollectedFacts, CondaPackage, DeviceCode, Distribution, Problem, SystemLibrary, SystemOwner
from envsnap.model.lock import EnvLock, LockedPackage
from envsnap.model.origins import (
    BaseOrigin,
    DirectoryOrigin,
    EditableOrigin,
    IndexOrigin,
    SystemOrigin,
    UnknownOrigin,
    VcsOrigin,
    WheelOrigin,
)
from tests import samples
from tests.fakes.secrets import PLANTED
from tests.samples import PROJECT, distribution, hex64

COMMIT = "9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"
WHEELS = {
    name: WheelAnswer(file=samples.wheel_file(name, version, tags), sha256=hex64(f"wheel {name} {version}"))
    for name, version, tags, _, _ in samples.INDEX_PACKAGES
}
PACKED = {
    "ultralytics-thop": Packed(
        file="ultralytics_thop-2.2.3-py3-none-any.whl",
        blob=samples.digest("packed ultralytics-thop"),
        files=samples.digest("files of thop"),
    ),
    "yolotools": Packed(file="yolotools-0.3.1.dev4-py3-none-any.whl", blob=samples.digest("packed yolotools"), files=None),
}


def assembled(facts: CollectedFacts | None = None, **changes: Any) -> EnvLock:
    arguments: dict[str, Any] = {
        "name": "yolo-train",
        "facts": facts if facts is not None else samples.facts(),
        "gpu": samples.gpu_probe(),
        "wheels": WHEELS,
        "source": samples.source(),
        "source_root": PROJECT,
        "packed": PACKED,
        "reference": samples.reference("cuda"),
        "capture": samples.capture(),
        **changes,
    }
    return assemble(**arguments)


def one(installed: Distribution, **changes: Any) -> tuple[LockedPackage, str]:
    """The package that one distribution becomes, and why it is unproven ("" when it is not)."""
    lock = assembled(samples.facts(distributions=(installed,)), **changes)
    assert loads(dumps(lock)) == lock  # whatever was found, the lock can be read back
    (package,) = lock.packages
    told = [problem.what for problem in lock.capture.problems if problem.where == f"packages.{package.name}"]
    reasons = [package.origin.reason] if isinstance(package.origin, UnknownOrigin) else told
    return package, "; ".join(reasons)


def test_the_sample_facts_become_the_sample_lock() -> None:
    lock = assembled()
    assert lock == samples.lock(device="cuda")
    assert loads(dumps(lock)) == lock


def test_from_the_default_index() -> None:
    package, doubt = one(distribution("pip", "23.2.1"))
    assert (package.provenance, package.origin, doubt) == ("index", IndexOrigin(), "")


def test_the_architectures_of_its_gpu_code_come_through() -> None:
    code = DeviceCode(cubins=("sm_80", "sm_90a"), partial=("sm_90a",))
    package, doubt = one(distribution("pip", "23.2.1", device_code=code))
    assert (package.device_code, doubt) == (code, "")


def test_from_another_index_and_withdrawn() -> None:
    answer = WheelAnswer(file="x-1-py3-none-any.whl", sha256=hex64("x"), index="corp@packages.example.com", yanked=True)
    package, _ = one(distribution("x", "1"), wheels={"x": answer})
    assert package.origin == IndexOrigin(index="corp@packages.example.com", yanked=True)
    assert package.sha256 == hex64("x")


UNFOUND = {"x": Unfound(reason="no index that pip is configured for has x 1", everyone_asked=True)}
EGG = distribution("x", "1", metadata_dir=f"{samples.SITE}/x.egg-info", installer="")


@pytest.mark.parametrize(
    ("installed", "changes", "reason"),
    [
        (distribution("x", "1"), {"wheels": UNFOUND}, "no index that pip is configured for has x 1"),
        (distribution("x", "1"), {}, "no index was asked for it"),
        (distribution("pip", "23.2.1", files=None), {}, "it has no usable RECORD, so its files cannot be held against the index's"),
        (EGG, {}, "installed as an egg: nothing records its files or where they came from"),
    ],
)
def test_of_unknown_origin(installed: Distribution, changes: dict[str, Any], reason: str) -> None:
    package, doubt = one(installed, **changes)
    assert (package.provenance, package.origin, doubt) == ("unproven", UnknownOrigin(reason=reason), reason)


def test_an_edited_package_keeps_its_origin_and_its_wheel_and_loses_its_proof() -> None:
    package, doubt = one(distribution("pip", "23.2.1", modified=("pip/a.py", "pip/b.py", "pip/c.py", "missing: pip/d.py")))
    assert (package.provenance, package.origin) == ("unproven", IndexOrigin())
    assert package.file is not None
    assert package.sha256 is not None
    assert package.modified == ("pip/a.py", "pip/b.py", "pip/c.py", "missing: pip/d.py")
    assert doubt == "unproven: files were edited after it was installed: pip/a.py, pip/b.py, pip/c.py and 1 more"


REBUILT = Packed(file="x-1-py3-none-any.whl", blob=samples.digest("rebuilt x"), files=samples.digest("files of x as they are"))


@pytest.mark.parametrize(
    ("installed", "wheels", "origin", "reason"),
    [
        (
            distribution("x", "1"),
            UNFOUND,
            UnknownOrigin(reason="no index that pip is configured for has x 1"),
            "no index that pip is configured for has x 1",
        ),
        (
            distribution("x", "1", modified=("x.py",)),
            {"x": WheelAnswer(file="x-1-py3-none-any.whl", sha256=hex64("x"))},
            IndexOrigin(),
            "files were edited after it was installed: x.py",
        ),
        (
            distribution("x", "1", direct_url={"url": "file:///home/me/x-1-py3-none-any.whl", "archive_info": {}}),
            UNFOUND,
            WheelOrigin(url="file:///home/me/x-1-py3-none-any.whl"),
            "installed from the file file:///home/me/x-1-py3-none-any.whl, and no index is known to publish it",
        ),
        (
            distribution(
                "x", "1", direct_url={"url": "file:///elsewhere/x", "dir_info": {"editable": True}}, editable_paths=("/elsewhere/x",)
            ),
            {},
            EditableOrigin(),
            "installed from file:///elsewhere/x, which is outside the project that is captured",
        ),
    ],
)
def test_what_nothing_proves_is_rebuilt_when_it_was_packed(installed: Distribution, wheels: Any, origin: Any, reason: str) -> None:
    package, doubt = one(installed, wheels=wheels, packed={"x": REBUILT})
    assert (package.provenance, package.origin) == ("rebuilt", origin)
    assert (package.file, package.blob, package.files, package.sha256) == (REBUILT.file, REBUILT.blob, REBUILT.files, None)
    assert package.modified == (installed.modified or ())
    assert reason in doubt


@pytest.mark.parametrize(
    ("installed", "answer", "rescue", "packed"),
    [
        (distribution("x", "1"), WheelAnswer(file="x-1-py3-none-any.whl", sha256=hex64("x")), set(), False),
        (distribution("x", "1"), WheelAnswer(file="x-1-py3-none-any.whl", sha256=hex64("x")), {"all"}, True),
        (distribution("x", "1"), Unfound(reason="gone", everyone_asked=True), set(), True),
        (distribution("x", "1"), Unfound(reason="offline", everyone_asked=False), set(), False),
        (distribution("x", "1"), Unfound(reason="offline", everyone_asked=False), {"x"}, True),
        (distribution("x", "1", modified=("x.py",)), None, set(), True),
        (distribution("x", "1", modified=("x.py",), files=None), None, {"x"}, False),
        (distribution("x", "1", direct_url={"url": "file:///x", "dir_info": {}}), None, set(), True),
        (distribution("torch", "2.7.0a0+7c8ec84dab.nv25.3"), Unfound(reason="gone", everyone_asked=True), set(), False),
    ],
)
def test_which_are_packed(installed: Distribution, answer: Any, rescue: set[str], packed: bool) -> None:
    wheels = {} if answer is None else {installed.name: answer}
    assert to_pack([installed], wheels, frozenset(rescue)) == ({installed.name} if packed else set())


NGC = "nvcr.io/nvidia/pytorch:25.03-py3"


@pytest.mark.parametrize("version", ["2.7.0a0+7c8ec84dab.nv25.3", "2.7.0a0+7c8ec84dab.nv25.03", "0.22.0a0+1a2b3c4.nv25.3.123"])
def test_nvidias_own_builds_belong_to_the_base(version: str) -> None:
    package, doubt = one(distribution("torch", version), releases={"25.03": NGC})
    assert (package.provenance, package.origin, doubt) == ("base", BaseOrigin(reference=NGC), "")


def test_a_build_of_an_unknown_release_is_unproven() -> None:
    package, doubt = one(distribution("torch", "2.7.0a0+7c8ec84dab.nv25.3"))
    assert (package.provenance, doubt) == (
        "unproven",
        "built by NVIDIA for its images of release 25.03, which the catalogue does not know",
    )


HOME = f"{NGC}@{samples.digest('ngc')}"
IN_IMAGE = InstalledDistribution(name="six", version="1.16.0", site="usr/local/lib/python3.12/dist-packages", files=samples.digest("six"))


@pytest.mark.parametrize(
    ("changes", "of_the_base"),
    [
        ({}, True),
        ({"direct_url": {"url": "file:///tmp/pip/six.whl", "archive_info": {}}}, True),
        ({"files": samples.digest("other")}, False),
        ({"version": "1.17.0"}, False),
        ({"modified": ("six.py",)}, False),
        ({"direct_url": {"url": "file:///src/six", "dir_info": {"editable": True}}}, False),
    ],
)
def test_what_the_image_has_byte_for_byte_is_its_own(changes: dict[str, Any], of_the_base: bool) -> None:
    installed = replace(distribution("six", "1.16.0"), **{"files": samples.digest("six"), **changes})
    package, _ = one(installed, base=(IN_IMAGE,), home=HOME)
    assert (package.provenance == "base") is of_the_base
    assert not of_the_base or package.origin == BaseOrigin(reference=HOME)


def test_who_wants_another_version_than_the_image_has() -> None:
    installed = distribution("six", "1.17.0")
    asked = replace(distribution("vllm", "0.8.1"), requested=True, requires=("middle>=1", 'six==1; extra == "old"', "not a requirement;"))
    middle = replace(distribution("middle", "2.0"), requires=("six>=1.17",))
    content = replace(distribution("content", "1.0"), requires=("six>=1.0",))
    facts = replace(samples.facts(), distributions=(content, middle, installed, asked))
    lock = assembled(facts, base=(IN_IMAGE,), home=HOME)
    six = next(package for package in lock.packages if package.name == "six")
    assert six.required_by == ("vllm 0.8.1 > middle 2.0: six>=1.17",)
    assert next(package for package in assembled(facts).packages if package.name == "six").required_by == ()


def test_who_wants_a_package_in_the_place_of_one_of_nvidia_s() -> None:
    """It has another name than the image's: whoever requires it at all is meant; without a list of what is in the image, too."""
    rival = distribution("triton", "3.6.0")
    asked = replace(distribution("fastsparse", "1.0"), requested=True, requires=("triton",))
    facts = replace(
        samples.facts(), distributions=(asked, rival, distribution("other", "2.0"), distribution("torch", "2.7.0a0+7c8ec84dab.nv25.3"))
    )

    def explained(**changes: Any) -> dict[str, tuple[str, ...]]:
        lock = assembled(facts, **changes)
        return {package.name: package.required_by for package in lock.packages if package.required_by}

    wanted = {"triton": ("fastsparse 1.0: triton",)}
    assert explained(rivals={"triton"}, base=(IN_IMAGE,), home=HOME) == wanted
    assert explained(rivals={"triton"}, releases={"25.03": NGC}) == wanted
    assert explained(rivals={"triton"}) == {} == explained(base=(IN_IMAGE,), home=HOME)


def test_what_was_written_over_in_the_image_s_own_is_told() -> None:
    url = {"url": "file:///tmp/pip/six.whl", "archive_info": {}}
    installed = replace(distribution("six", "1.16.0", files=samples.digest("six")), direct_url=url, modified=("six.py",))
    _, why = one(installed, base=(IN_IMAGE,), home=HOME)
    assert why == "unproven: the image's own, and files of it were changed: six.py"
    assert "no index is known to publish it" in one(installed)[1]


def test_a_wheel_that_was_asked_for_is_kept_although_an_index_has_it() -> None:
    answer = WheelAnswer(file="x-1-py3-none-any.whl", sha256=samples.hex64("x"))
    installed = distribution("x", "1", files=samples.digest("files"))
    assert one(installed, wheels={"x": answer})[0].provenance == "index"
    packed = Packed(file="x-1-py3-none-any.whl", blob=samples.digest("blob"), files=samples.digest("files"))
    package, doubt = one(installed, wheels={"x": answer}, packed={"x": packed})
    assert (package.provenance, package.blob, package.origin) == ("rebuilt", packed.blob, IndexOrigin())
    assert doubt == "rebuilt from what is installed: a wheel of what is installed was asked for"


AS_IT_IS = samples.digest("what dpkg has there")
PACKED_SIX = Packed(file="six-1.16.0-py3-none-any.whl", blob=samples.digest("six"), files=samples.digest("files of six"))


def of_system(there: str | None = AS_IT_IS, edits: tuple[str, ...] | None = (), **changes: Any) -> Distribution:
    """Args: there, edits: `files` and `modified` of its owner."""
    owner = SystemOwner(manager="dpkg", package="python3-six", version="1.16.0-4", arch="all", files=there, modified=edits)
    egg = {"installer": "", "tags": (), "files": None, "modified": None, "metadata_dir": "/usr/lib/python3/dist-packages/six.egg-info"}
    return distribution("six", "1.16.0", **{**egg, "system": owner, **changes})


STALE: dict[str, Any] = {
    "files": samples.digest("RECORD of six"),
    "modified": ("missing: six_tests.py", "six.py"),
    "tags": ("py3-none-any",),
}
STALE["metadata_dir"] = "/usr/lib/python3/dist-packages/six-1.16.0.dist-info"
SYSTEM = SystemOrigin(package="python3-six", version="1.16.0-4", arch="all", files=AS_IT_IS)
FROM_INDEX = WheelAnswer(file="six-1.16.0-py3-none-any.whl", sha256=hex64("six"))


@pytest.mark.parametrize(
    ("installed", "changes", "provenance", "origin", "why"),
    [
        (of_system(), {}, "system", SYSTEM, ""),
        (of_system(**STALE), {}, "system", SYSTEM, ""),
        (of_system(**STALE), {"wheels": {"six": FROM_INDEX}}, "system", SYSTEM, ""),
        (of_system(**{**STALE, "modified": ()}), {"wheels": {"six": FROM_INDEX}}, "index", IndexOrigin(), ""),
        (of_system(**{**STALE, "files": None, "modified": ()}), {"wheels": {"six": FROM_INDEX}}, "system", SYSTEM, ""),
        (of_system(conda="six"), {}, "unproven", None, "it is of conda's package six, which no lock can hold"),
        (of_system(edits=("six.py",)), {}, "unproven", SYSTEM, "unproven: files were edited after it was installed: six.py"),
        (
            of_system(None, None),
            {},
            "unproven",
            replace(SYSTEM, files=None),
            "unproven: it is of dpkg's package python3-six, of whose files that keeps no digests",
        ),
        (
            of_system(),
            {"packed": {"six": PACKED_SIX}},
            "rebuilt",
            SYSTEM,
            "rebuilt from what is installed: a wheel of what is installed was asked for",
        ),
        (
            of_system(edits=("six.py",)),
            {"packed": {"six": PACKED_SIX}},
            "rebuilt",
            SYSTEM,
            "rebuilt from what is installed: files were edited after it was installed: six.py",
        ),
    ],
)
def test_what_the_systems_package_manager_installed(
    installed: Distribution, changes: dict[str, Any], provenance: str, origin: Any, why: str
) -> None:
    package, doubt = one(installed, **changes)
    assert (package.provenance, doubt) == (provenance, why)
    assert origin is None or package.origin == origin
    assert package.modified == (("six.py",) if "edited" in why else ())


def test_what_the_system_has_is_packed_where_it_is_asked_for_or_nobody_vouches_for_it() -> None:
    def packed(installed: Distribution, *rescue: str, answer: Any = None) -> bool:
        return bool(to_pack([installed], {"six": answer} if answer is not None else {}, frozenset(rescue)))

    gone = Unfound(reason="no index has it", everyone_asked=True)
    assert not packed(of_system()) and not packed(of_system(**STALE), answer=gone)
    assert packed(of_system(), "six") and packed(of_system(), "all") and not packed(of_system(), "other")
    assert packed(of_system(edits=("six.py",))) and packed(of_system(None, None))


def test_what_the_system_has_in_an_image_is_the_image_s_as_before() -> None:
    def provenance(installed: Distribution, files: str | None) -> str:
        was = replace(IN_IMAGE, files=files, site="usr/lib/python3/dist-packages")
        return one(replace(installed, location="/usr/lib/python3/dist-packages"), base=(was,), home=HOME)[0].provenance

    assert provenance(of_system(), None) == "base"
    assert provenance(of_system(edits=("six.py",)), None) == "base"  # as it may be in the image itself
    stale = {**STALE, "files": samples.digest("six")}
    assert provenance(of_system(**stale), samples.digest("six")) == "base"
    assert provenance(of_system(**{**stale, "system": None}), samples.digest("six")) == "unproven"


def test_what_the_system_has_is_recognised_while_its_files_are_the_same() -> None:
    kept: tuple[dict[str, Any], ...] = ({}, {"packed": {"six": PACKED_SIX}})
    for changes in kept:
        lock = assembled(samples.facts(distributions=(of_system(**STALE),)), **changes)
        assert recognised([of_system(**STALE)], lock) == {"six": lock.packages[0]}
        for other in (of_system(samples.digest("patched")), of_system(edits=("six.py",)), of_system(system=None, **STALE)):
            assert recognised([other], lock) == {}


CHANNEL = "https://conda.example.com/main/linux-64"


def of_conda(**changes: Any) -> CondaPackage:
    known = {"url": f"{CHANNEL}/demo-1.0-py311_0.conda", "sha256": samples.hex64("demo"), "files": samples.digest("demo")}
    return CondaPackage(**{"name": "demo", "version": "1.0", "build": "py311_0", **known, **changes})


@pytest.mark.parametrize(
    ("changes", "kept", "provenance", "problem"),
    [
        ({}, False, "conda", ""),
        ({"md5": "0" * 32, "sha256": None}, False, "conda", ""),
        ({"modified": ("lib/x.so",)}, True, "rebuilt", "kept as installed: demo 1.0: edited after it was installed: lib/x.so"),
        ({"url": None}, True, "rebuilt", "kept as installed: demo 1.0: in no channel that others can reach"),
        (
            {"url": "https://conda.example.com/a b.conda"},
            True,
            "rebuilt",
            "kept as installed: demo 1.0: in no channel that others can reach",
        ),
        ({"sha256": None}, True, "rebuilt", "kept as installed: demo 1.0: conda recorded no hash"),
        ({"url": None}, False, "unproven", "unproven: demo 1.0: in no channel that others can reach"),
    ],
)
def test_what_is_in_its_channel_is_proven_and_the_rest_is_kept(changes: dict[str, Any], kept: bool, provenance: str, problem: str) -> None:
    package = of_conda(**changes)
    assert needs_tree([package], frozenset()) == (provenance != "conda")
    tree = PackedTree(blob=samples.digest("tree"), files={"demo": samples.digest("as it is")}) if kept else None
    facts = samples.facts(conda=(package,), distributions=(samples.distribution("demo-dist", "1.0", conda="demo"),))
    lock = assembled(facts=facts, tree=tree)
    assert lock.python.conda is not None and lock.packages[0].provenance == provenance
    assert lock.python.conda.packages[0].files == (samples.digest("as it is") if kept else samples.digest("demo"))
    assert [found.what for found in lock.capture.problems if found.where == "conda"] == ([problem] if problem else [])
    assert loads(dumps(lock)) == lock


def test_keeping_conda_can_be_asked_for() -> None:
    assert needs_tree([of_conda()], frozenset({"conda"})) and needs_tree([of_conda()], frozenset({"all"}))
    assert not needs_tree([], frozenset({"all"}))


def test_a_package_that_no_lock_can_hold_is_left_out() -> None:
    lock = assembled(facts=samples.facts(conda=(of_conda(build="a b"),), distributions=()))
    assert lock.python.conda is None
    assert [found.where for found in lock.capture.problems if found.where.startswith("conda")] == ["conda.demo"]


def test_a_tree_that_was_kept_stands_for_what_is_still_the_same() -> None:
    local = of_conda(url=None, files=samples.digest("as it is"))
    kept = PackedTree(blob=samples.digest("tree"), files={"demo": samples.digest("as it is")})
    lock = assembled(facts=samples.facts(conda=(local,), distributions=()), tree=kept)
    assert kept_tree([local], lock) == kept
    for changed in ((), (of_conda(version="2"),), (of_conda(url=None, modified=("lib/x.so",)),), (local, of_conda(name="another"))):
        assert kept_tree(changed, lock) is None
    assert kept_tree([local], None) is None


def test_conda_without_a_record_is_not_proven() -> None:
    package, doubt = one(distribution("x", "1", installer="conda", build="py311_0"))
    assert (package.provenance, doubt) == ("unproven", "conda installed it, and nothing in conda-meta says which package it is of")


def vcs(**changes: Any) -> Distribution:
    url = {
        "url": "https://user:token@git.example.com/thop.git?x=1",
        "vcs_info": {"vcs": "git", "commit_id": COMMIT},
        "subdirectory": "py",
        **changes,
    }
    return distribution("ultralytics-thop", "2.2.3", direct_url=url)


def test_from_git_without_its_credentials() -> None:
    package, doubt = one(vcs())
    assert (package.provenance, doubt) == ("vcs", "")
    assert package.origin == VcsOrigin(vcs="git", url="https://git.example.com/thop.git", commit=COMMIT, subdirectory="py")
    assert (package.file, package.blob) == (PACKED["ultralytics-thop"].file, PACKED["ultralytics-thop"].blob)


def test_from_git_but_not_packed() -> None:
    package, doubt = one(vcs(), packed={})
    assert (package.provenance, doubt) == ("unproven", "unproven: its installed files could not be packed as a wheel")
    assert isinstance(package.origin, VcsOrigin)


@pytest.mark.parametrize(
    "broken",
    [
        {"vcs_info": {"vcs": "git", "commit_id": "main"}},
        {"vcs_info": {"vcs": "cvs", "commit_id": COMMIT}},
        {"vcs_info": {}},
        {"vcs_info": "nonsense"},
        {"subdirectory": "../.."},
        {"url": "https://git.example.com/a b"},
    ],
    ids=str,
)
def test_a_direct_url_that_no_lock_can_hold_is_no_origin(broken: dict[str, Any]) -> None:
    package, doubt = one(vcs(**broken))
    assert package.provenance == "rebuilt"
    assert isinstance(package.origin, UnknownOrigin)
    assert doubt.startswith("what is said of its origin cannot be locked: ")


def test_an_index_answer_that_no_lock_can_hold() -> None:
    package, doubt = one(distribution("x", "1"), wheels={"x": WheelAnswer(file="../x.whl", sha256=hex64("x"))})
    assert package.provenance == "unproven"
    assert doubt == "what is said of its origin cannot be locked: file: '../x.whl' is not the name of a wheel file"


def test_a_machine_that_no_lock_can_describe() -> None:
    facts = samples.facts()
    with pytest.raises(TargetError, match="the target is a riscv64 machine"):
        assembled(replace(facts, interpreter=replace(facts.interpreter, machine="riscv64")))


def test_foreign_names_that_no_lock_can_hold_are_left_out_and_named() -> None:
    lock = assembled(samples.facts(system_libraries=(library("liba.so", "bad name"),), env={"A B": "1", "LANG": "C"}))
    assert (lock.system_packages, dict(lock.env)) == ((), {"LANG": "C"})
    assert [problem.where for problem in lock.capture.problems] == ["system_packages.liba.so", "env"]
    assert loads(dumps(lock)) == lock


def local(path: str, *, editable: bool, imports: tuple[str, ...] = ()) -> Distribution:
    info = {"editable": True} if editable else {}
    return distribution("yolotools", "0.3.1.dev4", direct_url={"url": f"file://{path}", "dir_info": info}, editable_paths=imports)


def test_editable_inside_the_project() -> None:
    package, doubt = one(local(f"{PROJECT}/lib%20x", editable=True, imports=(f"{PROJECT}/lib x/src", PROJECT)))
    assert (package.provenance, doubt, package.files) == ("source", "", None)
    assert package.origin == EditableOrigin(path="lib x", import_paths=("lib x/src", ""))


def test_directory_inside_the_project() -> None:
    package, _ = one(local(PROJECT, editable=False))
    assert (package.provenance, package.origin) == ("source", DirectoryOrigin(path=""))
    assert package.files is not None


@pytest.mark.parametrize("editable", [True, False])
def test_outside_the_project(editable: bool) -> None:
    package, doubt = one(local("/home/user/yolo-other", editable=editable))
    assert (package.provenance, package.origin) == ("unproven", EditableOrigin() if editable else DirectoryOrigin())
    assert doubt == "unproven: installed from file:///home/user/yolo-other, which is outside the project that is captured"


def test_nothing_is_inside_a_project_that_is_not_captured() -> None:
    package, _ = one(local(PROJECT, editable=True), source=None)
    assert package.provenance == "unproven"


def test_editable_that_reaches_outside() -> None:
    package, doubt = one(local(PROJECT, editable=True, imports=(f"{PROJECT}/src", "/opt/shared")))
    assert package.origin == EditableOrigin(path="", import_paths=("src",))
    assert doubt == "unproven: editable, and some of what it puts on sys.path is outside the project that is captured"


def wheel_by_path(**info: Any) -> Distribution:
    return distribution("pip", "23.2.1", direct_url={"url": "file:///tmp/pip-23.2.1-py3-none-any.whl", "archive_info": info})


@pytest.mark.parametrize(
    "info", [{"hashes": {"sha256": hex64("wheel pip 23.2.1")}}, {"hash": f"sha256={hex64('wheel pip 23.2.1')}"}], ids=["hashes", "hash"]
)
def test_a_file_that_the_index_publishes_too(info: dict[str, Any]) -> None:
    package, _ = one(wheel_by_path(**info))
    assert (package.provenance, package.origin) == ("index", IndexOrigin())


@pytest.mark.parametrize("info", [{"hashes": {"sha256": hex64("another")}}, {}, {"hash": "nonsense"}], ids=["other", "none", "nonsense"])
def test_a_file_that_no_index_publishes(info: dict[str, Any]) -> None:
    package, doubt = one(wheel_by_path(**info))
    assert (package.provenance, package.origin) == ("unproven", WheelOrigin(url="file:///tmp/pip-23.2.1-py3-none-any.whl"))
    assert doubt == "unproven: installed from the file file:///tmp/pip-23.2.1-py3-none-any.whl, and no index is known to publish it"


def test_what_import_does_not_see_is_left_out_and_named() -> None:
    hidden = distribution("pip", "20.0", location="/usr/lib/python3/dist-packages")
    broken = distribution("broken", "1 beta; rm")
    lock = assembled(samples.facts(distributions=(distribution("pip", "23.2.1"), hidden, broken)))
    assert [(package.name, package.version) for package in lock.packages] == [("pip", "23.2.1")]
    assert [(problem.where, problem.what) for problem in lock.capture.problems] == [
        ("packages.pip", "left out: 20.0 in /usr/lib/python3/dist-packages is hidden by 23.2.1, which comes first on sys.path"),
        ("packages.broken", "left out: no lock can hold the name or version '1 beta; rm'"),
    ]


def test_tags_are_expanded_in_order() -> None:
    package, _ = one(distribution("pip", "23.2.1", tags=("py2.py3-none-any", "py3-none-any")))
    assert package.tags == ("py2-none-any", "py3-none-any")


def test_tags_that_no_lock_can_hold_are_left_out_and_named() -> None:
    hostile = ("py3-none-any", "x-y-/etc/evil", "py3", "py3-none-any\nevil", "")
    lock = assembled(samples.facts(distributions=(distribution("pip", "23.2.1", tags=hostile),)))
    assert loads(dumps(lock)) == lock
    assert (lock.packages[0].tags, lock.packages[0].provenance) == (("py3-none-any",), "index")
    assert [problem.where for problem in lock.capture.problems] == ["packages.pip.tags"] * 4
    assert lock.capture.problems[1].what == "left out: 'py3' is not the tag of a wheel (interpreter-ABI-platform)"


def library(soname: str, package: str | None = None, **changes: Any) -> SystemLibrary:
    values = SystemLibrary(soname=soname, path=f"/usr/lib/{soname}", package=package, package_version="1" if package else None)
    return replace(values, **changes)


def test_system_libraries_are_grouped_by_owner() -> None:
    lock = assembled(
        samples.facts(
            system_libraries=(
                library("libb.so.1", "lib-b", needed_by=("torch",)),
                library("liba.so.1", "lib-b", needed_by=("opencv-python", "torch")),
                library("libown.so", None),
                library("libgone.so", None, path=None),
            )
        )
    )
    assert [(group.name, group.sonames, group.needed_by) for group in lock.system_packages] == [
        (None, ("libown.so",), ()),
        ("lib-b", ("liba.so.1", "libb.so.1"), ("opencv-python", "torch")),
    ]
    assert loads(dumps(lock)) == lock


def test_variables_that_no_lock_may_hold_lose_their_value() -> None:
    secret = "https://user:hunter2@proxy.example.com"
    lock = assembled(
        samples.facts(env={"NCCL_X": secret, "HF_TOKEN": "abc", "LANG": "C\nX", "OMP_NUM_THREADS": "2", "WANDB_API_KEY": None})
    )
    assert lock.env == {"NCCL_X": None, "HF_TOKEN": None, "LANG": None, "OMP_NUM_THREADS": "2", "WANDB_API_KEY": None}
    assert [problem.where for problem in lock.capture.problems] == ["env.HF_TOKEN", "env.LANG", "env.NCCL_X"]
    assert b"hunter2" not in dumps(lock)


def test_what_others_said_loses_its_secrets() -> None:
    said = f"https://me:hunter2@git.example.com/x says {PLANTED['GitHub Token']}"
    capture = replace(samples.capture(), problems=(Problem(where=said, what=said),))
    lock = assembled(samples.facts(imports={"a": f"ImportError: {said}"}), capture=capture)
    assert [problem.where for problem in lock.capture.problems] == ["https://****@git.example.com/x says ****"]
    assert lock.observed.imports_failed == {"a": "ImportError: https://****@git.example.com/x says ****"}


def test_what_was_loaded_is_told_by_the_libraries_themselves() -> None:
    cuda = assembled(samples.facts(torch=samples.torch_facts(cudnn="9.1.0"))).observed.cuda
    assert (cuda.runtime, cuda.cudnn, cuda.nccl, cuda.cublas, cuda.toolkit) == ("13.0.96", "9.20.0", "2.29.7", "13.1.1", None)


def test_imports_are_told_apart() -> None:
    observed = assembled(samples.facts(imports={"b": "", "cv2": "ImportError: libGL.so.1", "a": ""})).observed
    assert observed.imports == ("a", "b")
    assert observed.imports_failed == {"cv2": "ImportError: libGL.so.1"}


def test_an_environment_without_torch() -> None:
    observed = assembled(samples.facts(torch=None, libraries=(), imports=None), reference=None).observed
    assert (observed.cuda.torch, observed.cuda.loaded, observed.imports, observed.reference) == (None, (), (), None)


def test_the_order_in_which_things_were_found_does_not_matter() -> None:
    facts = samples.facts()
    turned = replace(
        facts,
        distributions=facts.distributions[::-1],
        libraries=facts.libraries[::-1],
        system_libraries=facts.system_libraries[::-1],
        env=dict(list(facts.env.items())[::-1]),
    )
    assert dumps(assembled(turned)) == dumps(assembled(facts))


def test_what_to_do_about_a_problem_comes_through() -> None:
    capture = replace(samples.capture(), problems=(Problem(where="x", what="is wrong", hint="mend it"),))
    lock = assembled(facts=samples.facts(env={"PLAIN_TOKEN": None, "BAD": "a\x00b"}), capture=capture)
    assert Problem(where="x", what="is wrong", hint="mend it") in lock.capture.problems
    assert "docker run -e BAD" in next(problem.hint for problem in lock.capture.problems if problem.where == "env.BAD")
