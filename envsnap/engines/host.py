"""What this host brings along beside an engine, for `envsnap doctor`. Looks, and starts nothing."""

from __future__ import annotations

import ctypes
import netrc
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from envsnap.model.host import Ability, State

_WANDB_HOST = "api.wandb.ai"  # what wandb itself asks unless WANDB_BASE_URL says otherwise
_NVML = "libnvidia-ml.so.1"
_BUNDLES = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem")
_LOW_DISK_BYTES = 10 << 30


def host_abilities(env: Mapping[str, str], *, root: Path = Path("/"), loads: Callable[[str], bool] | None = None) -> tuple[Ability, ...]:
    """One line each: driver, container toolkit, disk, certificates, W&B key, git. Never raises.

    Args:
        root: of the file system that is looked at.
        loads: whether the dynamic loader finds a library.
    """
    return (
        _driver(root, loads or _loads),
        container_toolkit(env, root),
        *(_disk(name, place) for name, place in (("disk", Path.cwd()), ("cache", _cache(env)))),
        _certificates(env, root),
        wandb_key(env),
        _git(env),
    )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _driver(root: Path, loads: Callable[[str], bool]) -> Ability:
    """The kernel's part and the library: one without the other is a broken installation, not a host without a GPU."""
    name = "NVIDIA driver"
    version = root / "proc/driver/nvidia/version"
    module, library = version.exists() or (root / "dev/dxg").exists(), loads(_NVML)
    if module and library:
        return Ability(name=name, state="ok", found=_driver_version(version))
    if module:
        return Ability(
            name=name, state="broken", found=f"the kernel module is loaded, {_NVML} is not found", hint="reinstall the driver's libraries"
        )
    if library:
        return Ability(
            name=name, state="broken", found=f"{_NVML} is there, the kernel module is not loaded", hint="sudo modprobe nvidia   or reboot"
        )
    return Ability(name=name, state="missing", found="none", hint="only for GPUs: install NVIDIA's driver; all else works without")


def _driver_version(place: Path) -> str:
    """From "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build …"."""
    try:
        words = place.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].split()
    except OSError:
        return "present"
    return next((word for word in words if word[:1].isdigit() and word.count(".") in (1, 2)), "present")


def container_toolkit(env: Mapping[str, str], root: Path = Path("/")) -> Ability:
    """NVIDIA's, by its program or the CDI specifications that it wrote."""
    name = "NVIDIA container toolkit"
    program = shutil.which("nvidia-ctk", path=env.get("PATH"))
    specifications = [
        str(file)
        for place in ("etc/cdi", "var/run/cdi")
        for file in sorted(_files(root / place))
        if file.suffix in (".json", ".yaml", ".yml")
    ]
    found = ", ".join([*([program] if program else []), *specifications])
    if program:
        return Ability(name=name, state="ok", found=found)
    if specifications:
        return Ability(name=name, state="ok", found=f"CDI: {found}")
    return Ability(
        name=name,
        state="missing",
        found="no nvidia-ctk on PATH, no CDI specification",
        hint="only for GPUs: install the NVIDIA Container Toolkit",
    )


def _files(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _cache(env: Mapping[str, str]) -> Path:
    """As the command line finds it."""
    return Path(env.get("ENVSNAP_CACHE") or env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/"), ".cache"))


def _disk(name: str, place: Path) -> Ability:
    there = next((path for path in (place, *place.parents) if path.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Ability(name=name, state="broken", found=f"{there}: {error.strerror}", hint="choose another place")
    found = f"{free / 1e9:,.0f} GB free at {there}"
    if not os.access(there, os.W_OK):
        return Ability(name=name, state="broken", found=f"{there} cannot be written", hint="work in a directory of your own")
    if free < _LOW_DISK_BYTES:
        return Ability(name=name, state="broken", found=found, hint="a build context and its wheels need some 10 GB")
    return Ability(name=name, state="ok", found=found)


def _certificates(env: Mapping[str, str], root: Path) -> Ability:
    name = "CA bundle"
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):  # in the order of `registry.wire`
        if value := env.get(variable):
            found = f"{variable}={value}"
            if _is_bundle(Path(value)):
                return Ability(name=name, state="ok", found=found)
            return Ability(
                name=name, state="broken", found=f"{found}: no readable PEM file", hint=f"unset {variable}, or name an existing bundle"
            )
    for candidate in (root / place for place in _BUNDLES):
        if candidate.exists():
            if _is_bundle(candidate):
                return Ability(name=name, state="ok", found=str(candidate))
            return Ability(name=name, state="broken", found=f"{candidate}: no readable PEM file", hint="reinstall ca-certificates")
    return Ability(name=name, state="missing", found="none in the usual places", hint="install ca-certificates, or set SSL_CERT_FILE")


def _is_bundle(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(path.iterdir())
        return b"-----BEGIN " in path.read_bytes()
    except OSError:
        return False


def wandb_key(env: Mapping[str, str]) -> Ability:
    """Whether a key is at hand, by the name of its place; the key itself is looked at by nobody."""
    name = "W&B key"
    hint = "only for runs that go to a server: wandb login, or WANDB_API_KEY"
    if env.get("WANDB_API_KEY"):
        return Ability(name=name, state="ok", found="WANDB_API_KEY")
    host = urlsplit(env.get("WANDB_BASE_URL") or f"https://{_WANDB_HOST}").hostname or _WANDB_HOST
    file = Path(env.get("NETRC") or Path(env.get("HOME", "/"), ".netrc"))
    state: State = "missing"
    try:
        if netrc.netrc(str(file)).authenticators(host) is not None:
            return Ability(name=name, state="ok", found=f"{file} has an entry for {host}")
        found = f"neither WANDB_API_KEY nor an entry for {host} in {file}"
    except FileNotFoundError:
        found = f"neither WANDB_API_KEY nor {file}"
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        # Its words may quote a password.
        where = f"line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else type(error).__name__
        state, found = "broken", f"{file} cannot be read: {where}"
        hint = f"mend {file}, or set WANDB_API_KEY"
    return Ability(name=name, state=state, found=found, hint=hint)


def _git(env: Mapping[str, str]) -> Ability:
    program = shutil.which("git", path=env.get("PATH"))
    if program:
        return Ability(name="git", state="ok", found=program)
    return Ability(name="git", state="missing", found="not on PATH", hint="install git: without it a project's source cannot be captured")
