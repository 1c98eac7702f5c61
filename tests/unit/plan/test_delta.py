"""The delta on NVIDIA's image: what stays, what goes in, and what of the base's own nothing may touch."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.errors import PlanError
from envsnap.lockfile import seal
from envsnap.model.base import Base, BaseInventory, Directory, ImageConfig, InstalledDistribution
from envsnap.model.layers import Layout
from envsnap.model.lock import EnvLock, LockedPackage, LockedSystemPackage
from envsnap.model.origins import BaseOrigin, SystemOrigin, UnknownOrigin
from envsnap.model.plan import AptInstall, BuildPlan, ExtendBase, InstallWheels, MakeEnvironment, RemovePackages, SetEnv
from envsnap.plan import base_of, candidate_references, make_plan
from envsnap.plan.layers import Ingredients, lay_out, removals
from envsnap.render.dockerfile import dockerfile
from tests import samples
from tests.unit.render.dockerfile_text import instructions

KNOWN = catalog.load()
HOME = f"nvcr.io/nvidia/pytorch:25.03-py3@{samples.digest('ngc')}"
SITE = "usr/local/lib/python3.11/dist-packages"
TORCH = "2.7.0a0+7c8ec84dab.nv25.3"
ENV = {"PATH": "/usr/bin", "CUDA_VERSION": "12.8.1.012", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "NVIDIA_PYTORCH_VERSION": "25.03"}


def has(name: str, version: str, **changes: Any) -> InstalledDistribution:
    known = {"site": SITE, "files": samples.digest(f"{name} {version}"), "record": samples.digest(f"record of {name}")}
    return InstalledDistribution(name=name, version=version, **{**known, **changes})


OF_BASE = (has("numpy", "1.26.4"), has("pillow", "11.1.0"), has("torch", TORCH), has("pytorch-triton", "3.2.0+git0d4682f0b.nvinternal"))


def own(name: str, version: str, **changes: Any) -> LockedPackage:
    known = LockedPackage(
        name=name,
        version=version,
        origin=BaseOrigin(reference=HOME),
        files=samples.digest(f"{name} {version}"),
        provenance="base",
    )
    return replace(known, **changes)


UNCHANGED = tuple(own(one.name, one.version) for one in OF_BASE)
TIMM = samples.index_package("timm", "1.0.31")


def lock_of(*packages: LockedPackage, without: tuple[str, ...] = ()) -> EnvLock:
    """The base's own packages, with these in place of their namesakes or beside them."""
    chosen = {one.name: one for one in (*UNCHANGED, *packages) if one.name not in without}
    lock = replace(samples.lock(), packages=tuple(chosen[name] for name in sorted(chosen)), system_packages=(), source=None, env={})
    return seal(replace(lock, python=replace(lock.python, kind="container")))


def base(*packages: InstalledDistribution, **changes: Any) -> Base:
    inventory = BaseInventory(distribution="ubuntu 24.04", python="3.11.7", python_path="/usr/bin/python3", packages=packages or OF_BASE)
    known = {"digest": samples.digest("ngc"), "config": ImageConfig(architecture="amd64", env=ENV), "inventory": inventory}
    return Base(reference=HOME, family="ngc-pytorch", **{**known, **changes})


def planned(lock: EnvLock, on: Base | None = None, **options: Any) -> BuildPlan:
    return make_plan(lock, KNOWN, [on or base()], **options)


def step(plan: BuildPlan, kind: type[Any]) -> Any:
    return next((step for step in plan.steps if isinstance(step, kind)), None)


def test_the_image_that_it_was_made_in_is_the_base() -> None:
    lock = lock_of(TIMM)
    assert base_of(lock) == HOME and base_of(samples.lock()) is None
    (asked,) = candidate_references(lock, KNOWN, None)
    assert asked.reference == HOME and asked.release is not None and asked.release.release == "25.03"


def test_only_the_difference_goes_in() -> None:
    plan = planned(lock_of(TIMM))
    assert plan.strategy == "ngc-delta" and step(plan, MakeEnvironment) is None
    extend = step(plan, ExtendBase)
    assert (extend.site, extend.prefix, extend.kept) == (f"/{SITE}", "/usr/local", len(OF_BASE))
    assert [wheel.name for wheel in step(plan, InstallWheels).wheels] == ["timm"]
    assert step(plan, RemovePackages) is None
    # What the base sets is what the environment was made with; PATH leads to it already.
    assert {one.name for one in plan.steps if isinstance(one, SetEnv)} == {"HOME", "USER"}
    assert plan.labels["dev.envsnap.cuda"] == "12.8"


