"""The data files: readable, complete in their sources, and answering as their sources say."""

from __future__ import annotations

import datetime as dt
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from envsnap import catalog
from envsnap.catalog import rows
from envsnap.model.base import Family, Release
from envsnap.model.catalog import VariableRule, branch_of, family_of, minor_of, numbers

KNOWN = catalog.load()
TREATMENTS_WITH_A_VALUE = {"neutral"}


def test_versions_are_compared_by_their_numbers() -> None:
    assert (numbers("580.65.06"), numbers("580.².x")) == ((580, 65, 6), (580,))


def test_is_read_once() -> None:
    assert catalog.load() is KNOWN


@pytest.mark.parametrize(("family", "least"), [("pytorch", 61), ("tensorflow", 18), ("paddlepaddle", 5)])
def test_releases_are_newest_first_each_value_with_its_evidence(family: Family, least: int) -> None:
    releases = KNOWN.of_family(family)
    assert [numbers(row.release) for row in releases] == sorted((numbers(row.release) for row in releases), reverse=True)
    assert len({row.reference for row in releases}) == len(releases) >= least
    for row in releases:
        assert re.fullmatch(rf"nvcr\.io/nvidia/{family}:{row.release}(-tf[12])?-py3", row.reference)
        assert row.sources, row.reference
        assert str(dt.date.fromisoformat(row.as_of)) == row.as_of
        assert not [name for name in row.values if name not in ("reference", "release") and not row.evidence_for(name)], row.reference
        named = {name for names in row.evidence for name in names.split(",")}
        assert named <= {*row.values, "all", "rest"}, row.reference


@pytest.mark.parametrize("family", rows.FAMILIES)
def test_a_file_is_written_in_one_way_only(family: Family) -> None:
    text = rows.text(family)
    assert rows.with_rows(text, rows.read(family)) == text
    assert rows.with_rows(text, rows.read(family)[1:]) != text


TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=30)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3), st.integers(0, 10**12))
def test_a_row_reads_as_it_was_written(value: str, evidence: str, notes: list[str], size: int) -> None:
    row = replace(KNOWN.releases[0], cuda=value, pull_bytes=size, notes=tuple(notes), evidence={"cuda,arches": evidence, "rest": value})
    (found,) = msgspec.yaml.decode(rows.written(row))
    assert msgspec.convert({"family": row.family, **found}, Release) == row


def test_a_value_is_known_as_the_most_particular_evidence_says() -> None:
    row = replace(KNOWN.releases[0], evidence={"all": "a", "rest": "r", "cuda,nccl": "c"})
    assert [row.evidence_for(name) for name in ("nccl", "torch")] == ["c", "r"]
    assert replace(row, evidence={"cuda": "c"}).evidence_for("nccl") is None


def test_what_no_source_showed_is_absent() -> None:
    newest = KNOWN.releases[0]
    assert (newest.release, newest.python, newest.ubuntu, newest.driver_bundled) == ("26.09", None, None, None)


def test_a_known_row_is_as_its_source_has_it() -> None:
    row = KNOWN.release_of("nvcr.io/nvidia/pytorch:26.07-py3")
    assert row is not None
    assert (row.ubuntu, row.python, row.cuda, row.cudnn, row.nccl) == ("24.04", "3.12", "13.3.1", "9.24.0.43", "2.30.7")
    assert KNOWN.release_of("nvcr.io/nvidia/pytorch:26.07") is None


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [("13.0", "580.65.06"), ("13.4.1", "580.65.06"), ("12.4", "525.60.13"), ("11.8.0", "450.80.02"), ("10.2", "440.33"), ("14.0", None)],
)
def test_driver_floor(cuda: str, driver: str | None) -> None:
    assert KNOWN.driver_floor(cuda) == driver


def test_every_driver_row_names_a_source_and_none_is_below_its_floor() -> None:
    table = KNOWN.drivers
    tables = (table.floors, table.toolkits, table.forward)
    assert {row.source for rows in tables for row in rows} == set(table.sources)
    for row in KNOWN.drivers.toolkits:
        floor = KNOWN.driver_floor(row.cuda)
        # 11.0 shipped with an older driver than the floor of 11.x.
        assert floor is not None and (numbers(row.driver) >= numbers(floor) or row.cuda.startswith("11.0"))


@pytest.mark.parametrize(
    ("cuda", "driver"),
    [
        ("13.0.2", "580.95.05"),
        ("13.0", "580.65.06"),
        ("13.3.1.008", "610.43.02"),
        ("12.4.9", "550.54.15"),
        ("12.8.0.038", "570.26"),
        ("12.7", None),
        ("14.0", None),
    ],
)
def test_the_driver_that_a_toolkit_came_with(cuda: str, driver: str | None) -> None:
    assert KNOWN.drivers.shipped_with(cuda) == driver


@pytest.mark.parametrize(
    ("driver", "cuda"), [("535.309.01", "12.2"), ("580.65.06", "13.0"), ("580.65.05", "12.9"), ("300.1", None), ("999", "13.4")]
)
def test_the_cuda_of_a_driver(driver: str, cuda: str | None) -> None:
    assert KNOWN.drivers.cuda_of(driver) == cuda


