"""`plan` right after a capture: the image's digest from the environment itself, before any wheel was fetched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import wheels
from tests.integration.ground import NOWHERE, Machine

pytestmark = pytest.mark.engine


def just_captured(small: Machine, place: Path) -> Machine:
    """A machine whose cache has what the capture read, and nothing else."""
    machine = small.again(place, cold=True)
    shutil.copytree(small.cache / "records", machine.cache / "records")
    return replace(machine, env={"DOCKER_HOST": NOWHERE})


def test_the_environment_tells_its_image(small: Machine, debian_base: str, told: dict[str, Any], tmp_path: Path) -> None:
    machine = just_captured(small, tmp_path)
    words = ("plan", machine.lock, "--base", debian_base)
    image = machine.envsnap(*words, "--fetch-base")["image"]
    assert (image["config_digest"], image["told_from"]) == (told["config_digest"], "installed files")
    assert image["manifest_digest"] is None and image["unknown_because"]
    assert not [blob for blob in (machine.cache / "blobs/sha256").iterdir() if blob.read_bytes()[:4] == b"PK\x03\x04"]
    assert machine.envsnap(*words)["image"] == image  # it is remembered
    shutil.rmtree(machine.cache / "foretold")
    assert machine.envsnap(*words, "--no-installed")["image"]["config_digest"] is None


def test_an_environment_that_is_not_the_locks_tells_nothing(small: Machine, debian_base: str, tmp_path: Path) -> None:
    machine = just_captured(small, tmp_path)
    other = wheels.make_environment(tmp_path / "other")
    image = machine.envsnap("plan", machine.lock, "--base", debian_base, "--fetch-base", "--no-pyc", "--python", other)["image"]
    assert image["config_digest"] is None
    assert f"is not installed in {other}" in image["unknown_because"]
