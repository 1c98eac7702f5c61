"""What a capture is asked for and cannot give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from envsnap.workflows import places
from tests.fakes import wheels


def test_what_is_to_be_kept_must_be_there(tmp_path: Path) -> None:
    environment = wheels.make_environment(tmp_path / "env")
    wheels.install(environment, wheels.write_wheel(tmp_path / wheels.DEMO_FILE, wheels.DEMO))
    path = os.pathsep.join(filter(None, (str(Path(places.__file__).parents[2]), os.environ.get("PYTHONPATH"))))

    def capture(*rescue: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "envsnap.cli.main", "capture", "--python", str(environment), "--offline", "--json"]
        env = {**os.environ, "PYTHONPATH": path, "ENVSNAP_CACHE": str(tmp_path / "cache")}
        options = [f"--rescue={name}" for name in rescue]
        done = subprocess.run([*words, *options], cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.returncode, json.loads(done.stdout).get("error", {}).get("what", "")

    assert capture("Demo_Pkg", "nosuch", "other") == (2, "--rescue: the environment has no nosuch, other")
    assert not (tmp_path / "lockfiles").exists()
    assert capture("Demo_Pkg", "python", "conda")[0] == 0