def test_a_captured_variable_that_the_base_has_otherwise_is_set() -> None:
    lock = seal(replace(lock_of(TIMM), env={"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0"}))
    assert {one.name: one.value for one in planned(lock).steps if isinstance(one, SetEnv)}["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "0"


def test_another_version_is_told_with_what_wants_it() -> None:
    pillow = replace(samples.index_package("pillow", "11.3.0"), required_by=("timm 1.0.31: pillow>=11.2",))
    plan = planned(lock_of(pillow))
    assert [(one.name, one.version) for one in step(plan, RemovePackages).packages] == [("pillow", "11.1.0")]
    assert plan.notes == ("pillow 11.1.0 of the base is replaced by 11.3.0: timm 1.0.31: pillow>=11.2",)


@pytest.mark.parametrize("changes", [{"files": samples.digest("edited")}, {"modified": ("PIL/Image.py",)}])
def test_the_same_version_with_other_files_is_another_package(changes: dict[str, Any]) -> None:
    edited = replace(samples.index_package("pillow", "11.1.0"), files=samples.digest("pillow 11.1.0"))
    rebuilt = replace(edited, provenance="rebuilt", blob=samples.digest("blob"), **changes)
    assert [one.name for one in step(planned(lock_of(rebuilt)), RemovePackages).packages] == ["pillow"]


def test_what_the_environment_has_no_more_is_taken_away() -> None:
    plan = planned(lock_of(TIMM, without=("pillow",)))
    assert [one.name for one in step(plan, RemovePackages).packages] == ["pillow"]
    assert "pillow 11.1.0" in plan.notes[0]


def test_a_package_of_the_distribution_is_hidden_and_not_taken_away() -> None:
    on = base(*OF_BASE, has("blinker", "1.4", site="usr/lib/python3/dist-packages", files=None, record=None))
    assert step(planned(lock_of(samples.index_package("blinker", "1.9")), on), RemovePackages) is None


TORCH_OF_INDEX = replace(samples.index_package("torch", "2.6.0"), required_by=("vllm 0.8.1: torch==2.6.0",))


@pytest.mark.parametrize(
    ("lock", "name", "why"),
    [
        (lock_of(TORCH_OF_INDEX), "torch", "torch 2.6.0 takes its place (vllm 0.8.1: torch==2.6.0)"),
        (lock_of(samples.index_package("triton", "3.2.0")), "pytorch-triton", "triton 3.2.0 brings the same modules as pytorch-triton"),
        (lock_of(TIMM, without=("torch",)), "torch", "torch is not in the environment any more"),
    ],
    ids=["replaced", "hidden", "taken away"],
)
def test_what_nvidia_built_stays_unless_it_is_allowed(lock: EnvLock, name: str, why: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(lock)
    assert name in caught.value.what and why in caught.value.why and f"--allow-replace {name}" in caught.value.hint
    with pytest.raises(PlanError):
        planned(lock, allow_replace=frozenset({"numpy"}))
    assert planned(lock, allow_replace=frozenset({name})).strategy == "ngc-delta"
    assert planned(lock, allow_replace=frozenset({"all"})).strategy == "ngc-delta"


def test_what_nvidia_built_comes_before_what_nothing_vouches_for() -> None:
    """Else `--rescue torch` would be advised, for a torch that stops the plan next."""
    unproven = replace(TORCH_OF_INDEX, origin=UnknownOrigin(reason="offline"), provenance="unproven", file=None, sha256=None)
    with pytest.raises(PlanError, match="would not stay as NVIDIA built it"):
        planned(lock_of(unproven))
    with pytest.raises(PlanError, match=r"nothing vouches for torch 2\.6\.0"):
        planned(lock_of(unproven), allow_replace=frozenset({"torch"}))


def test_the_image_with_that_very_torch_is_a_way_out() -> None:
    def hint(version: str) -> str:
        with pytest.raises(PlanError) as caught:
            planned(lock_of(samples.index_package("torch", version)))
        return caught.value.hint

    assert "or make it in nvcr.io/nvidia/pytorch:26.03-py3, whose own torch is 2.11.0a0+a6c236b;" in hint("2.11.0")
    assert "make it in" not in hint("2.6.99")


def test_what_took_the_place_of_a_package_over_its_files_is_told() -> None:
    overwritten = replace(own("pytorch-triton", OF_BASE[3].version), modified=("triton/__init__.py",), provenance="rebuilt")
    overwritten = replace(overwritten, file="pytorch_triton-3.2.0-cp311-cp311-linux_x86_64.whl", blob=samples.digest("blob"))
    rival = replace(samples.index_package("triton", "3.2.0"), required_by=("fastsparse 1.0: triton==3.2.0",))
    with pytest.raises(PlanError) as caught:
        planned(lock_of(overwritten, rival))
    assert "files of pytorch-triton were changed (triton/__init__.py)" in caught.value.why
    assert "triton 3.2.0 brings the same modules as pytorch-triton (fastsparse 1.0: triton==3.2.0)" in caught.value.why


def test_opencv_of_an_index_hides_the_image_s_own() -> None:
    on = base(*OF_BASE, has("opencv", "4.7.0"))
    lock = lock_of(own("opencv", "4.7.0"), samples.index_package("opencv-python-headless", "4.11.0"))
    with pytest.raises(PlanError, match="opencv 4\\.7\\.0"):
        planned(lock, on)


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/cv2",  # where a wheel's own would go over it
        "usr/lib/python3/dist-packages/cv2.cpython-311-x86_64-linux-gnu.so",  # where it would be found too late
    ],
)
@pytest.mark.parametrize("name", ["opencv-python-headless", "opencv"])
def test_what_nvidia_built_into_an_image_under_no_name_is_not_hidden(path: str, name: str) -> None:
    inventory = BaseInventory(
        distribution="ubuntu 22.04", python="3.11.7", python_path="/usr/bin/python3", packages=OF_BASE, unowned=(f"{SITE}/_x", path)
    )
    on = base(inventory=inventory)
    opencv = replace(samples.index_package(name, "4.11.0"), required_by=("ultralytics 8.3.0: opencv-python>=4.6.0",))
    with pytest.raises(PlanError, match=r"opencv \(/usr/l") as caught:
        planned(lock_of(opencv), on)
    assert f"{name} 4.11.0 brings what the base has as /{path}" in caught.value.why
    assert "(ultralytics 8.3.0: opencv-python>=4.6.0)" in caught.value.why
    assert "--allow-replace opencv" in caught.value.hint and "isolated" in caught.value.hint
    assert planned(lock_of(opencv), on, allow_replace=frozenset({"opencv"})).strategy == "ngc-delta"
    assert planned(lock_of(TIMM), on).strategy == "ngc-delta"
    assert planned(lock_of(opencv)).strategy == "ngc-delta"  # where there is none, none is hidden