def test_compatibility_libraries_are_for_drivers_older_than_their_own() -> None:
    for row in KNOWN.drivers.forward:
        own = KNOWN.drivers.shipped_with(row.cuda)
        assert own is not None
        assert all(numbers(branch) < numbers(branch_of(own)) for branch in row.branches), row.cuda


@pytest.mark.parametrize(
    ("cuda", "branch", "supported"),
    [
        ("12.8.1", "535", True),
        ("12.8.1", "550", True),  # of an older edition
        ("12.8.1", "525", False),
        ("13.3.1.008", "580", True),
        ("13.3.1.008", "610", False),
        ("12.4", "470", None),  # at its end of life in the edition that was seen
        ("12.0", "470", None),
    ],
)
def test_for_which_drivers_compatibility_libraries_are(cuda: str, branch: str, supported: bool | None) -> None:
    assert KNOWN.drivers.supports(cuda, branch) is supported


def test_every_gpu_names_a_source_and_a_product_is_of_a_known_architecture() -> None:
    table = KNOWN.gpus
    said = {row.source for row in table.architectures} | {row.source for row in table.products}
    assert said | {table.forward.source} == set(table.sources)
    assert len({row.name for row in table.products}) == len(table.products) > 75
    for product in table.products:
        assert table.architecture(product.compute_capability) is not None, product.name
    for row in table.architectures:
        assert row.first_cuda is None or KNOWN.drivers.shipped_with(row.first_cuda) or numbers(row.first_cuda) < (8,), row.name
        assert row.first_cuda is None or row.last_cuda is None or numbers(row.first_cuda) < (*numbers(row.last_cuda), 99)


@pytest.mark.parametrize(
    ("name", "product", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100", "data-center"),
        ("NVIDIA A100 80GB PCIe", "A100", "data-center"),
        ("Tesla T4", "T4", "data-center"),
        ("NVIDIA L40S", "L40S", "data-center"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090", "geforce"),
        ("rtx 4070 ti", "RTX 4070 Ti", "geforce"),
        ("NVIDIA GeForce MX150", None, "geforce"),
        ("NVIDIA TITAN V", "TITAN V", "titan"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server Edition", "data-center"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell", "workstation"),
        ("NVIDIA GB10", "GB10", None),
        ("NVIDIA A10G", "A10G", None),
        ("NVIDIA A1000", None, None),
        ("", None, None),
    ],
)
def test_products_by_the_names_that_nvml_has(name: str, product: str | None, kind: str | None) -> None:
    found = KNOWN.gpus.product(name)
    assert (found.name if found else None, KNOWN.gpus.kind(name)) == (product, kind)


def test_minor_and_branch() -> None:
    assert (minor_of("13.3.1.008"), branch_of("580.159.04")) == ("13.3", "580")


@pytest.mark.parametrize(
    ("name", "treatment", "value"),
    [
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "neutral", "0"),
        ("PIP_CONSTRAINT", "neutral", ""),
        ("PIP_REQUIRE_VIRTUALENV", "neutral", ""),
        ("PIP_INDEX_URL", "keep", None),
        ("PYTHONPATH", "neutral", ""),
        ("PYTHON_VERSION", "keep", None),
        ("PYTORCH_VERSION", "keep", None),
        ("TRITON_PTXAS_PATH", "neutral", "/nonexistent"),
        ("TRITON_PTXAS_VERSION", "keep", None),
        ("TORCH_NCCL_BLOCKING_WAIT", "unsettled", None),
        ("LD_LIBRARY_PATH", "driver-paths", None),
        ("NVIDIA_REQUIRE_CUDA", "keep", None),
        ("NVIDIA_TF32_OVERRIDE", "unsettled", None),
        ("CUDA_VISIBLE_DEVICES", "run-time", None),
        ("NCCL_VERSION", "keep", None),
        ("NCCL_P2P_DISABLE", "neutral", ""),
        ("CUDA_MODULE_LOADING", "neutral", "LAZY"),
    ],
)
def test_variables(name: str, treatment: str, value: str | None) -> None:
    rule = KNOWN.variable(name)
    assert rule is not None
    assert (rule.treatment, rule.value) == (treatment, value)


@pytest.mark.parametrize("name", ["PATH", "HOME", "LC_ALL", "ENTRYPOINT", "SHELL", "CUDA_HOME"])
def test_other_variables_are_left_alone(name: str) -> None:
    assert KNOWN.variable(name) is None


def test_every_rule_says_why_and_has_what_its_treatment_needs() -> None:
    patterns = [rule.pattern for rule in KNOWN.variables]
    assert len(set(patterns)) == len(patterns)
    for rule in KNOWN.variables:
        assert rule.reason
        assert (rule.value is not None) == (rule.treatment in TREATMENTS_WITH_A_VALUE), rule.pattern
        assert bool(rule.paths) == (rule.treatment == "driver-paths"), rule.pattern


