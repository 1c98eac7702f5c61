"""Another host, by a real sshd on loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from envsnap import target
from envsnap.errors import TargetError, UsageError
from envsnap.probes import interpreter
from envsnap.probes.local import LocalPython
from envsnap.probes.ssh import SshPython
from envsnap.progress import SILENT
from tests.fakes import sshd, wheels

pytestmark = pytest.mark.skipif(
    (sshd.SSHD is None or os.geteuid() != 0) and not os.environ.get("ENVSNAP_REQUIRE_ENGINE"), reason="needs sshd, and root to start it"
)


@pytest.fixture(scope="module")
def on_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as directory:
        yield directory


@pytest.fixture(autouse=True)
def client(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{on_path}:{os.environ['PATH']}")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("environment")
    environment = wheels.make_environment(directory / "an env")
    wheels.install(environment, wheels.write_wheel(directory / wheels.DEMO_FILE, wheels.DEMO))
    return environment


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(directory.rglob("*")) if path.exists()}


def test_another_host_has_the_same_facts(environment: Path) -> None:
    python = environment / "bin/python"
    before = tree(environment)
    there = interpreter.collect(
        SshPython(host="elsewhere", python=str(python)), framework=True, imports=True, integrity=True, progress=SILENT
    )
    bare = {"HOME": os.environ["HOME"], "PATH": os.defpath}
    here = interpreter.collect(LocalPython(python, bare), framework=True, imports=True, integrity=True, progress=SILENT)
    assert "demo-pkg" in {found.name for found in there.distributions}
    same: dict[str, object] = {"env": {}, "withheld": (), "seconds": {}}
    assert msgspec.structs.replace(there, **same) == msgspec.structs.replace(here, **same)
    assert tree(environment) == before


@pytest.mark.parametrize(
    ("host", "python", "what", "hint"),
    [
        ("nobody", "python3", "cannot reach nobody", "ssh nobody true"),
        ("stranger", "python3", "cannot reach stranger", "ssh stranger true"),
        ("elsewhere", "/no/such/python", "cannot run /no/such/python on elsewhere", "--python"),
        ("elsewhere", "/bin/true", "cannot read /bin/true on elsewhere", "-v"),
    ],
)
def test_what_cannot_be_reached_or_run_is_said(host: str, python: str, what: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        SshPython(host=host, python=python).run_guest("collect", ["--out", "{out}/facts.json"], outputs=tmp_path)
    assert caught.value.what == what and caught.value.why and hint in caught.value.hint


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "two words"])
def test_a_host_is_no_option(host: str) -> None:
    with pytest.raises(UsageError):
        SshPython(host=host)


def test_a_shell_there_sees_no_word_of_a_name(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot run"):
        SshPython(host="elsewhere", python=f"$(touch {tmp_path}/planted); true").run_guest("collect", [], outputs=tmp_path)
    assert not (tmp_path / "planted").exists()


def test_a_time_limit_ends_it_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "guest"
    directory.mkdir()
    (directory / "carried.py").write_bytes((target.GUEST_DIRECTORY / "carried.py").read_bytes())
    (directory / "__main__.py").write_text(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    monkeypatch.setattr(target, "GUEST_DIRECTORY", directory)
    (tmp_path / "out").mkdir()
    result = SshPython(host="elsewhere").run_guest("collect", [], outputs=tmp_path / "out", timeout_s=3)
    assert result.timed_out
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the script goes on")
