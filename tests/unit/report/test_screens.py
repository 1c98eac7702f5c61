"""What people see. The words are the contract of ux.md: a screen says what is true, what is wrong and what to type next."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from envsnap import parity
from envsnap.model.facts import GpuDevice, GpuFacts, Problem
from envsnap.model.host import Ability
from envsnap.model.origins import UnknownOrigin
from envsnap.model.parity import CheckResult, Difference, Layer, Verdict
from envsnap.report import capture, diff, doctor, relock, text, verify
from tests import samples

LOCK = samples.lock()
WAY_OUT = "capture … --rescue {0} keeps what is installed;   or build … --allow-unproven {0}"
FAILED = CheckResult(
    id="identity.libraries",
    layer="L0",
    status="fail",
    expected="libcudnn.so.9 9.20.0",
    actual="libcudnn.so.9 9.19.0",
    rule="equal",
    usually="the base's LD_LIBRARY_PATH comes first",
    hint="--env LD_LIBRARY_PATH=",
)


def test_the_capture_screen_ends_with_the_next_command() -> None:
    screen = capture.screen(LOCK, "lockfiles/yolo.yaml")
    assert screen.splitlines()[-1].startswith("wrote lockfiles/yolo.yaml   sha256:")
    assert screen.endswith("next: envsnap plan lockfiles/yolo.yaml")
    for told in ("cuDNN 9.20.0", "bit-equal when repeated", "160 steps", "dirty", "WANDB_API_KEY"):
        assert told in screen


def test_cards_of_a_kind_are_counted_together() -> None:
    card = GpuDevice(name="NVIDIA H200", compute_capability="9.0", memory_mib=143771)
    gpu = GpuFacts(driver="580.159.04", cuda_driver="13.0", devices=(card, card))
    screen = capture.screen(replace(LOCK, observed=replace(LOCK.observed, gpu=gpu)), "x.yaml")
    assert "2 × NVIDIA H200 (sm_90, 151 GB), driver 580.159.04, CUDA ≤ 13.0" in screen


def test_an_unproven_package_is_named_with_its_reason_and_comes_first() -> None:
    first = replace(LOCK.packages[0], origin=UnknownOrigin(reason="no index has it"), provenance="unproven")
    problems = (Problem(where="x.dist-info", what="no RECORD"),)
    lock = replace(LOCK, packages=(first, *LOCK.packages[1:]), capture=replace(LOCK.capture, problems=problems))
    told = capture.warnings(lock)
    assert told[0] == f"{first.name} {first.version} is unproven: no index has it; {WAY_OUT.format(first.name)}"
    assert told[-1] == "x.dist-info: no RECORD; reinstall that package, and capture again"


def test_the_capture_document_has_the_keys_of_the_contract() -> None:
    document = capture.document(LOCK, "x.yaml")
    assert {"lock", "digest", "observed_digest", "packages", "provenance", "warnings"} <= set(document)
    assert sum(document["provenance"].values()) == document["packages"] == len(LOCK.packages)


def test_a_lock_that_was_not_written_is_not_offered_to_a_build() -> None:
    said = relock.screen(LOCK, LOCK, "x.yaml", (), [], (), written=False).splitlines()[-1]
    assert said.startswith("would write x.yaml") and said.endswith("next: the same without --dry-run")
    assert relock.screen(LOCK, LOCK, "x.yaml", (), [], (), written=True).endswith("next: envsnap build x.yaml")


def test_a_clean_verdict_says_pass_and_a_failure_says_what_to_try() -> None:
    clean = parity.judge(LOCK, samples.fingerprint(), device="cpu", required=None)
    assert verify.screen(clean, "the image", None).splitlines()[-1].startswith("PASS   the image computes")
    screen = verify.screen(Verdict(verdict="fail", checks=(FAILED,)), "the image", "r.html")
    lines = screen.splitlines()
    assert lines[-1] == "FAIL   the image is not the environment that was captured       report: r.html"
    for told in ("L0 identity.libraries", "9.19.0", "9.20.0", "usually", "--env LD_LIBRARY_PATH="):
        assert told in screen


def test_a_pass_of_identity_alone_does_not_speak_of_numbers() -> None:
    alone = parity.judge(LOCK, samples.fingerprint(), device="cpu", required=frozenset({"L0"}))
    assert verify.screen(alone, "the image", None).splitlines()[-1].endswith("what it computes was not judged")


@pytest.mark.parametrize(
    ("required", "tried"), [({"L3"}, "L0"), ({"L0", "L3"}, "L0"), ({"L4"}, "L0"), (None, "L0")], ids=["L3", "L0,L3", "L4", "default"]
)
def test_an_incomplete_verdict_names_layers_that_suffice(required: set[Layer] | None, tried: str) -> None:
    lock = samples.lock(smoke=False)
    asked = None if required is None else frozenset(required)
    judged = parity.judge(lock, samples.fingerprint(smoke=None), device="cpu", required=asked)
    assert f"  try  --require {tried} where that suffices" in verify.screen(judged, "the image", None).splitlines()


def test_a_layer_that_is_not_fully_judged_is_not_offered() -> None:
    unsure = replace(FAILED, status="inconclusive")
    passed = replace(FAILED, status="pass", id="identity.packages")
    screen = verify.screen(Verdict(verdict="incomplete", checks=(passed, unsure)), "the image", None)
    assert "--require" not in screen


def test_no_layer_s_line_is_wider_than_the_screen() -> None:
    checks = tuple(replace(FAILED, id=f"identity.something-number-{number}") for number in range(12))
    sentence = "L3 training: the lock has no smoke-train, " + "and that is so for many reasons, " * 6
    screen = verify.screen(Verdict(verdict="fail", checks=checks, not_judged=(sentence,)), "the image", None, 100)
    assert max(map(len, screen.splitlines())) <= 100
    first = screen.splitlines()[0]
    assert "something-number-0: fail" in first and first.endswith("and 10 more  fail")
    assert "something-number-11" in screen  # below, as every failure is


def test_differences_are_grouped_and_counted() -> None:
    found = [Difference(field="env.X", left=None, right="1", grade="numeric", why="steers CUDA")]
    screen = diff.screen(found, "a", "b")
    assert "numeric: may change numbers" in screen
    assert screen.endswith("differ: a → b: 0 breaking, 1 numeric, 0 cosmetic")
    assert diff.document(found) == {
        "equal": False,
        "differences": [{"field": "env.X", "left": None, "right": "1", "grade": "numeric", "why": "steers CUDA"}],
    }
    assert diff.screen([], "a", "b").startswith("equal")


def test_doctor_says_how_to_mend() -> None:
    screen = doctor.screen([Ability(name="engine", state="broken", found="permission denied", hint="join the group docker")])
    assert "join the group docker" in screen
    assert screen.endswith("this host can build, and verify where an engine or bubblewrap is, without Docker; what is missing is optional")
    missing = doctor.screen([Ability(name="git", state="missing", found="not on PATH", hint="install git")])
    assert missing.endswith("1 to mend: git")
    runtime = Ability(name="runtime", state="ok", found="bubblewrap 0.8.0")
    without = doctor.screen([Ability(name="engine", state="missing", found="no socket", hint="install Docker"), runtime])
    assert without.endswith("this host can build and verify, without Docker; what is missing is optional")
    optional = doctor.screen(
        [Ability(name="engine", state="ok", found="26.1"), Ability(name="GPU", state="missing", found="none", hint="-")]
    )
    assert optional.endswith("this host can build and verify; what is missing is optional")


def test_numbers_have_units() -> None:
    assert [text.size(n) for n in (None, 12, 1500, 9_800_000_000)] == ["?", "12 B", "1.5 kB", "9.8 GB"]
    assert text.plural(1, "wheel") == "1 wheel"
    assert text.plural(1234, "wheel") == "1,234 wheels"
    assert text.listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert text.short("sha256:" + "7c1e" + "0" * 56 + "9ab2") == "sha256:7c1e…9ab2"
