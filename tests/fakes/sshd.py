"""A real sshd on loopback with keys of its own, and an `ssh` on PATH that knows them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")


@contextmanager
def running(directory: Path) -> Iterator[Path]:
    """Yields a directory for the front of PATH; its ssh reaches the host "elsewhere"."""
    assert SSHD is not None
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\nStrictModes no\n"
        f"UsePAM no\nPasswordAuthentication no\nPidFile none\nPrintMotd no\n"
    )
    (directory / "known").write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
    (directory / "config").write_text(
        f"Host elsewhere stranger\n HostName 127.0.0.1\n Port {port}\n IdentityFile {directory}/user\n IdentitiesOnly yes\n"
        f"Host elsewhere\n UserKnownHostsFile {directory}/known\nHost stranger\n UserKnownHostsFile /dev/null\n"
        "Host nobody\n HostName 127.0.0.1\n Port 9\n"
    )
    (directory / "bin").mkdir()
    client = directory / "bin/ssh"
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {directory}/config "$@"\n')
    client.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # where it gives up its rights; made at boot otherwise
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", directory / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield directory / "bin"
    finally:
        server.terminate()
        server.wait()
