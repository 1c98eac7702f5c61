"""The facts that stand-ins for NGC's images are made of are those of the catalogue."""

from __future__ import annotations

import pytest
from packaging.version import Version

from envsnap import catalog
from tests.standins import RELEASES, facts_of


def test_there_are_stand_ins_for_both_pythons_with_and_without_a_constraint_file() -> None:
    assert [(release, facts_of(release).python, facts_of(release).said["constraint"]) for release in RELEASES] == [
        ("23.10", "3.10", False),
        ("24.05", "3.10", False),
        ("25.03", "3.12", True),
        ("26.07", "3.12", True),
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_a_stand_in_s_variables_are_the_catalogue_s_row(release: str) -> None:
    facts, row = facts_of(release), catalog.load().release_of(f"nvcr.io/nvidia/pytorch:{release}-py3")
    assert row is not None
    env = facts.env
    assert (env["NVIDIA_PYTORCH_VERSION"], env["PYTORCH_VERSION"], env["PYTORCH_BUILD_VERSION"]) == (release, row.torch, row.torch)
    assert (env["CUDNN_VERSION"], env["NCCL_VERSION"], env["CUDA_DRIVER_VERSION"]) == (row.cudnn, row.nccl, row.driver_bundled)
    assert env["CUDA_VERSION"].startswith(f"{row.cuda}.")
    assert row.python is not None and row.python.startswith(facts.python)
    assert row.ubuntu in (None, facts.ubuntu)
    assert ("PIP_CONSTRAINT" in env) == facts.said["constraint"] == (Version(release) >= Version("25.03"))


@pytest.mark.parametrize("release", RELEASES)
def test_a_stand_in_s_torch_has_nvidia_s_version_in_each_of_its_forms(release: str) -> None:
    torch = facts_of(release).said["torch"]
    variable = facts_of(release).env["PYTORCH_VERSION"]
    assert torch["version"].startswith(variable) and torch["shown"].startswith(variable)
    assert Version(torch["version"]).base_version == Version(torch["from"].partition("==")[2]).base_version
    assert Version(torch["version"]).public == Version(torch["shown"]).public
    year, month = release.split(".")
    if ".nv" in torch["shown"]:
        assert torch["shown"].endswith(f".nv{year}.{month}")
        assert f".nv{year}.{int(month)}" in torch["version"]
