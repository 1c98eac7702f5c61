"""The screen of a plan: what is pulled, why this base, and no row that says nothing."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from envsnap import catalog, plan
from envsnap.model.base import Base, BaseInventory, ImageConfig
from envsnap.model.plan import BuildPlan
from envsnap.report.plan import document, rendered_screen, screen
from tests import samples

DIGEST = samples.digest("b")


def planned(**changes: Any) -> BuildPlan:
    values: dict[str, Any] = {
        "reference": "x.example.com/b:1",
        "family": "other",
        "digest": DIGEST,
        "config": ImageConfig(architecture="amd64", size_bytes=9_800_000_000),
        "inventory": BaseInventory(distribution="debian 12", python="3.11.2"),
        **changes,
    }
    return plan.make_plan(samples.lock(), catalog.load(), [Base(**values)])


def test_what_the_engine_has_is_here_and_is_not_pulled() -> None:
    assert "9.8 GB" in screen(planned())
    made = planned(in_engine=True)
    assert "  here  " in screen(made) and "9.8 GB" not in screen(made)
    assert document(made)["candidates"][0]["pull_bytes"] == 0


def test_nothing_is_said_of_what_an_image_adds() -> None:
    assert "adds" not in screen(planned())
    assert document(planned())["estimated_bytes"] is None


def test_the_base_s_digest_is_printed_once() -> None:
    for reference in ("x.example.com/b:1", f"x.example.com/b:1@{DIGEST}"):
        base = rendered_screen(planned(reference=reference), "images/yolo", DIGEST).splitlines()[0]
        assert base.split() == ["base", f"x.example.com/b:1@sha256:{DIGEST[7:11]}…{DIGEST[-4:]}"]


def test_the_captured_driver_is_told_on_the_screen() -> None:
    known = catalog.load()
    lock = samples.lock(device="cuda", python=replace(samples.lock().python, version="3.12.3"))
    (base,) = plan.candidate_references(lock, known, None)
    made = plan.make_plan(lock, known, [base])
    assert "driver 580.159.04" in screen(made) and "580.159.04" not in made.base_reason