def test_what_is_no_package_s_and_not_nvidia_s_may_be_hidden() -> None:
    inventory = BaseInventory(
        distribution="ubuntu 22.04", python="3.11.7", python_path="/usr/bin/python3", packages=OF_BASE, unowned=(f"{SITE}/timm",)
    )
    assert planned(lock_of(TIMM), base(inventory=inventory)).strategy == "ngc-delta"


def test_an_image_with_another_build_is_not_its_base() -> None:
    with pytest.raises(PlanError) as caught:
        planned(lock_of(TIMM), base(*(one for one in OF_BASE if one.name != "torch"), has("torch", "2.8.0a0+34c6371d24.nv25.8")))
    assert "it has 2.8.0a0+34c6371d24.nv25.8" in caught.value.why and HOME in caught.value.hint
    with pytest.raises(PlanError, match="cannot carry"):
        planned(lock_of(TIMM), base(has("torch", TORCH, files=samples.digest("other")), *OF_BASE[:2], OF_BASE[3]))


def test_what_is_in_the_image_must_be_known() -> None:
    with pytest.raises(PlanError) as caught:
        planned(lock_of(TIMM), base(inventory=None))
    assert "--deep" in caught.value.hint


def test_no_index_has_it_on_a_small_base() -> None:
    small = Base(reference="python:3.11-slim", family="slim", digest=samples.digest("s"), config=ImageConfig(architecture="amd64"))
    with pytest.raises(PlanError) as caught:
        planned(lock_of(TIMM), small)
    assert TORCH in caught.value.why and HOME in caught.value.hint