def test_no_rule_is_hidden_by_an_earlier_one() -> None:
    for rule in KNOWN.variables:
        assert KNOWN.variable(rule.pattern.replace("*", "")) is rule, rule.pattern


@pytest.mark.parametrize(
    ("soname", "distribution", "package"),
    [
        ("libGL.so.1", "debian 12", "libgl1"),
        ("libglib-2.0.so.0", "ubuntu 22.04", "libglib2.0-0"),
        ("libglib-2.0.so.0", "ubuntu 24.04", "libglib2.0-0t64"),
        ("libssl.so.3", "debian 13", "libssl3t64"),
        ("libssl.so.1.1", "debian 12", None),
        ("libtbb.so.2", "ubuntu 20.04", "libtbb2"),
        ("libGL.so.1", "fedora 40", None),
        ("libnobody.so.7", "debian 12", None),
    ],
)
def test_package_for(soname: str, distribution: str, package: str | None) -> None:
    assert KNOWN.package_for(soname, distribution) == package


def test_the_table_of_libraries_is_consistent() -> None:
    table = KNOWN.libraries
    sonames = [library.soname for library in table.libraries]
    assert len(set(sonames)) == len(sonames)
    assert not set(sonames) & (table.libc | table.driver)
    for library in table.libraries:
        assert set(library.elsewhere) <= set(table.distributions), library.soname
        assert library.package or library.elsewhere, library.soname


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="treatement"):
        msgspec.convert({"pattern": "X", "treatement": "keep", "treatment": "keep", "reason": "y"}, VariableRule)


@pytest.mark.parametrize(
    ("version", "releases"),
    [
        ("2.13.0a0+9186a08", ["26.07"]),
        ("2.14.0a0+4fdf77b940.nv26.08", ["26.08"]),
        ("2.14.0a0+4fdf77b940.nv26.8.63802676", ["26.08"]),
        ("1.12.0a0+bd13bc6", ["22.04"]),  # its row has eight digits
        ("2.1.0a0+32f93b1", ["23.10", "23.09"]),  # one build, twice
        ("2.6.0a0+df5bbc09d1.nv24.11", ["24.11"]),
        ("2.14.0a0+4fdf77b940.nv31.01", []),
        ("2.14.0a0+0000000", []),
        ("2.0.0", []),  # as the row of 23.05 says; it is the index's, too
        ("2.12.1+cu130", []),
        ("", []),
    ],
)
def test_which_release_has_a_build_of_torch(version: str, releases: list[str]) -> None:
    assert [row.release for row in KNOWN.releases_of_torch(version)] == releases


@pytest.mark.parametrize(
    ("packages", "family"),
    [
        ({"torch", "torchvision"}, "pytorch"),
        ({"tensorflow-cpu", "keras"}, "tensorflow"),
        ({"paddlepaddle"}, "paddlepaddle"),
        ({"tensorflow", "torch"}, "pytorch"),
        ({"numpy"}, "pytorch"),
        (set(), "pytorch"),
    ],
)
def test_the_family_of_an_environment(packages: set[str], family: str) -> None:
    assert family_of(packages) == family


def test_which_image_has_nvidias_own_builds_of_a_release() -> None:
    assert KNOWN.images_for({"torch": "2.7.0a0+7c8ec84dab.nv25.3"})["25.03"] == "nvcr.io/nvidia/pytorch:25.03-py3"
    assert KNOWN.images_for({"tensorflow": "2.17.0+nv25.2"})["25.02"] == "nvcr.io/nvidia/tensorflow:25.02-tf2-py3"
    assert KNOWN.images_for({"nvidia-tensorflow": "1.15.5+nv22.3"})["22.03"] == "nvcr.io/nvidia/tensorflow:22.03-tf1-py3"
    assert "22.03" not in KNOWN.images_for({"tensorflow": "2.8.0+nv22.3"})  # whose image of that month no source showed


def test_a_row_is_found_by_what_an_image_says_of_itself() -> None:
    found = [KNOWN.release_called("pytorch", "26.07"), KNOWN.release_called("tensorflow", "22.03-tf1")]
    assert [row and row.reference for row in found] == ["nvcr.io/nvidia/pytorch:26.07-py3", "nvcr.io/nvidia/tensorflow:22.03-tf1-py3"]
    assert KNOWN.release_called("tensorflow", "26.07") is KNOWN.release_called("tensorflow", "22.03-tf2") is None


def test_torch_of_the_index() -> None:
    wheels = KNOWN.torch_wheels
    assert {wheel.source for wheel in wheels.wheels} == set(wheels.sources)
    versions = [numbers(wheel.torch) for wheel in wheels.wheels]
    assert versions == sorted(versions, reverse=True)
    wheel = KNOWN.torch_wheel("2.12.1")
    assert wheel is not None
    assert (wheel.cuda, wheel.torchvision, wheel.cuda_on_aarch64) == ("13.0", "0.27.1", True)
    assert KNOWN.torch_wheel("2.12.1+cu130") is None
