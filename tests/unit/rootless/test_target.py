"""What a sandbox is made of, and what its end means; the runtimes themselves are in the integration tests."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from envsnap.errors import EngineError, TargetError
from envsnap.progress import SILENT
from envsnap.rootless import roots
from envsnap.rootless.runtime import Found
from envsnap.rootless.sandbox import Sandbox
from envsnap.rootless.target import RootlessTarget
from tests.fakes.tars import Member, directory, file, image, link

LAYER = (
    directory("home", 0o1777),
    file("home/kept", b"kept"),
    directory("home/open", 0o777),
    directory("tmp", 0o1777),
    link("tmp/link", "/etc/passwd"),
    directory("var/data"),
    link("work", "var/data"),
    file("run/envsnap", b"in the way"),
    directory("dev/open", 0o777),
)


def target(cache: Path, *members: Member, script: str = "", **run: Any) -> RootlessTarget:
    config, layers = image(LAYER, members, **run)
    root = roots.unpacked(config, layers, cache=cache, progress=SILENT)
    program = cache / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return RootlessTarget(root=root, runtime=Found(name="bwrap", program=str(program), version="1"), name="yolo")


def sandbox_of(one: RootlessTarget, scratch: Path, **inputs: Path) -> Sandbox:
    scratch.mkdir()
    return one._sandbox(["python", "x"], inputs, {"MORE": "1", "HOME": "/home"}, scratch)


def test_the_image_decides_what_its_user_gets(tmp_path: Path) -> None:
    one = target(tmp_path, Env=["PATH=/opt/bin", "A=b=c", "broken"], Entrypoint=["/entry", "-x"], WorkingDir="/work", User="7:8")
    sandbox = sandbox_of(one, tmp_path / "scratch")
    assert sandbox.argv == ("/entry", "-x", "python", "x")
    assert sandbox.env == {"PATH": "/opt/bin", "HOSTNAME": "envsnap", "HOME": "/home", "A": "b=c", "MORE": "1"}
    assert (sandbox.workdir, sandbox.uid, sandbox.gid) == ("/work", 7, 8)
    assert one.description == "image yolo (bubblewrap)"


def test_an_image_that_says_nothing_gets_what_engines_give(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sandbox = target(tmp_path)._sandbox(["python"], {}, {}, scratch)
    assert sandbox.argv == ("python",)
    assert sandbox.env["PATH"].startswith("/usr/local/sbin:")
    assert (sandbox.env["HOME"], sandbox.workdir, sandbox.uid, sandbox.gid) == ("/", "/", 0, 0)


def test_what_anybody_may_write_is_a_copy_of_its_own(tmp_path: Path) -> None:
    one = target(tmp_path, Volumes={"/work": {}, "/proc/x": {}, "/missing": {}, "/": {}})
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("given")
    sandbox = sandbox_of(one, tmp_path / "scratch", kit=tmp_path / "in", anchor=tmp_path / "file")
    writable = {bind.place: bind.source for bind in sandbox.binds if bind.writable}
    assert list(writable) == ["/home", "/missing", "/tmp", "/var/data", "/var/tmp", "/run", "/run/envsnap/out"]
    assert all(place.is_relative_to(tmp_path / "scratch") for place in writable.values())
    assert (writable["/home"] / "kept").read_text() == "kept"
    assert (writable["/tmp"] / "link").is_symlink()
    assert stat.S_IMODE(writable["/tmp"].stat().st_mode) == 0o1777
    assert {bind.place for bind in sandbox.binds if not bind.writable} == {
        "/run/envsnap/guest",
        "/run/envsnap/in/kit",
        "/run/envsnap/in/anchor",
        "/etc/hosts",
    }
    for bind in sandbox.binds:  # a runtime cannot make places in what is read-only
        inside = writable["/run"] / bind.place.removeprefix("/run/") if bind.place.startswith("/run/") else one.root.path / bind.place[1:]
        assert inside.is_dir() == bind.source.is_dir()


def test_places_are_named_without_links(tmp_path: Path) -> None:
    one = target(tmp_path, link("home2", "/home"), link("etc/hosts", "../../../../etc/hosts"), file("real"), HOME="")
    sandbox = one._sandbox(["python"], {}, {"HOME": "/home2"}, (tmp_path / "s"))
    assert [bind.place for bind in sandbox.binds if "home" in bind.place] == ["/home"]
    assert not [bind for bind in sandbox.binds if bind.place == "/etc/hosts"]


def test_an_image_whose_run_is_no_directory_cannot_run(tmp_path: Path) -> None:
    config, layers = image((file("run", b"x"),))
    root = roots.unpacked(config, layers, cache=tmp_path, progress=SILENT)
    one = RootlessTarget(root=root, runtime=Found(name="bwrap", program="/bin/true", version=""), name="yolo")
    with pytest.raises(TargetError) as caught:
        one.run_guest("collect", [], outputs=tmp_path / "out")
    assert caught.value.why == "its /run is no directory"


@pytest.mark.parametrize(
    ("script", "error", "why"),
    [
        ("echo 'bwrap: execvp python: No such file or directory' >&2; exit 1", TargetError, "execvp python"),
        ("echo 'exec: python: not found' >&2; exit 127", TargetError, "not found"),
        ("exit 126", TargetError, "exit code 126"),
        ("echo 'executable file `python` not found in $PATH: No such file or directory' >&2; exit 1", TargetError, "executable file"),
        ("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1", EngineError, "uid map"),
        ("echo 'Error: OCI runtime error: crun: no' >&2; exit 126", EngineError, "OCI runtime error"),
        ("echo 'Error: crun: no: OCI permission denied' >&2; exit 125", EngineError, "OCI permission denied"),
    ],
)
def test_a_script_that_never_ran_is_an_error(tmp_path: Path, script: str, error: type[Exception], why: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(error) as caught:
        target(tmp_path, script=script).run_guest("collect", [], outputs=tmp_path / "out")
    assert why in caught.value.why  # type: ignore[attr-defined]


def test_a_script_that_failed_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    heard: list[tuple[str, str]] = []
    one = target(tmp_path, script="echo said; echo 'bwrap: this is the last line' >&2; echo over >&2; exit 3")
    result = one.run_guest("collect", [], outputs=tmp_path / "out", on_line=lambda stream, line: heard.append((stream, line)))
    assert (result.returncode, result.timed_out) == (3, False)
    assert set(result.log.splitlines()) == {"said", "bwrap: this is the last line", "over"}
    assert ("stdout", "said") in heard


def test_the_time_limit_ends_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = target(tmp_path, script="exec /bin/sleep 60").run_guest("collect", [], outputs=tmp_path / "out", timeout_s=0.2)
    assert result.timed_out


def test_what_comes_out_is_held_to_the_rules_of_archives(tmp_path: Path) -> None:
    """The program sees the host here, as no image does, and finds the directory that it is given."""
    (tmp_path / "out").mkdir()
    find = 'while [ $# -gt 1 ]; do case "$2" in */envsnap/out) out="$1";; esac; shift; done'
    target(tmp_path, script=f'{find}; mkdir "$out/d"; echo fact > "$out/d/facts.json"').run_guest("collect", [], outputs=tmp_path / "out")
    assert (tmp_path / "out/d/facts.json").read_text() == "fact\n"
    with pytest.raises(TargetError, match="refused what the container wrote"):
        target(tmp_path, script=f'{find}; ln -s /etc/passwd "$out/x"').run_guest("collect", [], outputs=tmp_path / "out")
