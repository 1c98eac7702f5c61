"""A base that has a link where layers would put a directory is not assembled upon: Docker writes through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from envsnap.progress import SILENT
from envsnap.workflows import assembled, base_images, inventories
from envsnap.workflows.unknown import Unknown
from tests import samples
from tests.unit.plan.test_layers import INVENTORY
from tests.unit.workflows.test_check import World
from tests.unit.workflows.test_shell import BASE


@pytest.mark.parametrize(("link", "target"), [("opt", "var/opt"), ("workspace", "srv/work"), ("lib", "usr/lib")])
def test_it_is_told_before_anything_is_fetched_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, target: str) -> None:
    world = World(tmp_path)
    monkeypatch.setattr(base_images, "find", lambda *_: BASE)
    monkeypatch.setattr(inventories, "complete", lambda *_: replace(INVENTORY, links={link: target}))
    found = assembled.find_ground(world.made, samples.lock(), world.sources, SILENT)
    if link == "lib":
        assert not isinstance(found, Unknown)  # nothing of ours goes there
        return
    assert isinstance(found, Unknown) and found.for_good
    assert f"/{link} as a link to /{target}" in found.because
    assert "--engine docker" in found.hint