def test_an_unproven_package_of_the_base_needs_no_proof() -> None:
    doubted = replace(own("numpy", "1.26.4"), origin=samples.index_package("numpy", "1.26.4").origin, provenance="unproven")
    assert planned(lock_of(doubted)).strategy == "ngc-delta"
    with pytest.raises(PlanError, match="nothing vouches for numpy"):
        planned(lock_of(replace(doubted, version="1.26.5")))


def test_an_editable_of_the_same_version_is_not_the_image_s() -> None:
    on = base(*OF_BASE, has("odd", "1.0", files=None, record=None, site="usr/lib/python3/dist-packages"))
    edited = replace(samples.index_package("odd", "1.0"), files=None)
    assert [wheel.name for wheel in step(planned(lock_of(edited), on), InstallWheels).wheels] == ["odd"]
    unknown = replace(edited, origin=UnknownOrigin(reason="an egg"), provenance="unproven", file=None, sha256=None)
    assert step(planned(lock_of(unknown), on), ExtendBase).kept == len(OF_BASE) + 1


def test_what_the_system_of_the_image_brought_stays_in_it() -> None:
    """One whose RECORD is of the wheel before Debian's changes, so that the capture took it for none of the image's."""
    origin = SystemOrigin(package="python3-odd", version="1.0-1", arch="all", files=samples.digest("odd as it is"))
    of_system = own("odd", "1.0", origin=origin, provenance="system")
    on = base(*OF_BASE, has("odd", "1.0", site="usr/lib/python3/dist-packages"))
    assert step(planned(lock_of(of_system), on), ExtendBase).kept == len(OF_BASE) + 1
    with pytest.raises(PlanError, match="operating system's"):
        planned(lock_of(of_system))


def test_what_has_no_record_cannot_be_taken_away() -> None:
    with pytest.raises(PlanError, match=r"odd 1\.0 of .* cannot be taken away"):
        planned(lock_of(TIMM), base(*OF_BASE, has("odd", "1.0", files=None, record=None)))


def test_nvidia_s_own_build_that_was_edited_is_rebuilt_or_nothing_vouches_for_it() -> None:
    edited = own("torch", TORCH, modified=("torch/functional.py",), provenance="unproven")
    with pytest.raises(PlanError, match="nothing vouches for torch"):
        planned(lock_of(edited), allow_replace=frozenset({"torch"}))
    wheel = {"file": f"torch-{TORCH}-cp311-cp311-linux_x86_64.whl", "blob": samples.digest("torch as it is"), "provenance": "rebuilt"}
    with pytest.raises(PlanError, match="would not stay as NVIDIA built it") as caught:
        planned(lock_of(replace(edited, **wheel)))
    assert caught.value.why == "files of torch were changed (torch/functional.py)"
    assert planned(lock_of(replace(edited, **wheel)), allow_replace=frozenset({"torch"})).strategy == "ngc-delta"


def test_libraries_that_the_base_lacks_are_installed_whoever_needs_them() -> None:
    needed = {"libGL.so.1": ("pillow",), "libz.so.1": ("numpy",), "libcudart.so.12": ()}
    names = {"libGL.so.1": "libgl1", "libz.so.1": "zlib1g", "libcudart.so.12": None}
    entries = tuple(LockedSystemPackage(name=names[one], sonames=(one,), needed_by=by) for one, by in needed.items())
    on = base()
    assert on.inventory is not None
    on = replace(on, inventory=replace(on.inventory, sonames=frozenset({"libz.so.1"})))
    plan = planned(seal(replace(lock_of(TIMM), system_packages=entries)), on)
    assert step(plan, AptInstall).packages == ("libgl1",) and not step(plan, AptInstall).captured


def test_the_image_s_pip_serves_until_it_goes_itself() -> None:
    on = base(*OF_BASE, has("pip", "25.0.1"))

    def rendered(*packages: LockedPackage) -> str:
        lock = lock_of(TIMM, *packages)
        return dockerfile(planned(lock, on), lock, ())

    newer = rendered(samples.index_package("pip", "26.0"))
    assert " uninstall " not in newer and "--ignore-installed" not in newer
    gone = rendered()
    assert gone.index("pip uninstall --yes --disable-pip-version-check pip") > gone.index("--requirement /tmp/requirements.txt")
    hidden = base(*OF_BASE, has("blinker", "1.4", site="usr/lib/python3/dist-packages", files=None, record=None))
    lock = lock_of(samples.index_package("blinker", "1.9"))
    assert "--ignore-installed" in dockerfile(planned(lock, hidden), lock, ())


