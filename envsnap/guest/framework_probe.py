"""The environment's framework, asked from outside: starts the child and names the libraries that it mapped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import Any, Iterable, NamedTuple, Sequence

from .children import Sandbox, end_group, ending
from .distributions import Installed
from .framework_child import FRAMEWORKS
from .libraries import INJECTED, is_shared_object
from .needs import soname_of
from .os_packages import owners_of
from .paths import is_inside
from .record import Entry
from .text import Problems, hash_or_none, is_below

TIMEOUT_S = 300.0


MATHS = re.compile(
    r"lib(?:cuda|nvidia-|nccl|cublas|cudnn|cufft|curand|cusolver|cusparse|cudss|nvrtc|nvJitLink|nvjitlink|nvfatbin|nvptxcompiler|nvblas|nvpl"
    r"|nvperf|cupti|nvshmem|nvToolsExt|nvtx|cufile|gomp|iomp|omp[-.5]|mkl|dnnl|(?:scipy_)?openblas|blis|blas|lapack"
    r"|torch|c10|caffe2|shm[-.]|tensorflow|paddle|phi)"
    r"|_pywrap_tensorflow"
)


class FrameworkProbe(NamedTuple):
    """Attributes:
    name: of the framework; "" where there is none, or nobody asked.
    facts: None where there is none, or it does not import.
    mapped: shared objects; versions: path -> what the library says of itself.
    """

    name: str
    facts: dict[str, Any] | None
    mapped: list[str]
    versions: dict[str, str]


NOTHING = FrameworkProbe("", None, [], {})


def probe_framework(problems: Problems) -> FrameworkProbe:
    """The first of the known frameworks that is there: an environment that trains has one, and others as accidents of it."""
    name = next((name for name in FRAMEWORKS if is_importable(name)), None)
    if name is None:
        return NOTHING
    with Sandbox() as sandbox:
        out = os.path.join(sandbox.home, "framework.json")
        with open(os.path.join(sandbox.home, "stderr"), "w+b") as stderr:
            child = sandbox.start(["collect", "--child", name, "--out", out], stderr=stderr)
            try:
                failure = ended_badly(child.wait(TIMEOUT_S), stderr, sandbox)
            except subprocess.TimeoutExpired:
                failure = f"did not finish within {TIMEOUT_S:.0f} s"
            finally:
                end_group(child)
        if failure:
            problems.add(name, f"the probe {failure}")
        try:
            with open(out, encoding="ascii") as file:
                document = json.load(file)
        except (OSError, ValueError):
            return FrameworkProbe(name, None, [], {})
        for sentence in document["failures"]:
            problems.add(name, sandbox.tidy(sentence))
        return FrameworkProbe(name, document["facts"], document["mapped"], document["versions"])


def ended_badly(returncode: int, stderr: Any, sandbox: Sandbox) -> str:
    if returncode == 0:
        return ""
    stderr.seek(0)
    words = stderr.read().decode("utf-8", "replace").strip().splitlines()
    return f"ended with {ending(returncode)}" + (f": {sandbox.tidy(words[-1])}" if words else "")


def is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def loaded_libraries(
    probe: FrameworkProbe, distributions: Sequence[Installed], roots: Sequence[str], *, rehash: bool
) -> list[dict[str, Any]]:
    paths = [path for path in probe.mapped if MATHS.match(os.path.basename(path))]
    if not paths:
        return []
    recorded = recorded_shared_objects(distributions)
    system = owners_of(path for path in paths if path not in recorded and not is_inside(path, roots))
    prefix = os.path.realpath(sys.prefix)
    libraries = []
    for path in paths:
        sha256 = ""
        owner = version = None
        if path in recorded:
            found, entry = recorded[path]
            owner, version, sha256 = found.name, found.facts["version"], entry.sha256
        elif path in system:
            owner, version = f"{system[path].manager}:{system[path].name}", system[path].version
        library = {
            "soname": soname_of(path),
            "version": probe.versions.get(path) or version,
            "path": f"<prefix>{path[len(prefix) :]}" if is_inside(path, roots) and is_below(path, prefix) else path,
            "sha256": sha256 if sha256 and not rehash else hash_or_none(path),
            "owner": owner,
            "injected": INJECTED.match(os.path.basename(path)) is not None,
        }
        libraries.append(library)
    return sorted(libraries, key=lambda library: (library["soname"], library["path"]))


def recorded_shared_objects(distributions: Iterable[Installed]) -> dict[str, tuple[Installed, Entry]]:
    """Real path of each shared object that a RECORD names -> the distribution and its line."""
    return {
        os.path.realpath(found.path_of(entry)): (found, entry)
        for found in distributions
        for entry in found.entries or ()
        if is_shared_object(entry.path)
    }
