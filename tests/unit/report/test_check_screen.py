"""What check shows: each reason with what was needed and found, the way out, what to mind, and the verdict last."""

from __future__ import annotations

import pytest

from envsnap.model.image import CheckReason, ImageCheck, Status
from envsnap.report import check as report
from tests import samples

KEPT = CheckReason(id="driver", status="pass", needed="580.65.06 or newer", found="535.104.05, with …", hint="keep the entrypoint")


def checked(status: Status, *more: CheckReason, host: str = "") -> ImageCheck:
    reason = CheckReason(id="architecture", status=status, needed="sm_120", found="NVIDIA H100 PCIe (9.0)", hint="another build")
    digests = {"manifest_digest": samples.digest("m"), "config_digest": samples.digest("c")}
    return ImageCheck(reference="x.example.com/yolo:1", size_bytes=10**9, host=host, reasons=(KEPT, reason, *more), **digests)


@pytest.mark.parametrize(
    ("status", "last"),
    [
        ("pass", "YES    the image is for this machine"),
        ("fail", "NO     the image is not for this machine"),
        ("unknown", "NOT KNOWN   whether the image is for this machine: not all could be told"),
    ],
)
def test_the_verdict_comes_last(status: Status, last: str) -> None:
    assert report.screen(checked(status), 100).splitlines()[-1] == last


def test_what_fails_is_told_with_both_sides_and_the_way_out() -> None:
    screen = report.screen(checked("fail"), 100)
    assert "NO   architecture\n  needed  sm_120\n  found   NVIDIA H100 PCIe (9.0)\n  try     another build" in screen
    assert "to mind" not in screen  # of what will not run nothing is to be minded


def test_what_to_mind_is_told_of_what_runs() -> None:
    assert "to mind\n  driver        keep the entrypoint" in report.screen(checked("pass"), 100)


def test_another_host_is_named() -> None:
    elsewhere = checked("pass", host="driver 535.104.05, A100")
    assert report.screen(elsewhere, 100).endswith("YES    the image is for a host with driver 535.104.05, A100")
    locked = checked("pass", CheckReason(id="lock.digest", status="pass", needed="x", found="x"))
    assert report.screen(locked, 100).endswith("YES    the image is the lock's, and for this machine")


def test_the_document_has_the_keys_of_the_contract() -> None:
    document = report.document(checked("fail", host="driver 535"))
    assert (document["verdict"], document["host"]) == ("fail", "driver 535")
    assert all(set(reason) == {"id", "status", "needed", "found", "hint"} for reason in document["reasons"])
    assert report.document(checked("pass"))["host"] is None


def test_digests_are_short_on_the_screen_and_whole_in_the_document() -> None:
    found = f"7 layers of x.example.com/base:1@{samples.digest('base')}"
    check = checked("pass", CheckReason(id="lock.base", status="pass", needed="x", found=found))
    assert found not in report.screen(check, 100) and "7 layers of x.example.com/base:1@sha256:" in report.screen(check, 100)
    assert report.document(check)["reasons"][-1]["found"] == found