def test_each_instruction_begins_a_line() -> None:
    """However little there is to do, with what a template leaves out between two of them."""
    for lock in (lock_of(TIMM), lock_of(), lock_of(TIMM, without=("numpy",))):
        for keyword, arguments in instructions(dockerfile(planned(lock), lock, ())):
            assert keyword in {"ARG", "CMD", "COPY", "ENV", "FROM", "LABEL", "RUN", "SHELL", "USER", "WORKDIR"}, arguments
            assert keyword != "RUN" or not re.search(r"(COPY|ENV|LABEL|RUN|USER|WORKDIR) ", arguments), arguments


# ---- as layers

RECORDS = {
    "numpy": {f"{SITE}/numpy/__init__.py": "a", f"{SITE}/numpy.libs/libblas.so": "b", "usr/local/bin/f2py": "c"},
    "torch": {f"{SITE}/torch/__init__.py": "d", f"{SITE}/nvidia/__init__.py": "e", f"{SITE}/nvidia/a.py": "f"},
    "six": {f"{SITE}/six.py": "g", f"{SITE}/nvidia/__init__.py": "e", f"{SITE}/nvidia/b.py": "h"},
}


def test_directories_that_are_a_package_s_alone_go_as_a_whole() -> None:
    assert removals({"numpy"}, RECORDS, Layout(python="3.11")) == ("usr/local/bin/f2py", f"{SITE}/numpy", f"{SITE}/numpy.libs")


def test_what_two_packages_share_stays_while_one_does() -> None:
    gone = removals({"six"}, RECORDS, Layout(python="3.11"))
    assert gone == tuple(
        sorted(
            (
                f"{SITE}/__pycache__/six.cpython-311.pyc",
                f"{SITE}/nvidia/__pycache__/b.cpython-311.pyc",
                f"{SITE}/nvidia/b.py",
                f"{SITE}/six.py",
            )
        )
    )
    assert f"{SITE}/nvidia" in removals({"six", "torch"}, RECORDS, Layout(python="3.11"))


def test_beside_a_package_of_unknown_files_each_file_is_named() -> None:
    records = {"numpy": {f"{SITE}/google/a.py": "a", f"{SITE}/__pycache__/n.cpython-311.pyc": ""}, "egg": {}}
    assert f"{SITE}/google" not in removals({"numpy"}, records, Layout(python="3.11"))
    del records["egg"]
    gone = removals({"numpy"}, records, Layout(python="3.11"))
    assert f"{SITE}/google" in gone and f"{SITE}/__pycache__" not in gone


def test_layers_lie_in_the_base_s_own_site_directory() -> None:
    plan = planned(lock_of(TIMM, replace(samples.index_package("pillow", "11.3.0"))))
    inventory = BaseInventory(
        distribution="ubuntu 24.04",
        python="3.11.7",
        python_path="/usr/bin/python3",
        complete=True,
        directories={"usr/local/lib": Directory(mode=0o2775, gid=50), "var/tmp": Directory(mode=0o1777)},
        packages=OF_BASE,
    )
    wheels = {wheel.sha256: (1000, 100) for wheel in step(plan, InstallWheels).wheels}
    records = {"pillow": {f"{SITE}/PIL/__init__.py": "a"}}
    known = Ingredients(
        wheels=wheels, inventory=inventory, base_layers=3, records=records, base=samples.digest("c"), lock=samples.digest("l")
    )
    laid_out = lay_out(plan, lock_of(TIMM), known)
    layout = laid_out.layout
    assert (layout.site, layout.program) == (SITE, "/usr/bin/python3")
    assert set(layout.directories) == {"usr/local/lib"}
    assert [type(layer).__name__ for layer in laid_out.layers] == [
        "EnvironmentLayer",
        "RemovalLayer",
        "WheelsLayer",
        "BytecodeLayer",
        "LockLayer",
    ]
    assert laid_out.layers[1].paths == (f"{SITE}/PIL",)  # type: ignore[union-attr]
