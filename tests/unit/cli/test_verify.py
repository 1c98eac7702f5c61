"""verify tells its verdict, whatever fails after it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from envsnap.cli import main
from envsnap.errors import EngineError
from envsnap.model.parity import Verdict
from envsnap.workflows import attest
from envsnap.workflows import verify as workflow
from tests import samples

Answer = Literal["pass", "fail", "incomplete"]


@pytest.fixture
def verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Answer]:
    """What a verification, which is not done, comes to; attaching it fails."""
    answer: dict[str, Answer] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    subject = SimpleNamespace(image_digest=samples.digest("image"), against=samples.lock())
    there = SimpleNamespace(
        reference="registry.example.com/yolo:1", manifest=SimpleNamespace(digest=samples.digest("there")), registry=None
    )
    monkeypatch.setattr(workflow, "of_image", lambda *_, **__: subject)
    monkeypatch.setattr(workflow, "in_registry", lambda *_: there)
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: (Verdict(verdict=answer["verdict"], checks=()), "cpu"))
    monkeypatch.setattr(workflow, "page", lambda *_: "a page")

    def refused(*_: object, **__: object) -> None:
        raise EngineError("cannot attach it", why="https://me:secret@registry.example.com denies access", hint="docker login")

    monkeypatch.setattr(attest, "publish_verdict", refused)
    return answer


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.main(["verify", "registry.example.com/yolo:1", *words])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.mark.parametrize(("verdict", "code"), [("pass", 6), ("fail", 7), ("incomplete", 7)])
def test_a_verdict_that_cannot_be_attached_is_told(
    verified: dict[str, Answer], capsys: pytest.CaptureFixture[str], verdict: Answer, code: int
) -> None:
    """What was asked is whether the image computes the same: a no is a no, with or without its registry."""
    verified["verdict"] = verdict
    ended, out, err = run(capsys, "--attach", "--report", "page.html", "--json")
    document: dict[str, Any] = json.loads(out)  # one document
    assert (ended, document["verdict"], document["attached"], document["report"]) == (code, verdict, None, "page.html")
    assert document["error"] == {
        "code": 6,
        "what": "cannot attach it",
        "why": "https://****@registry.example.com denies access",
        "hint": "docker login",
    }
    assert "error: cannot attach it" in err
    ended, out, err = run(capsys, "--attach")
    assert ended == code and verdict.upper() in out and "error: cannot attach it" in err and "secret" not in err


def test_so_is_one_whose_page_cannot_be_written(verified: dict[str, Answer], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verified["verdict"] = "pass"
    (tmp_path / "file").touch()
    ended, out, err = run(capsys, "--report", "file/page.html", "--json")
    document = json.loads(out)
    assert (ended, document["verdict"], document["report"], document["error"]["code"]) == (3, "pass", None, 3)
    assert "error: cannot write" in err


@pytest.mark.parametrize(("verdict", "code"), [("pass", 3), ("fail", 7)])
def test_a_verdict_is_attached_where_its_page_cannot_be_written(
    verified: dict[str, Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: Answer,
    code: int,
) -> None:
    verified["verdict"] = verdict
    (tmp_path / "file").touch()
    monkeypatch.setattr(attest, "publish_verdict", lambda *_, **__: SimpleNamespace(attached=(samples.digest("done"),), signing=None))
    ended, out, err = run(capsys, "--attach", "--report", "file/page.html", "--json")
    document = json.loads(out)
    assert (ended, document["report"], document["attached"]["digest"]) == (code, None, samples.digest("done"))
    assert document["error"]["code"] == 3 and "error: cannot write" in err


@pytest.mark.parametrize(("verdict", "code"), [("pass", 3), ("fail", 7)])
def test_where_both_fail_both_are_told_and_the_first_decides(
    verified: dict[str, Answer], tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: Answer, code: int
) -> None:
    verified["verdict"] = verdict
    (tmp_path / "file").touch()
    ended, out, err = run(capsys, "--attach", "--report", "file/page.html", "--json")
    document = json.loads(out)
    assert (ended, document["report"], document["attached"], document["error"]["code"]) == (code, None, None, 3)
    assert err.count("error: cannot write") == err.count("error: cannot attach it") == 1


def test_words_that_ask_for_no_gpus_are_told_before_anything_is_looked_for(
    verified: dict[str, Answer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workflow, "of_image", lambda *_, **__: pytest.fail("an image was looked for"))
    ended, out, _ = run(capsys, "--gpus", "bogus", "--json")
    assert (ended, json.loads(out)["error"]["what"]) == (2, "--gpus bogus: not understood")


def test_without_an_error_there_is_none_in_the_document(verified: dict[str, Answer], capsys: pytest.CaptureFixture[str]) -> None:
    verified["verdict"] = "pass"
    ended, out, _ = run(capsys, "--report", "page.html", "--json")
    document = json.loads(out)
    assert (ended, document["report"], document["attached"]) == (0, "page.html", None) and "error" not in document
