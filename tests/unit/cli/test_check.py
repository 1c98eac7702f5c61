"""`envsnap check`: words that go together."""

from __future__ import annotations

import json

import pytest

from envsnap.cli import main


@pytest.mark.parametrize("words", [("--base", "debian:bookworm"), ("--fetch",)])
def test_what_is_asked_of_a_lock_s_image_needs_the_lock(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["check", "registry.example/yolo:1", *words, "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (ended.value.code, error["what"]) == (2, f"{words[0]} is for --lock") and words[0] in error["hint"]


def test_a_lock_s_file_is_not_looked_up_in_a_registry(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["check", "lockfiles/yolo.yaml", "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (ended.value.code, error["hint"]) == (2, "envsnap check IMAGE --lock lockfiles/yolo.yaml")
