"""The interpreter and the platform under it."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Any

from .elf import read_elf
from .text import system_text

# fmt: off
INSTRUCTION_SETS = frozenset((
    "sse4_1", "sse4_2", "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme",
))
# fmt: on


def interpreter_kind() -> str:
    if os.path.isdir(os.path.join(sys.prefix, "conda-meta")):
        return "conda"
    if sys.prefix != sys.base_prefix:
        return "venv"
    marks = ("/.dockerenv", "/run/.containerenv", "/.singularity.d")
    return "container" if "container" in os.environ or any(map(os.path.exists, marks)) else "system"


def libc() -> str:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        name = None
    if name:
        return name
    own = read_elf(interpreter_binary())
    return "musl" if own is not None and "musl" in own.interpreter else ""


def interpreter_binary() -> str:
    try:
        return os.readlink("/proc/self/exe")
    except OSError:
        return os.path.realpath(sys.executable)


def interpreter_facts() -> dict[str, Any]:
    name = sys.implementation.name
    prefix = {"cpython": "cp", "pypy": "pp"}.get(name, name)
    build, _, compiler = sys.version.partition("(")[2].partition(")")
    return {
        "version": ".".join(map(str, sys.version_info[:3])) + prerelease(),
        "implementation": name,
        "abi": "{}{}{}{}".format(prefix, *sys.version_info[:2], getattr(sys, "abiflags", "")),
        "soabi": sysconfig.get_config_var("SOABI") or "",
        "machine": os.uname().machine,
        "libc": libc(),
        "kind": interpreter_kind(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "build": " ".join(f"{build} {compiler}".split()),
    }


def prerelease() -> str:
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(sys.version_info.releaselevel)
    return f"{level}{sys.version_info.serial}" if level else ""


def platform_facts() -> dict[str, Any]:
    host = os.uname()
    release = {
        key: value.strip("\"'")
        for key, _, value in (line.partition("=") for line in system_text("/etc/os-release").splitlines())
        if key in ("ID", "VERSION_ID")
    }
    cpu, features = processor()
    return {
        "machine": host.machine,
        "kernel": host.release,
        "libc": libc(),
        "distribution": " ".join(filter(None, (release.get("ID"), release.get("VERSION_ID")))),
        "cpu": cpu,
        "instruction_sets": sorted(INSTRUCTION_SETS & features),
    }


def processor() -> tuple[str, set[str]]:
    """Name and features of the first processor; only its block is read, which is quick on hosts with hundreds of them."""
    fields: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                key, _, value = line.partition(":")
                fields[key.strip()] = value.strip()
    except OSError:
        pass
    arm = " ".join(f"{key[4:]} {fields[key]}" for key in ("CPU implementer", "CPU part", "CPU variant") if key in fields)
    return fields.get("model name") or arm, set((fields.get("flags") or fields.get("Features") or "").split())
