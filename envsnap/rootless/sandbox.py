"""What runs in an unpacked image, and how each runtime is told so. Pure: values in, argument lists and documents out.

The same sandbox with each: the image's files read-only, what the image lets anybody write lies elsewhere and is writable, no network but
loopback, processes, host name and IPC of its own, no privilege, one user. `/proc` and `/dev` are the sandbox's, `/sys` is the host's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envsnap.errors import UsageError

HOSTNAME = "envsnap"
_SHARED_MEMORY = "1g"  # data loaders fail with the 64 MB that are usual
_GPUS = re.compile(r"(?P<all>all)|(?P<count>[1-9]\d{0,2})|device=(?P<devices>[A-Za-z0-9:-]+(?:,[A-Za-z0-9:-]+)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """Attributes: source: of the host. place: existing path in the sandbox, absolute and without links."""

    source: Path
    place: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """One program in one unpacked image.

    Attributes:
        root: the image's file system.
        argv: the program by path, or by name on the PATH in `env`.
        uid, gid: as the program sees itself; on the host it is whoever starts it.
        binds: an outer one before those within it.
        limits: of open files, soft and hard.
    """

    root: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    uid: int
    gid: int
    binds: tuple[Bind, ...]
    limits: tuple[int, int]


def bubblewrap(program: str, sandbox: Sandbox) -> list[str]:
    """The call of `bwrap`, 0.5 or later. It ends with whoever started it, and all that it started with it."""
    command = [program, "--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--uid", str(sandbox.uid), "--gid", str(sandbox.gid), "--hostname", HOSTNAME]
    command += ["--cap-drop", "ALL", "--clearenv"]
    for name, value in sandbox.env.items():
        command += ["--setenv", name, value]
    command += ["--ro-bind", str(sandbox.root), "/", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    for bind in sandbox.binds:
        command += ["--bind" if bind.writable else "--ro-bind", str(bind.source), bind.place]
    return [*command, "--chdir", sandbox.workdir, "--", *sandbox.argv]


def bundle(sandbox: Sandbox, *, uid: int, gid: int) -> dict[str, Any]:
    """`config.json` of an OCI bundle (runtime specification 1.0), for crun and runc.

    Args:
        uid, gid: who starts the runtime.
    """
    return {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": False,
            "user": {"uid": sandbox.uid, "gid": sandbox.gid},
            "args": list(sandbox.argv),
            "env": [f"{name}={value}" for name, value in sandbox.env.items()],
            "cwd": sandbox.workdir,
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": sandbox.limits[0], "hard": sandbox.limits[1]}],
        },
        "root": {"path": str(sandbox.root), "readonly": True},
        "hostname": HOSTNAME,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            _mount("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", f"size={_SHARED_MEMORY}"]),  # noqa: S108
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", "nosuid", "noexec", "nodev"]},
            *(
                {
                    "destination": bind.place,
                    "type": "bind",
                    "source": str(bind.source),
                    "options": ["rbind", "rw" if bind.writable else "ro", "nosuid", "nodev"],
                }
                for bind in sandbox.binds
            ),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("user", "pid", "network", "ipc", "uts", "mount")],
            "uidMappings": [{"containerID": sandbox.uid, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": sandbox.gid, "hostID": gid, "size": 1}],
        },
    }


def _mount(place: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": kind, "options": options}


def oci(program: str, state: Path, *words: str) -> list[str]:
    """A call of crun or runc whose state lies in a directory of ours."""
    # crun would ask for a place in the host's control groups, which an ordinary user often has not; runc does without by itself.
    manager = ["--cgroup-manager", "disabled"] if Path(program).name == "crun" else []
    return [program, *manager, "--root", str(state), *words]


def podman(program: str, storage: Path, *words: str) -> list[str]:
    """A call of podman that leaves its user's own storage alone."""
    places = ("--root", "s"), ("--runroot", "r"), ("--tmpdir", "t")  # podman wants the second no longer than 50 characters
    own = [word for option, name in places for word in (option, str(storage / name))]
    quiet = ("--log-level", "fatal")  # what it warns of would be taken for the image's
    return [program, *own, *quiet, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", *words]


def podman_run(name: str, sandbox: Sandbox, *, gpus: str, is_root: bool) -> list[str]:
    """The words of `podman run`.

    Args:
        gpus: as docker's `--gpus`; given by the host's CDI specification.
        is_root: whoever starts it; an ordinary user is mapped to the sandbox's.
    """
    words = ["run", "--rm", "--name", name, "--network", "none", "--read-only", "--read-only-tmpfs=false", "--cgroups", "disabled"]
    words += ["--log-driver", "none", "--hostname", HOSTNAME, "--no-hosts", "--shm-size", _SHARED_MEMORY, "--cap-drop", "all"]
    words += [
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "label=disable",
        "--ulimit",
        f"nofile={sandbox.limits[0]}:{sandbox.limits[1]}",
    ]
    if is_root:
        words += ["--user", f"{sandbox.uid}:{sandbox.gid}"]
    elif (sandbox.uid, sandbox.gid) != (0, 0):
        words += ["--userns", f"keep-id:uid={sandbox.uid},gid={sandbox.gid}"]
    for device in cdi_devices(gpus):
        words += ["--device", device]
    for variable, value in sandbox.env.items():
        words += ["--env", f"{variable}={value}"]
    for bind in sandbox.binds:
        words += ["--mount", _row("type=bind", f"src={bind.source}", f"dst={bind.place}", f"ro={'false' if bind.writable else 'true'}")]
    return [*words, "--workdir", sandbox.workdir, "--entrypoint", "", "--rootfs", str(sandbox.root), *sandbox.argv]


def cdi_devices(gpus: str) -> list[str]:
    """What docker's `--gpus` means as names of the Container Device Interface.

    Raises:
        UsageError: it means nothing.
    """
    if gpus == "none":
        return []
    match = _GPUS.fullmatch(gpus)
    if match is None:
        raise UsageError(f"--gpus {gpus}: not understood", hint="all, none, a count such as 2, or device=0,2")
    names = ["all"] if match["all"] else match["devices"].split(",") if match["devices"] else [*map(str, range(int(match["count"])))]
    return [f"nvidia.com/gpu={name}" for name in names]


def _row(*fields: str) -> str:
    """How podman reads a mount: a row of comma-separated values."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(fields)
    return row.getvalue()
