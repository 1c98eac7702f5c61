"""Which runtime is taken, with programs that only say that they are runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsnap.errors import EngineError, TargetError
from envsnap.rootless import runtime
from envsnap.rootless.runtime import Absent, Found

WORKS = '[ "$1" != --version ] || echo "it 1.2.3"'
FORBIDDEN = '[ "$1" != --version ] || exit 0; echo "bwrap: No permissions to create new namespace" >&2; exit 1'


def program(place: Path, name: str, script: str) -> dict[str, str]:
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)
    return {"PATH": str(place)}


def test_one_that_works_is_found(tmp_path: Path) -> None:
    env = program(tmp_path / "bin", "bwrap", WORKS)
    found = runtime.probe("bwrap", env)
    assert found == Found(name="bwrap", program=str(tmp_path / "bin/bwrap"), version="1.2.3")
    assert runtime.find(env) == found
    ability = runtime.ability(env)
    assert (ability.state, ability.found) == ("ok", "bubblewrap 1.2.3: images can be verified without Docker")


def test_one_that_is_there_and_does_not_work_is_not_taken(tmp_path: Path) -> None:
    env = program(tmp_path / "bin", "bwrap", FORBIDDEN)
    assert runtime.probe("bwrap", env) == Absent(name="bwrap", reason="bwrap: No permissions to create new namespace")
    program(tmp_path / "bin", "crun", WORKS)
    found = runtime.find(env)
    assert found.name == "crun"


def test_where_none_works_each_is_named_with_its_reason(tmp_path: Path) -> None:
    env = program(tmp_path / "bin", "bwrap", FORBIDDEN)
    with pytest.raises(EngineError, match="nothing here can run an image") as caught:
        runtime.find(env)
    assert caught.value.why.startswith("bwrap: bwrap: No permissions to create new namespace · crun: not on PATH · ")
    assert "user namespaces" in caught.value.hint
    assert runtime.ability(env).state == "broken"


def test_where_none_is_there_one_is_to_be_installed(tmp_path: Path) -> None:
    ability = runtime.ability({"PATH": str(tmp_path)})
    assert (ability.state, ability.hint) == ("missing", "install bubblewrap (or crun, runc or podman), or Docker")


def test_one_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_PROBE_S", 0.3)
    answer = runtime.probe("bwrap", program(tmp_path / "bin", "bwrap", "exec /bin/sleep 60"))
    assert answer == Absent(name="bwrap", reason="it does not end")


def test_one_that_cannot_be_started_is_no_runtime(tmp_path: Path) -> None:
    env = program(tmp_path / "bin", "bwrap", "")
    (tmp_path / "bin/bwrap").write_text("#!/nowhere/sh\n")
    answer = runtime.probe("bwrap", env)
    assert isinstance(answer, Absent)


def test_gpus_are_podmans_or_nobodys(tmp_path: Path) -> None:
    env = program(tmp_path / "bin", "bwrap", WORKS)
    with pytest.raises(TargetError, match="--gpus all") as caught:
        runtime.find(env, gpus="all")
    assert "--gpus none" in caught.value.hint
    program(tmp_path / "bin", "podman", WORKS)
    assert runtime.find(env, gpus="all").name == "podman"
