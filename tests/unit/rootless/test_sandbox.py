"""The words for each runtime, as a table: the same sandbox in four languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsnap.errors import UsageError
from envsnap.rootless.sandbox import Bind, Sandbox, bubblewrap, bundle, cdi_devices, oci, podman, podman_run

SANDBOX = Sandbox(
    root=Path("/cache/roots/1/root"),
    argv=("/entry", "python", "-B", "x y"),
    env={"PATH": "/bin", "A": "b=c"},
    workdir="/work",
    uid=1000,
    gid=100,
    binds=(Bind(source=Path("/s/tmp"), place="/tmp", writable=True), Bind(source=Path('/s/a,"b:c'), place="/run/in")),
    limits=(1024, 4096),
)


def test_bubblewrap() -> None:
    assert " ".join(bubblewrap("/usr/bin/bwrap", SANDBOX)) == (
        "/usr/bin/bwrap --die-with-parent --unshare-user --unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try"
        " --uid 1000 --gid 100 --hostname envsnap --cap-drop ALL --clearenv --setenv PATH /bin --setenv A b=c"
        " --ro-bind /cache/roots/1/root / --proc /proc --dev /dev --ro-bind /sys /sys"
        ' --bind /s/tmp /tmp --ro-bind /s/a,"b:c /run/in --chdir /work -- /entry python -B x y'
    )


def test_an_oci_bundle() -> None:
    document = bundle(SANDBOX, uid=501, gid=20)
    assert document["process"] == {
        "terminal": False,
        "user": {"uid": 1000, "gid": 100},
        "args": ["/entry", "python", "-B", "x y"],
        "env": ["PATH=/bin", "A=b=c"],
        "cwd": "/work",
        "capabilities": {},
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
    }
    assert document["root"] == {"path": "/cache/roots/1/root", "readonly": True}
    assert [mount["destination"] for mount in document["mounts"]] == ["/proc", "/dev", "/dev/pts", "/dev/shm", "/sys", "/tmp", "/run/in"]
    assert [mount["options"][1] for mount in document["mounts"][-2:]] == ["rw", "ro"]
    assert document["linux"]["uidMappings"] == [{"containerID": 1000, "hostID": 501, "size": 1}]
    assert document["linux"]["gidMappings"] == [{"containerID": 100, "hostID": 20, "size": 1}]
    assert {one["type"] for one in document["linux"]["namespaces"]} == {"user", "pid", "network", "ipc", "uts", "mount"}


def test_oci_calls() -> None:
    assert oci("/usr/bin/crun", Path("/s"), "run", "x") == ["/usr/bin/crun", "--cgroup-manager", "disabled", "--root", "/s", "run", "x"]
    assert oci("/usr/sbin/runc", Path("/s"), "run", "x") == ["/usr/sbin/runc", "--root", "/s", "run", "x"]


@pytest.mark.parametrize(
    ("is_root", "ids", "words"),
    [
        (True, (1000, 100), ["--user", "1000:100"]),
        (False, (1000, 100), ["--userns", "keep-id:uid=1000,gid=100"]),
        (False, (0, 0), []),
    ],
)
def test_podman(is_root: bool, ids: tuple[int, int], words: list[str]) -> None:
    sandbox = Sandbox(**{name: getattr(SANDBOX, name) for name in SANDBOX.__slots__} | {"uid": ids[0], "gid": ids[1]})
    command = podman("/usr/bin/podman", Path("/s"), *podman_run("name", sandbox, gpus="2", is_root=is_root))
    own = ("--root", "/s/s", "--runroot", "/s/r", "--tmpdir", "/s/t", "--log-level", "fatal")
    assert command[:9] == ["/usr/bin/podman", *own]
    after = command.index("nofile=1024:4096") + 1
    assert command[after:] == [
        *words,
        *("--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1", "--env", "PATH=/bin", "--env", "A=b=c"),
        *("--mount", "type=bind,src=/s/tmp,dst=/tmp,ro=false", "--mount", 'type=bind,"src=/s/a,""b:c",dst=/run/in,ro=true'),
        *("--workdir", "/work", "--entrypoint", "", "--rootfs", "/cache/roots/1/root", "/entry", "python", "-B", "x y"),
    ]


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        ("none", []),
        ("all", ["nvidia.com/gpu=all"]),
        ("1", ["nvidia.com/gpu=0"]),
        ("device=0,GPU-1a", ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1a"]),
    ],
)
def test_gpus_by_their_names(gpus: str, devices: list[str]) -> None:
    assert cdi_devices(gpus) == devices


@pytest.mark.parametrize("gpus", ["", "0", "some", "device=", "device=0,,1", "1000"])
def test_gpus_that_mean_nothing(gpus: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        cdi_devices(gpus)
