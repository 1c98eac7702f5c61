"""What of a lock each format has, in files that others' readers take."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from packaging.pylock import Pylock
from packaging.requirements import Requirement

from envsnap.lockfile.digest import seal
from envsnap.model.facts import Problem
from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage, LockedPackage
from envsnap.model.origins import BaseOrigin, CondaOrigin, IndexOrigin, SystemOrigin, UnknownOrigin, WheelOrigin
from envsnap.render import conda, exchange, pylock
from tests import samples

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORIES = {"ultralytics-thop": "git+https://git.example.com/vision/thop.git@9b1c4f0e77d25a83c0ffee00aa11bb22cc33dd44"}
TORCH = pylock.Address(url="https://files.example.com/torch.whl", index="https://index.example.com/simple", size_bytes=7)
CHANNEL = "https://conda.example.com/forge"


def package(name: str, version: str = "1.0", **changes: Any) -> LockedPackage:
    return replace(LockedPackage(name=name, version=version, origin=UnknownOrigin(reason="no RECORD"), provenance="unproven"), **changes)


def every_kind() -> EnvLock:
    """The sample, and what no index has."""
    lock = samples.lock()
    rebuilt = replace(
        samples.index_package("tqdm", "4.66.5"),
        origin=WheelOrigin(url="https://h/tqdm.whl"),
        sha256=None,
        blob=samples.digest("tqdm"),
        provenance="rebuilt",
        modified=("tqdm/std.py",),
    )
    allowed = replace(samples.index_package("idna", "3.7"), origin=IndexOrigin(index="cu130@download.example.com"), provenance="unproven")
    problem = Problem(where="packages.idna", what="the index could not be asked")
    more = (
        package("apt-thing", origin=SystemOrigin(package="python3-apt-thing", version="1.0-2", arch="all"), provenance="system"),
        package("gone"),
        package("ngc-thing", origin=BaseOrigin(reference="nvcr.io/nvidia/pytorch:25.03-py3"), provenance="base"),
        rebuilt,
        allowed,
    )
    return seal(replace(lock, packages=(*lock.packages, *more), capture=replace(lock.capture, problems=(problem,))))


def conda_lock(**changes: Any) -> EnvLock:
    lock = samples.lock()
    made = [
        LockedCondaPackage(
            name="numpy", version="1.26.4", build="py311_0", url=f"{CHANNEL}/linux-64/numpy-1.26.4-py311_0.conda", md5="0" * 32
        ),
        LockedCondaPackage(name="python", version="3.11.7", build="h1_cpython", url=f"{CHANNEL}/linux-64/python-3.11.7-h1_cpython.conda"),
        LockedCondaPackage(name="zlib", version="1.3", build="0", url="https://conda.example.com/main/linux-64/zlib-1.3-0.tar.bz2"),
    ]
    made[0] = replace(made[0], **changes)
    of_conda = package("numpy", "1.26.4", origin=CondaOrigin(url=made[0].url or "", build="py311_0"), provenance="conda")
    pip = samples.index_package("six", "1.17.0")
    python = replace(lock.python, kind="conda", conda=LockedConda(packages=tuple(made)))
    return seal(replace(lock, python=python, packages=(of_conda, pip)))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def said(text: str) -> str:
    """The comments, in one line."""
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))


def test_requirements_are_one_pinned_line_for_each_file() -> None:
    lock = every_kind()
    text = exchange.requirements(lock, REPOSITORIES, file="reqs.txt")
    first, *pins = lines(text)
    assert first == "--find-links yolo-train.wheels"
    found = {Requirement(line.partition(" --hash=")[0]).name: line.partition(" --hash=sha256:")[2] for line in pins}
    expected = {one.name: (one.blob or f"sha256:{one.sha256}").removeprefix("sha256:") for one in lock.packages if one.file}
    del expected["yolotools"]  # its wheel holds metadata alone
    assert found == expected
    assert "pip install --require-hashes --no-deps -r reqs.txt" in text and lock.digest in text
    assert f"packed from ultralytics-thop @ {REPOSITORIES['ultralytics-thop']}" in said(text)
    assert "edited in place: tqdm/std.py" in said(text)
    assert "1 wheel is of cu130@download.example.com: pip must be told its address" in said(text)


def test_nothing_is_left_out_in_silence() -> None:
    lock = every_kind()
    whys = {
        "apt-thing": "of the distribution's package python3-apt-thing",
        "gone": "unproven: no RECORD",
        "ngc-thing": "part of the image nvcr.io/nvidia/pytorch:25.03-py3",
        "yolotools": "installed in place",
    }
    texts = (
        exchange.requirements(lock, {}, file="f"),
        pylock.text(lock, {}, {}, file="pylock.toml"),
        conda.text(lock, {}, file="environment.yml"),
    )
    for text in texts:
        for name, why in whys.items():
            assert f"Left out: {name} " in said(text) and why in said(text), name
        assert "Unproven: idna 3.7: the index could not be asked" in said(text)
        assert f"the files of the project, yolo at {samples.COMMIT}, changed since" in said(text)
        assert "libgl1, libxcb1" in said(text) and "OMP_NUM_THREADS" in said(text)
    told = "\n".join(exchange.warnings(lock, exchange.parts(lock)))
    assert all(f"left out: {name}" in told and why in told for name, why in whys.items())
    assert "unproven, and in it all the same: idna" in told


def test_conda_s_packages_need_each_other_and_are_no_wheels() -> None:
    lock = conda_lock()
    found = exchange.parts(lock)
    assert [one.name for one in found.left_out] == ["numpy"] and [one.name for one in found.wheels] == ["six"]
    assert "numpy" not in "".join(lines(exchange.requirements(lock, {}, file="f")))
    assert not conda.beside_conda(lock).left_out


def test_pylock_is_what_its_specification_says() -> None:
    lock = every_kind()
    document = tomllib.loads(pylock.text(lock, {"torch": TORCH}, REPOSITORIES, file="pylock.toml"))
    read = Pylock.from_dict(document)
    read.validate()
    assert read.created_by == "envsnap" and str(read.requires_python) == "==3.11.*"
    (marker,) = read.environments or ()
    there = {"sys_platform": "linux", "platform_machine": "x86_64", "implementation_name": "cpython", "python_full_version": "3.11.7"}
    assert marker.evaluate(there) and not marker.evaluate({**there, "platform_machine": "aarch64"})
    packages = {str(one.name): one for one in read.packages}
    wheels = {name: [*(one.wheels or ())] for name, one in packages.items()}
    assert {*packages} == {one.name for one in lock.packages if one.file} - {"yolotools"}
    (torch,) = wheels["torch"]
    assert (torch.url, torch.size, packages["torch"].index) == (TORCH.url, 7, TORCH.index)
    (numpy,) = wheels["numpy"]  # of which no address is known
    locked = next(one for one in lock.packages if one.name == "numpy")
    assert (numpy.path, numpy.hashes) == (f"yolo-train.wheels/{locked.file}", {"sha256": locked.sha256})
    thop = packages["ultralytics-thop"]
    assert thop.vcs is None and wheels["ultralytics-thop"][0].hashes == {"sha256": samples.hex64("packed ultralytics-thop")}
    assert thop.tool == {"envsnap": {"provenance": "vcs", "repository": REPOSITORIES["ultralytics-thop"]}}
    assert document["tool"]["envsnap"] == {"name": "yolo-train", "lock": lock.digest, "python": "3.11.7"}


def test_a_lock_without_a_package_is_a_pylock_too() -> None:
    lock = replace(samples.lock(), packages=(), python=replace(samples.lock().python, version="main"))
    read = Pylock.from_dict(tomllib.loads(pylock.text(lock, {}, {}, file="pylock.toml")))
    assert read.packages == [] and read.requires_python is None


@given(
    st.recursive(st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1)), lambda inner: st.lists(inner, max_size=3), max_leaves=5), st.text()
)
def test_values_are_what_a_reader_of_toml_has(value: object, text: str) -> None:
    assert tomllib.loads(f"x = {pylock._value({'a': value, 'b': text})}") == {"x": {"a": value, "b": text}}


HOSTILE = "x\n[[packages]]\nname = 'evil'\r\nevil==1\x1b[31m\u2028- evil\x85evil: true\x00 \\"


def test_what_a_lock_says_ends_no_comment() -> None:
    """Free text of a lock, which whoever wrote it chose."""
    lock = every_kind()
    evil = package("evil-one", origin=UnknownOrigin(reason=HOSTILE))
    base = package("evil-two", origin=BaseOrigin(reference=HOSTILE), provenance="base")
    edited = replace(next(one for one in lock.packages if one.name == "tqdm"), modified=(HOSTILE,))
    others = tuple(one for one in lock.packages if one.name != "tqdm")
    spoilt = replace(lock, packages=(*others, evil, base, edited))
    plain = replace(lock, packages=(*others, replace(edited, modified=())))
    printable = {*string.printable} - {*"\r\x0b\x0c"}
    forms: tuple[Callable[[EnvLock], str], ...] = (
        lambda lock: exchange.requirements(lock, {}, file="f"),
        lambda lock: pylock.text(lock, {}, {}, file="pylock.toml"),
        lambda lock: conda.text(lock, {}, file="environment.yml"),
    )
    for form in forms:
        assert lines(form(spoilt)) == lines(form(plain))
        assert {*form(spoilt)} <= printable


def test_conda_has_each_package_by_version_and_build() -> None:
    rattler = pytest.importorskip("rattler")
    lock = conda_lock()
    document = yaml.safe_load(conda.text(lock, {}, file="environment.yml"))
    assert document["name"] == "yolo-train" and document["channels"] == [CHANNEL, "https://conda.example.com/main", "nodefaults"]
    *packages, pip, of_pip = document["dependencies"]
    assert packages == ["numpy=1.26.4=py311_0", "python=3.11.7=h1_cpython", "zlib=1.3=0"] and pip == "pip"
    assert of_pip == {"pip": ["six==1.17.0"]}
    spec = rattler.MatchSpec(packages[0])
    assert (spec.name.normalized, str(spec.version), spec.build) == ("numpy", "==1.26.4", "py311_0")


def test_an_environment_that_conda_did_not_make_has_its_interpreter() -> None:
    text = conda.text(every_kind(), REPOSITORIES, file="environment.yml")
    *packages, of_pip = yaml.safe_load(text)["dependencies"]
    assert packages == ["python=3.11.7", "pip"]
    assert "torch==2.12.1" in of_pip["pip"] and "./yolo-train.wheels/tqdm-4.66.5-py3-none-any.whl" in of_pip["pip"]
    assert f"ultralytics-thop @ {REPOSITORIES['ultralytics-thop']}" in of_pip["pip"]
    assert "conda did not make this environment" in said(text) and "This format has no hashes" in said(text)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"modified": ("lib/x.py",)}, "edited in place, and a channel's is not: numpy"),
        ({"url": None}, "of no channel that others can reach: numpy"),
    ],
)
def test_what_a_channel_does_not_have_is_told(changes: dict[str, Any], what: str) -> None:
    lock = conda_lock(**changes)
    assert [*conda.unlike(lock)] == [what]
    assert f"{what[0].upper()}{what[1:]}" in said(conda.text(lock, {}, file="environment.yml"))


def test_the_same_lock_gives_the_same_bytes() -> None:
    one, other = every_kind(), every_kind()
    assert exchange.requirements(one, REPOSITORIES, file="f") == exchange.requirements(
        other, dict(reversed(REPOSITORIES.items())), file="f"
    )
    assert pylock.text(one, {}, {}, file="pylock.toml") == pylock.text(other, {}, {}, file="pylock.toml")
    assert conda.text(one, {}, file="environment.yml") == conda.text(other, {}, file="environment.yml")
