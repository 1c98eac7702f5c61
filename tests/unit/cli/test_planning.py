"""What plan says to type next is what was planned."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from envsnap import lockfile
from envsnap.cli import build, main, plan, planning
from tests import samples


@pytest.mark.parametrize(
    ("words", "following"),
    [
        (["lockfiles/yolo.yaml"], "lockfiles/yolo.yaml"),
        (["lock.yaml", "--base", "slim", "--fetch", "--no-installed", "--json"], "lock.yaml --base slim"),
        (["--no-pyc", "--env", "A=b c", "--env", "C=1", "my lock.yaml"], "--no-pyc --env 'A=b c' --env C=1 'my lock.yaml'"),
        (
            ["lock.yaml", "--apt-mirror", "https://me:secret@mirror.example.com/debian"],
            "lock.yaml --apt-mirror 'https://****@mirror.example.com/debian'",
        ),
    ],
)
def test_build_gets_what_was_typed(words: list[str], following: str) -> None:
    with plan.command.make_context("plan", words.copy()):
        said = planning.as_build()
    assert sorted(said.split()) == sorted(f"envsnap build {following}".split())


@pytest.mark.parametrize(("value", "words"), [(False, "lock.yaml --no-pyc"), (True, "lock.yaml --offline --pyc")])
def test_flags_of_a_settings_file_are_said_where_they_have_a_word(value: bool, words: str) -> None:
    settings = {"offline": value, "pyc": value}
    with plan.command.make_context("plan", ["lock.yaml"], default_map=settings):
        assert sorted(planning.as_build().split()) == sorted(f"envsnap build {words}".split())


def test_a_setting_of_plan_is_none_of_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVSNAP_PLAN_BASE", "slim")
    monkeypatch.setenv("ENVSNAP_APT_MIRROR", "https://mirror.example.com/debian")  # build reads that one, too
    group = click.Context(main.group, info_name="envsnap", auto_envvar_prefix="ENVSNAP")
    with group as parent, plan.command.make_context("plan", ["lock.yaml"], parent=parent):
        assert planning.as_build() == "envsnap build lock.yaml --base slim"


def test_build_takes_what_it_is_told() -> None:
    with plan.command.make_context("plan", ["lock.yaml", "--no-source", "--base", "slim", "--no-pyc"]):
        _, _, *words = planning.as_build().split()
    with build.command.make_context("build", words) as context:
        assert (context.params["no_source"], context.params["base"], context.params["pyc"]) == (True, "slim", False)


@pytest.mark.parametrize("as_json", [False, True])
def test_where_no_base_fits_what_would_is_shown(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock.yaml").write_bytes(lockfile.dumps(samples.lock()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(SystemExit) as ended:
        main.main(("plan", "lock.yaml", "--offline", *(["--json"] if as_json else [])))
    said = capsys.readouterr()
    assert ended.value.code == 5 and "no NGC PyTorch release in the catalogue fits" in said.err
    if as_json:
        document = json.loads(said.out)
        assert document["error"]["code"] == 5
        assert "ngc-delta" in {candidate["strategy"] for candidate in document["candidates"]}
    else:
        assert "python:3.11-slim-bookworm" in said.out and "ngc-delta" in said.out
