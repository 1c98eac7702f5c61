"""Read a Python environment from inside and write what is there as one JSON document.

This script runs in *another* interpreter than envsnap: in the environment that is captured, and in the image that was
built from it. It is self-contained, needs Python >= 3.8 and nothing but the standard library, and changes nothing: no
package is installed, no file is written but the document, no byte code is cached. What it is asked to import or compute, it
does in child processes with a temporary HOME and without the variables that hold secrets.

    python -B collect.py --out FILE [--torch] [--imports] [--integrity] [--source MANIFEST] [--expect EXPECTED]

--out FILE        where the document goes; "-" is stdout, which otherwise stays empty.
--torch           import torch, run a convolution and a matrix product, and name the libraries that this mapped.
--imports         import every top-level module of every distribution, and those that --expect names.
--integrity       hash every file that a RECORD names.
--source FILE     hold a project's files against a manifest: {"root": dir, "files": [[path, mode, sha256], ...]} with git's
                  modes 100644, 100755 and 120000 (a link: the hash is of its target).
--expect FILE     hold the result against a document of the type `envsnap.model.plan.Expected`.

The document is `envsnap.model.facts.CollectedFacts`, as ASCII, and but for `seconds` the same bytes for the same
environment. Broken metadata never stops the script: each fault becomes one entry of `problems`.

stderr carries lines for people and, while --integrity or --imports run, `progress DONE TOTAL UNIT WHAT`.

Exit codes: 0 fine; 2 wrong arguments, or a manifest or expectation that cannot be read; 7 the environment is not what
--expect says, with one line on stderr for each difference.
"""

from __future__ import annotations

import argparse
import binascii
import functools
import hashlib
import importlib.machinery
import json
import keyword
import os
import posixpath
import re
import select
import shutil
import signal
import site
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.util import find_spec
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence
from urllib.parse import urlsplit, urlunsplit

sys.dont_write_bytecode = True

SCHEMA = 1
EXIT_DIFFERENT = 7
TORCH_TIMEOUT_S = 300.0
IMPORT_TIMEOUT_S = 120.0
MESSAGE_LENGTH = 200


# ---------------------------------------------------------------------------------------------------------------------
# Problems, text, files


class Problems:
    """Faults that were met and survived."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def add(self, where: str, what: str) -> None:
        self._seen.add((where, what))

    def document(self) -> list[dict[str, str]]:
        return [{"where": where, "what": what} for where, what in sorted(self._seen)]


def clean(value: Any) -> Any:
    """A JSON value whose strings hold no lone surrogates: bytes that are not UTF-8 become visible escapes."""
    if isinstance(value, str):
        return LONE_SURROGATE.sub(visible, value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(match: re.Match[str]) -> str:
    code = ord(match.group(0))
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def described(error: BaseException) -> str:
    return ": ".join(filter(None, (type(error).__name__, first_line(str(error)))))


def first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


def read_bytes(path: str, where: str, problems: Problems) -> bytes | None:
    """A file's bytes; None, without a problem, when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.add(where, f"cannot be read: {reason(error)}")
        return None


def decode(data: bytes, where: str, problems: Problems) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.add(where, f"is not UTF-8 (byte {error.start})")
        return data.decode("utf-8", "surrogateescape")


def read_text(path: str, where: str, problems: Problems) -> str | None:
    data = read_bytes(path, where, problems)
    return None if data is None else decode(data, where, problems)


def system_text(path: str) -> str:
    """A file of the operating system; "" when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def list_directory(path: str, problems: Problems) -> list[str]:
    """Sorted names; empty when there is no such directory."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        problems.add(path, f"cannot be listed: {reason(error)}")
        return []


def sha256_of(path: str, advance: Callable[[int], None] | None = None, algorithm: str = "sha256") -> str:
    digest = hashlib.new(algorithm)
    buffer = memoryview(bytearray(1 << 20))
    with open(path, "rb", buffering=0) as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])
            if advance is not None:
                advance(count)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def say_progress(done: int, total: int, unit: str, what: str) -> None:
    print("progress", done, total, unit, what, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Interpreter and platform

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


# ---------------------------------------------------------------------------------------------------------------------
# sys.path


def forget_script_directory() -> None:
    """Take the directory of this script off sys.path: the environment does not have it."""
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0] or ".") == here and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


def path_directories(problems: Problems) -> list[str]:
    """Directories of sys.path, absolute, in order; one that is there twice under two names (lib64 -> lib) counts once."""
    directories = []
    seen = set()
    for entry in sys.path:
        path = os.path.abspath(entry or ".")
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        if os.path.isfile(path):
            problems.add(path, "is an archive on sys.path; distributions inside it are not listed")
        elif os.path.isdir(path) or os.path.islink(path):
            directories.append(path)
    return directories


def is_site_directory(path: str) -> bool:
    return os.path.basename(path) in ("site-packages", "dist-packages") or path in SITE_DIRECTORIES


SITE_DIRECTORIES = frozenset(map(os.path.abspath, site.getsitepackages() if hasattr(site, "getsitepackages") else ()))


def install_prefix(location: str) -> str:
    """The prefix that a site directory belongs to: its `bin` and `share` are where wheels put scripts and data."""
    match = re.match(r"(.+?)/lib(?:64)?/(?:python|pypy)[0-9.t]*/(?:site|dist)-packages\Z", location)
    return match.group(1) if match else sys.prefix


def environment_roots(directories: Iterable[str]) -> list[str]:
    """Real directories whose files belong to the environment; below a system's own prefix (/usr) only its site directories do."""
    roots = {os.path.realpath(path) for path in directories if is_site_directory(path)}
    if interpreter_kind() in ("venv", "conda"):
        roots.add(os.path.realpath(sys.prefix))
    return sorted(roots)


def is_inside(path: str, roots: Iterable[str]) -> bool:
    return any(is_below(path, root) for root in roots)


# ---------------------------------------------------------------------------------------------------------------------
# Metadata files

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
VERSION = re.compile(r"[A-Za-z0-9!+._~:-]{1,200}\Z")


def normalised(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Headers:
    """The header fields of METADATA, PKG-INFO and WHEEL."""

    def __init__(self, text: str) -> None:
        self._fields: dict[str, list[str]] = {}
        last: list[str] = []
        for line in text.replace("\r\n", "\n").split("\n"):
            if not line:
                break
            if line[0] in " \t":
                if last:
                    last[-1] += "\n" + line.strip()
                continue
            key, colon, value = line.partition(":")
            last = self._fields.setdefault(key.strip().lower(), []) if colon else []
            if colon:
                last.append(value.strip())

    def one(self, name: str) -> str:
        return (self._fields.get(name) or [""])[0]

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])


def identity(headers: Headers, metadata_dir: str, where: str, problems: Problems) -> tuple[str, str] | None:
    """Normalised name and version; what METADATA does not say is taken from the directory's name, and named as a problem."""
    stem = re.sub(r"(?:-py[0-9.]+[^-]*)?\.(?:dist-info|egg-info|egg)\Z", "", os.path.basename(metadata_dir))
    name, _, version = stem.partition("-")
    found = []
    for field, pattern, fallback in (("Name", NAME, name), ("Version", VERSION, version)):
        value = headers.one(field.lower())
        if not pattern.match(value):
            problems.add(where, f"has no usable {field}" + (f" ({value!r})" if value else ""))
            value = fallback
        if not pattern.match(value):
            problems.add(where, f"is left out: neither it nor its directory says a {field.lower()}")
            return None
        found.append(value)
    return normalised(found[0]), found[1]


def wheel_tags(headers: Headers) -> list[str]:
    """Tag lines in order, compressed sets ("py2.py3-none-any") expanded."""
    tags: list[str] = []
    for line in headers.all("tag"):
        parts = line.split("-")
        if len(parts) == 3:
            pythons, abis, platforms = (part.split(".") for part in parts)
            tags += [f"{python}-{abi}-{platform}" for python in pythons for abi in abis for platform in platforms]
    return list(dict.fromkeys(tags))


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment; the fixed user of ssh://git@ stays."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    keep = user == "git" and parts.scheme in ("ssh", "git+ssh")
    return urlunsplit((parts.scheme, parts.netloc if keep else host, parts.path, "", ""))


def read_direct_url(text: str, where: str, problems: Problems) -> dict[str, Any] | None:
    try:
        value = clean(json.loads(text, parse_constant=refuse_constant))
        if not isinstance(value, dict) or not isinstance(value.get("url"), str):
            raise ValueError("no object with a url")
        return {**value, "url": public_url(value["url"])}
    except (ValueError, RecursionError) as error:
        problems.add(where, f"is not a direct_url document: {reason(error)}")
        return None


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# ---------------------------------------------------------------------------------------------------------------------
# RECORD

# What installers write beside a wheel's own files; they differ between pip, uv and conda for the same wheel.
# fmt: off
DROPPINGS = frozenset((
    "INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json", "RECORD", "RECORD.jws", "RECORD.p7s", "REFER_TO",
    "uv_build.json", "uv_cache.json",
))
# fmt: on
URLSAFE = str.maketrans("-_", "+/")


class Entry(NamedTuple):
    """A line of RECORD.

    Attributes:
        path: canonical: relative to the site directory, "prefix:share/…" below the prefix, else absolute.
        sha256: hex digits; "" without a hash or with another algorithm.
        size: bytes; -1 when not stated.
    """

    path: str
    sha256: str
    size: int


def canonical_path(path: str, location: str, prefix: str) -> str:
    """Raises ValueError for what cannot be a path."""
    if not path or "\0" in path:
        raise ValueError("no path")
    if path[0] not in "./" and "/." not in path and "//" not in path:
        return path
    full = posixpath.normpath(posixpath.join(location, path))
    if is_below(full, location):
        return full[len(location.rstrip("/")) + 1 :]
    if is_below(full, prefix):
        return "prefix:" + full[len(prefix.rstrip("/")) + 1 :]
    return full


def installed_path(path: str, location: str, prefix: str) -> str:
    """Where a canonical path lies."""
    base, relative = (prefix, path[len("prefix:") :]) if path.startswith("prefix:") else (location, path)
    return posixpath.join(base, relative)


def read_record(text: str, location: str, prefix: str) -> tuple[list[Entry], list[int]]:
    """Entries in file order, and the numbers of the lines that are none."""
    entries = []
    malformed = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line:
            continue
        try:
            path, hash_, size = line.split(",") if '"' not in line else quoted_fields(line)
            entries.append(Entry(canonical_path(path, location, prefix), sha256_hex(hash_), int(size) if size else -1))
        except ValueError:
            malformed.append(number)
    return entries, malformed


def quoted_fields(line: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise ValueError("not CSV") from error


def sha256_hex(value: str) -> str:
    """Turn "sha256=<base64url>" into hex digits, another algorithm into "". Raises ValueError for what is no hash."""
    if not value:
        return ""
    algorithm, equals, encoded = value.partition("=")
    if not equals:
        raise ValueError("no algorithm")
    if algorithm != "sha256":
        return ""
    digest = binascii.a2b_base64(encoded.translate(URLSAFE) + "==")
    if len(digest) != 32:
        raise ValueError("not 32 bytes")
    return digest.hex()


def payload(entries: Iterable[Entry], metadata_name: str) -> list[Entry]:
    """Entries that came out of the wheel: without byte code, the scripts directory, and what the installer wrote."""
    own = metadata_name + "/"
    return [
        entry
        for entry in entries
        if not entry.path.endswith(".pyc")
        and not entry.path.startswith("prefix:bin/")
        and not (entry.path.startswith(own) and entry.path[len(own) :] in DROPPINGS)
    ]


def canonical_digest(entries: Iterable[Entry]) -> str:
    """The digest "sha256:…" over one line `path NUL sha256 LF` for each entry, sorted by path (docs/lockfile-format.md)."""
    lines = {f"{entry.path}\0{entry.sha256}\n".encode("utf-8", "surrogateescape") for entry in entries}
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Editables


class Mapped(NamedTuple):
    """What an editable's import machinery points at: modules with their paths, or plain directories with module ""."""

    module: str
    path: str


def pth_directories(text: str, location: str) -> list[Mapped]:
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return [
        Mapped("", os.path.abspath(os.path.join(location, line)))
        for line in lines
        if line and not line.startswith(("#", "import ", "import\t"))
    ]


def finder_mapping(text: str) -> list[Mapped]:
    """Modules that a generated finder redirects, read without running it: setuptools' MAPPING and NAMESPACES, and the
    `map_module` calls of the editables library. Raises SyntaxError, ValueError.
    """
    import ast

    found: list[Mapped] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "map_module":
            found.append(Mapped(*map(ast.literal_eval, node.args[:2])))
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id in ("MAPPING", "NAMESPACES"):
            for module, paths in ast.literal_eval(node.value).items():
                found += [Mapped(module, path) for path in ([paths] if isinstance(paths, str) else paths)]
    return found


def import_root(mapped: Mapped) -> str | None:
    """The directory that would have to be on sys.path for `module` to be found at `path`; None when there is none."""
    path = os.path.normpath(mapped.path)
    if os.path.basename(path) == "__init__.py":
        path = os.path.dirname(path)
    parts = mapped.module.split(".") if mapped.module else []
    steps = (path[:-3] if parts and path.endswith(".py") else path).split("/")
    if steps[len(steps) - len(parts) :] != parts:
        return None
    return "/".join(steps[: len(steps) - len(parts)]) or "/"


def editable_mapping(location: str, entries: Iterable[Entry], problems: Problems) -> list[Mapped]:
    """What the .pth files and finders of an editable install name, in the order of their file names."""
    found: list[Mapped] = []
    for name in sorted(entry.path for entry in entries if "/" not in entry.path):
        text = read_text(os.path.join(location, name), name, problems) if name.endswith((".pth", ".py")) else None
        if text is None:
            continue
        try:
            found += pth_directories(text, location) if name.endswith(".pth") else finder_mapping(text)
        except (SyntaxError, ValueError, TypeError, AttributeError) as error:
            problems.add(name, f"is not a finder that can be read: {reason(error)}")
    return found


def editable_paths(mapping: Iterable[Mapped], where: str, problems: Problems) -> list[str]:
    paths: dict[str, None] = {}
    for mapped in mapping:
        root = import_root(mapped)
        if root is None:
            problems.add(where, f"maps {mapped.module} to {mapped.path}, which no directory on sys.path can express")
        else:
            paths[root] = None
            if not os.path.isdir(root):
                problems.add(where, f"is installed as editable from {root}, which is not there")
    return list(paths)


# ---------------------------------------------------------------------------------------------------------------------
# Importable modules

MODULE_SUFFIXES = (*importlib.machinery.EXTENSION_SUFFIXES, ".py")
# Directories beside the packages of a project that are no part of it; importing what lies in them would run it.
# fmt: off
NOT_PACKAGES = frozenset((
    "benchmark", "benchmarks", "build", "data", "dist", "doc", "docs", "example", "examples", "script", "scripts", "test", "tests", "tools",
))
# fmt: on
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name)


def module_of(file: str) -> str:
    """The module that a file defines, "" for none: "x" for x.py, x.so and x.cpython-311-x86_64-linux-gnu.so."""
    for suffix in MODULE_SUFFIXES:
        if file.endswith(suffix):
            return file[: -len(suffix)]
    return ""


def modules_of_files(paths: Iterable[str]) -> set[str]:
    found = set()
    for path in paths:
        top, slash, rest = path.partition("/")
        name = top if slash and "/" not in rest and module_of(rest) == "__init__" else "" if slash else module_of(top)
        if is_public(name):
            found.add(name)
    return found


def modules_of_directory(directory: str, problems: Problems) -> set[str]:
    """Top-level modules of a source directory; of a project's root only its packages, since its scripts run when imported."""
    names = list_directory(directory, problems)
    is_root = any(name in names for name in PROJECT_FILES)
    files = [name for name in names if not is_root and not os.path.isdir(os.path.join(directory, name))]
    packages = [name for name in names if os.path.isfile(os.path.join(directory, name, "__init__.py"))]
    return modules_of_files(files) | {name for name in packages if is_public(name) and not (is_root and name in NOT_PACKAGES)}


# ---------------------------------------------------------------------------------------------------------------------
# Distributions


class Installed(NamedTuple):
    """One distribution.

    Attributes:
        facts: the document's `Distribution`, without `modified`.
        prefix: that its location belongs to.
        entries: of RECORD; None without one.
    """

    facts: dict[str, Any]
    prefix: str
    entries: list[Entry] | None

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def location(self) -> str:
        return str(self.facts["location"])

    def path_of(self, entry: Entry) -> str:
        return installed_path(entry.path, self.location, self.prefix)

    def payload(self) -> list[Entry]:
        return payload(self.entries or (), os.path.basename(self.facts["metadata_dir"]))


def read_dist_info(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    directory = os.path.join(location, metadata_name)
    files = list_directory(directory, problems)

    def text(name: str) -> str | None:
        return read_text(os.path.join(directory, name), f"{metadata_name}/{name}", problems) if name in files else None

    metadata, wheel, direct_url_text = text("METADATA"), text("WHEEL"), text("direct_url.json")
    if metadata is None:
        if os.path.isdir(directory) and "METADATA" not in files:
            problems.add(metadata_name, "has no METADATA and is not counted as a distribution")
        return None
    headers, wheel_headers = Headers(metadata), Headers(wheel or "")
    named = identity(headers, directory, f"{metadata_name}/METADATA", problems)
    if named is None:
        return None
    if wheel is None:
        problems.add(metadata_name, "has no WHEEL file")
    direct_url = None if direct_url_text is None else read_direct_url(direct_url_text, f"{metadata_name}/direct_url.json", problems)
    prefix = install_prefix(location)
    record = parse_record(text("RECORD"), metadata_name, location, prefix, problems)
    entries, top_level = record.entries or [], (text("top_level.txt") or "").split()
    editable = is_editable(direct_url, entries)
    contents = editable_contents(location, metadata_name, entries, top_level, problems) if editable else Contents(
        canonical_digest(payload(entries, metadata_name)) if record.usable else None, [],
        modules_of_files(entry.path for entry in entries) or set(filter(is_public, top_level)))  # fmt: skip
    facts = {
        "name": named[0],
        "version": named[1],
        "location": location,
        "metadata_dir": directory,
        "installer": first_line(text("INSTALLER") or ""),
        "requested": "REQUESTED" in files,
        "tags": wheel_tags(wheel_headers),
        "build": wheel_headers.one("build"),
        "direct_url": direct_url,
        "files": contents.files,
        "size_bytes": sum(entry.size for entry in entries if entry.size > 0),
        "editable_paths": contents.editable_paths,
        "modules": sorted(contents.modules),
        "requires": headers.all("requires-dist"),
        "requires_python": headers.one("requires-python"),
    }
    return Installed(facts, prefix, record.entries)


class Record(NamedTuple):
    """Attributes: entries: None without the file; usable: it is there and every line of it is well-formed."""

    entries: list[Entry] | None
    usable: bool


def parse_record(text: str | None, metadata_name: str, location: str, prefix: str, problems: Problems) -> Record:
    if text is None:
        problems.add(metadata_name, "has no RECORD, so its files cannot be told")
        return Record(None, usable=False)
    entries, malformed = read_record(text, location, prefix)
    if malformed:
        problems.add(f"{metadata_name}/RECORD", f"has {counted(len(malformed), 'malformed line')}, the first at {malformed[0]}")
    return Record(entries, usable=not malformed)


class Contents(NamedTuple):
    """Attributes: files: digest of the payload; None for editables and without a usable RECORD."""

    files: str | None
    editable_paths: list[str]
    modules: set[str]


def editable_contents(
    location: str, metadata_name: str, entries: Sequence[Entry], top_level: Iterable[str], problems: Problems
) -> Contents:
    mapping = editable_mapping(location, entries, problems)
    paths = editable_paths(mapping, metadata_name, problems)
    if not mapping:
        problems.add(metadata_name, "is an editable install of a kind that does not say what it puts on sys.path")
    declared = set(filter(is_public, top_level)) or {mapped.module.partition(".")[0] for mapped in mapping if mapped.module}
    return Contents(None, paths, declared or {module for path in paths for module in modules_of_directory(path, problems)})


def is_editable(direct_url: Mapping[str, Any] | None, entries: Iterable[Entry]) -> bool:
    information = (direct_url or {}).get("dir_info")
    if isinstance(information, dict) and information.get("editable") is True:
        return True
    return any(entry.path.startswith("__editable__") for entry in entries)


def read_egg_info(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    """A distribution in the formats before wheels: a directory with PKG-INFO, or that file alone. Outside a site directory it
    is what `setup.py develop` leaves in a source tree that is on sys.path.
    """
    path = os.path.join(location, metadata_name)
    is_directory = os.path.isdir(path)
    where = f"{metadata_name}/PKG-INFO" if is_directory else metadata_name
    text = read_text(os.path.join(location, where), where, problems)
    if text is None:
        if is_directory and not os.path.exists(os.path.join(path, "PKG-INFO")):
            problems.add(metadata_name, "has no PKG-INFO and is not counted as a distribution")
        return None
    headers = Headers(text)
    owner = os.path.dirname(path) if metadata_name == "EGG-INFO" else path
    named = identity(headers, owner, where, problems)
    if named is None:
        return None
    top_level = read_text(os.path.join(path, "top_level.txt"), f"{metadata_name}/top_level.txt", problems) if is_directory else None
    editable = [] if is_site_directory(location) or metadata_name == "EGG-INFO" else [location]
    modules = set(filter(is_public, (top_level or "").split())) or {
        module for directory in editable for module in modules_of_directory(directory, problems)
    }
    facts = {
        "name": named[0],
        "version": named[1],
        "location": location,
        "metadata_dir": path,
        "editable_paths": editable,
        "modules": sorted(modules),
        "requires": headers.all("requires-dist"),
        "requires_python": headers.one("requires-python"),
    }
    return Installed(facts, install_prefix(location), None)


def read_distributions(directories: Iterable[str], problems: Problems) -> list[Installed]:
    """Every distribution on sys.path, sorted by name. Of two with one name the first on the path is what imports see."""
    found: dict[str, Installed] = {}
    for location in directories:
        for metadata_name in list_directory(location, problems):
            candidate = read_distribution(location, metadata_name, problems)
            if candidate is None:
                continue
            winner = found.setdefault(candidate.name, candidate)
            # A source tree keeps the egg-info of its last build beside the code that an editable install points to.
            if winner is not candidate and location not in winner.facts["editable_paths"]:
                problems.add(
                    os.path.join(location, metadata_name),
                    f"{candidate.name} {candidate.facts['version']} is hidden by {winner.facts['version']} in {winner.location}",
                )
    return [found[name] for name in sorted(found)]


def read_distribution(location: str, metadata_name: str, problems: Problems) -> Installed | None:
    """The distribution that a name in a directory of sys.path stands for; None for other names and what cannot be read."""
    try:
        if metadata_name.startswith("~"):
            problems.add(os.path.join(location, metadata_name), "is the leftover of an interrupted uninstall")
        elif metadata_name.endswith(".dist-info"):
            return read_dist_info(location, metadata_name, problems)
        elif metadata_name.endswith(".egg-info") or (metadata_name == "EGG-INFO" and location.endswith(".egg")):
            return read_egg_info(location, metadata_name, problems)
    except Exception as error:  # whatever else is broken about it, the others are still to be read
        problems.add(metadata_name, f"cannot be read: {type(error).__name__}: {reason(error)}")
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Oddities of sys.path, each a sentence


def path_oddities(directories: Sequence[str], distributions: Sequence[Installed], problems: Problems) -> list[str]:
    sentences = []
    pythonpath = os.environ.get("PYTHONPATH")
    if pythonpath:
        sentences.append(f"PYTHONPATH puts {pythonpath} in front of the environment's own packages")
    sentences += user_site_oddity()
    sentences += startup_modules()
    sentences += outside_packages(directories, distributions)
    for location in filter(is_site_directory, directories):
        names = list_directory(location, problems)
        sentences += [f"{name} in {location} is the leftover of an interrupted uninstall" for name in names if name.startswith("~")]
        sentences += executing_pth(location, names, distributions, problems)
    return sorted(dict.fromkeys(sentences))


def user_site_oddity() -> list[str]:
    directory = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    try:
        filled = bool(directory and os.listdir(directory))
    except OSError:
        filled = False
    return [f"the user's own site directory {directory} is enabled and not empty"] if filled else []


def startup_modules() -> list[str]:
    loaded = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in ("sitecustomize", "usercustomize"))
    return [f"{name} ({file}) runs whenever the interpreter starts" for name, file in loaded if file]


def outside_packages(directories: Iterable[str], distributions: Iterable[Installed]) -> list[str]:
    """Entries that hold distributions and are neither below the prefix nor an editable's source."""
    editable = {path for found in distributions for path in found.facts["editable_paths"]}
    counts: dict[str, int] = {}
    for found in distributions:
        counts[found.location] = counts.get(found.location, 0) + 1
    prefix = os.path.realpath(sys.prefix)
    return [
        f"{path} lies outside the prefix and holds {counted(counts[path], 'distribution')}"
        for path in directories
        if path in counts and path not in editable and not is_below(os.path.realpath(path), prefix)
    ]


def executing_pth(location: str, names: Iterable[str], distributions: Iterable[Installed], problems: Problems) -> list[str]:
    sentences = []
    for name in (name for name in names if name.endswith(".pth")):
        text = read_text(os.path.join(location, name), name, problems) or ""
        if re.search(r"^import[ \t]", text, re.MULTILINE):
            owners = (found.name for found in distributions if found.location == location and has_entry(found, name))
            sentences.append(f"{name} of {next(owners, 'no distribution')} runs code whenever the interpreter starts")
    return sentences


def has_entry(found: Installed, path: str) -> bool:
    return any(entry.path == path for entry in found.entries or ())


# ---------------------------------------------------------------------------------------------------------------------
# Variables

STEERING = re.compile(
    r"(?:AOT_|ATEN_|BLIS_|CUBLAS_|CUBLASLT_|CUDA_|CUDNN_|CUFFT_|CUPY_|CUSOLVER_|CUSPARSE_|DNNL_|FLAGS_|GOMP_|GOTO_|HIP_|HSA_|JAX_|KINETO_"
    r"|KMP_|MALLOC_|MIMALLOC_|MIOPEN_|MKL_|NCCL_|NUMBA_|NUMEXPR_|NVPL_|NVSHMEM_|NVTE_|OMP_|ONEDNN_|OPENBLAS_|PYTHON|PYTORCH_|TCMALLOC_"
    r"|TF_|TORCH_|TORCHDYNAMO_|TORCHINDUCTOR_|TRITON_|UCX_|VECLIB_|XLA_)[A-Za-z0-9_]*\Z"
    r"|(?:GLIBC_TUNABLES|LD_LIBRARY_PATH|LD_PRELOAD|LD_BIND_NOW|NVIDIA_TF32_OVERRIDE)\Z"
)
# These point at this host or describe its image, and would be wrong in another one; PYTHONDONTWRITEBYTECODE is our own doing;
# the TF_ names belong to Terraform, not to TensorFlow.
NOT_STEERING = re.compile(
    r"(?:CUDA_(?:CACHE_PATH|DEVICE_ORDER|HOME|PATH|ROOT|VISIBLE_DEVICES|MPS_[A-Z_]+)|PYTHONDONTWRITEBYTECODE|PYTHON_GET_PIP_[A-Z0-9]+"
    r"|PYTHON_SHA256|[A-Z0-9_]+_VERSION|TF_(?:CLI|DATA|IN|INPUT|LOG|PLUGIN|REGISTRY|STATE|TOKEN|VAR|WORKSPACE)(?:_.*)?)\Z"
)
SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PRIVATE_?KEY|AUTH)(?:_|$)",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{30,}|nvapi-[A-Za-z0-9_-]{20,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|wandb_v1_[A-Za-z0-9_]{20,}|pypi-[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
)
URL_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]*@")
FIXED_USERS = ("ssh://git@", "git+ssh://git@")


def is_secret(name: str, value: str) -> bool:
    """The same rules as `envsnap.redaction`, which cannot be imported here; a test holds the two together."""
    if not value or name == "SSH_AUTH_SOCK":
        return False
    return bool(
        SECRET_NAME.search(name) or SECRET_VALUE.search(value) or any(m.group(0) not in FIXED_USERS for m in URL_USERINFO.finditer(value))
    )


def without_secrets(text: str) -> str:
    text = URL_USERINFO.sub(lambda m: m.group(0) if m.group(0) in FIXED_USERS else m.group("scheme") + "****@", text)
    return SECRET_VALUE.sub("****", text)


def steering_variables(variables: Mapping[str, str]) -> dict[str, str | None]:
    return {
        name: None if is_secret(name, value) else value
        for name, value in sorted(variables.items())
        if STEERING.match(name) and not NOT_STEERING.match(name)
    }


def withheld_variables(variables: Mapping[str, str]) -> list[str]:
    return sorted(name for name, value in variables.items() if is_secret(name, value))


# ---------------------------------------------------------------------------------------------------------------------
# pip's configuration


def pip_config(problems: Problems) -> dict[str, Any] | None:
    """What `pip install` of this environment would use; None without pip, or when it cannot be asked."""
    try:
        if find_spec("pip") is None:
            return None
        from pip._internal.configuration import Configuration

        configuration = Configuration(isolated=False)
        configuration.load()
        return effective_pip_options(configuration.items())
    except Exception as error:
        problems.add("pip", f"its configuration cannot be read: {without_secrets(described(error))}")
        return None


def effective_pip_options(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Options after pip's own rule: [global], then [install], then variables; the later replaces the earlier.

    `items` are ("global.index-url", value), or from pip 25 on (file, {"global.index-url": value}) in the order of precedence.
    """
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(value if isinstance(value, dict) else {key: value})
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for key, value in flat.items():
            if key.startswith(section + ".") and value:
                options[key[len(section) + 1 :]] = str(value)
    return {
        "index_url": options.get("index-url") or None,
        "extra_index_urls": options.get("extra-index-url", "").split(),
        "find_links": options.get("find-links", "").split(),
        "no_index": options.get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t"),
    }


# ---------------------------------------------------------------------------------------------------------------------
# ELF (gABI, chapters "Program Header" and "Dynamic Section")

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
ELF_FAULTS = (struct.error, ValueError, OSError, OverflowError, MemoryError)
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 14, 15, 29


class Elf(NamedTuple):
    """What the dynamic linker reads of a file.

    Attributes:
        machine: (class, e_machine): two files with different ones cannot be in one process.
        soname: "" when the file has none.
        needed: sonames in order.
        search: RUNPATH, or RPATH, unexpanded.
        interpreter: of an executable, else "".
    """

    machine: tuple[int, int]
    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    interpreter: str


def read_elf(path: str) -> Elf | None:
    """None for whatever is not a well-formed ELF file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return parse_elf(lambda size, offset: os.pread(handle, size, offset))
    except ELF_FAULTS:
        return None
    finally:
        os.close(handle)


def parse_elf(read: Callable[[int, int], bytes]) -> Elf | None:
    head = read(64, 0)
    if head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    form, picks = (order + "IIQQQQQQ", (0, 2, 3, 5)) if wide else (order + "8I", (0, 1, 2, 4))
    raw = read(size * count, table)
    segments = []
    for number in range(count):
        fields = struct.unpack_from(form, raw, number * size)
        segments.append([fields[pick] for pick in picks])

    def text_at(offset: int, limit: int = 4096) -> str:
        return read(limit, offset).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    interpreter = next((text_at(offset) for kind, offset, _, _ in segments if kind == PT_INTERP), "")
    dynamic = next(((offset, length) for kind, offset, _, length in segments if kind == PT_DYNAMIC), None)
    tags = dynamic_tags(read(dynamic[1], dynamic[0]), order + ("qQ" if wide else "iI")) if dynamic else []
    strings = next((value for tag, value in tags if tag == DT_STRTAB), 0)
    start = next((offset + strings - address for kind, offset, address, length in segments
                  if kind == PT_LOAD and address <= strings < address + length), 0)  # fmt: skip

    def named(wanted: int) -> tuple[str, ...]:
        return tuple(text_at(start + value, 512) for tag, value in tags if tag == wanted)

    search = (named(DT_RUNPATH) or named(DT_RPATH) or ("",))[0]
    soname = (named(DT_SONAME) or ("",))[0]
    return Elf((head[4], machine), soname, named(DT_NEEDED), tuple(filter(None, search.split(":"))), interpreter)


def dynamic_tags(raw: bytes, form: str) -> list[tuple[int, int]]:
    step = struct.calcsize(form)
    tags = []
    for tag, value in struct.iter_unpack(form, raw[: len(raw) - len(raw) % step]):
        if tag == DT_NULL:
            break
        tags.append((tag, value))
    return tags


# ---------------------------------------------------------------------------------------------------------------------
# Libraries of the host

SHARED_OBJECT = re.compile(r".+\.so(?:\.[0-9A-Za-z_.-]+)?\Z")
# The C library is a property of the platform (`Platform.libc`), not a package that one could add to a base.
C_LIBRARY = re.compile(
    r"(?:ld-linux[-a-z0-9_]*|ld64|ld-musl-[-a-z0-9_]+|linux-vdso|libc|libc\.musl-[-a-z0-9_]+|libm|libmvec|libdl|libpthread|librt|libutil"
    r"|libanl|libresolv|libnss_[a-z0-9]+|libthread_db|libBrokenLocale|libc_malloc_debug)\.so(?:\.[0-9]+)*\Z|libnsl\.so\.1\Z"
)
# The driver's own libraries: the host's container runtime mounts them into whatever needs them.
INJECTED = re.compile(r"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[a-z0-9-]+|GLX_nvidia|EGL_nvidia|vdpau_nvidia)\.so(?:\.[0-9.]+)?\Z")


def is_shared_object(path: str) -> bool:
    name = os.path.basename(path)
    return ".so" in name and SHARED_OBJECT.match(name) is not None


class Loader:
    """Where the dynamic linker of this host finds a soname."""

    def __init__(self) -> None:
        own = read_elf(interpreter_binary())
        self._machine = own.machine if own is not None else None
        self._cache = linker_cache()
        multiarch = sysconfig.get_config_var("MULTIARCH") or ""
        roots = ("/lib", "/usr/lib", "/usr/local/lib")
        self._first = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
        self._last = [f"{root}/{multiarch}" for root in roots if multiarch] + [*roots, "/lib64", "/usr/lib64"]

    def find(self, soname: str, search: Iterable[str] = ()) -> str | None:
        """Real path of a library that a process of this interpreter could load."""
        if "/" in soname:
            candidates = [soname]
        else:
            candidates = [f"{directory}/{soname}" for directory in (*search, *self._first)]
            candidates += self._cache.get(soname, [])
            candidates += [f"{directory}/{soname}" for directory in self._last]
        for candidate in candidates:
            if os.path.exists(candidate):
                elf = read_elf(candidate)
                if elf is not None and self._machine in (None, elf.machine):
                    return os.path.realpath(candidate)
        return None

    def closure(self, paths: Iterable[str]) -> set[str]:
        """Real paths of `paths` and of everything that they need, directly or not."""
        pending = [os.path.realpath(path) for path in paths]
        found: set[str] = set()
        while pending:
            path = pending.pop()
            elf = None if path in found else read_elf(path)
            found.add(path)
            if elf is not None:
                pending += filter(None, (self.find(soname, expanded(elf.search, path)) for soname in elf.needed))
        return found


def expanded(search: Iterable[str], path: str) -> list[str]:
    """RUNPATH entries of the file at `path`, with $ORIGIN in its place."""
    return [entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", os.path.dirname(path)) for entry in search]


def linker_cache() -> dict[str, list[str]]:
    """Paths of each soname ("libGL.so.1") in the linker's order of preference, from `ldconfig -p`; empty without that (musl)."""
    cache: dict[str, list[str]] = {}
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        output = output_of([program, "-p"])
        for soname, path in re.findall(r"^\s+(\S+) \(.*\) => (.+)$", output, re.MULTILINE):
            cache.setdefault(soname, []).append(path)
        if cache:
            break
    return cache


def output_of(command: Sequence[str]) -> str:
    """What a program of the operating system prints; "" when there is no such program."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


class SystemPackage(NamedTuple):
    manager: str
    name: str
    version: str
    arch: str


def owners_of(paths: Iterable[str]) -> dict[str, SystemPackage]:
    """Real path -> the operating system's package that owns it."""
    wanted = sorted(set(paths))
    if not wanted:
        return {}
    return dpkg_owners(wanted) if os.path.isdir("/var/lib/dpkg/info") else rpm_owners(wanted)


def dpkg_owners(paths: Iterable[str], root: str = "/var/lib/dpkg") -> dict[str, SystemPackage]:
    aliases = {alias.encode("utf-8", "surrogateescape"): path for path in paths for alias in usrmerge_aliases(path)}
    found: dict[str, str] = {}
    for name in sorted(os.listdir(f"{root}/info")):
        if name.endswith(".list"):
            with open(f"{root}/info/{name}", "rb") as file:
                for line in aliases.keys() & set(file.read().split(b"\n")):
                    found.setdefault(aliases[line], name[: -len(".list")])
    status = dpkg_status({package.partition(":")[0] for package in found.values()}, root)
    owners = {}
    for path, package in found.items():
        name, _, arch = package.partition(":")
        entries = status.get(name, [])
        version, of = next((entry for entry in entries if arch in ("", entry[1])), ("", arch))
        owners[path] = SystemPackage("dpkg", name, version, of)
    return owners


def usrmerge_aliases(path: str) -> tuple[str, str]:
    """A merged /usr has files at /usr/lib that packages list as /lib, and the other way round."""
    return (path, path[len("/usr") :] if path.startswith("/usr/") else "/usr" + path)


def dpkg_status(names: set[str], root: str) -> dict[str, list[tuple[str, str]]]:
    """Package -> (version, architecture) for each installed architecture."""
    found: dict[str, list[tuple[str, str]]] = {}
    for paragraph in system_text(f"{root}/status").split("\n\n"):
        name = paragraph[len("Package: ") : paragraph.find("\n")] if paragraph.startswith("Package: ") else ""
        if name in names:
            fields = Headers(paragraph)
            found.setdefault(name, []).append((fields.one("version"), fields.one("architecture")))
    return found


def rpm_owners(paths: Sequence[str]) -> dict[str, SystemPackage]:
    owners = {}
    lines = output_of(["rpm", "-qf", "--qf", "owner\\t%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\n", *paths]).splitlines()
    for path, line in zip(paths, lines):  # noqa: B905  (3.8 has no `strict`)
        # one line for each path, "file X is not owned by any package" among them
        fields = line.split("\t")
        if fields[0] == "owner" and len(fields) == 4:
            version = fields[2][2:] if fields[2].startswith("0:") else fields[2]
            owners[path] = SystemPackage("rpm", fields[1], version, fields[3])
    return owners


# ---------------------------------------------------------------------------------------------------------------------
# Libraries that the environment needs from outside


def shared_objects(found: Installed) -> list[str]:
    """Paths of a distribution's shared objects: by RECORD, and for editables and egg-info by looking for its modules."""
    paths = [found.path_of(entry) for entry in found.entries or () if is_shared_object(entry.path)]
    directories = found.facts["editable_paths"] or ([] if found.entries is not None else [found.location])
    for directory in directories:
        for module in found.facts["modules"]:
            paths += [f"{directory}/{module}{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
            for parent, _, names in os.walk(os.path.join(directory, module)):
                paths += [os.path.join(parent, name) for name in names if is_shared_object(name)]
    return paths


class Need(NamedTuple):
    """A soname that shared objects of the environment need.

    Attributes:
        distributions: names of those that the objects belong to.
        search: directories that the objects themselves name for it (RUNPATH), in order.
    """

    distributions: set[str]
    search: dict[str, None]


class Scan(NamedTuple):
    """The shared objects of all distributions. Attributes: provided: file names and sonames that the environment has itself."""

    needs: dict[str, Need]
    provided: set[str]


def scan_shared_objects(distributions: Iterable[Installed], roots: Iterable[str]) -> Scan:
    needs: dict[str, Need] = {}
    provided: set[str] = set()
    directories = {f"{root}/{name}" for root in roots for name in ("lib", "lib64")}
    for found in distributions:
        for path in shared_objects(found):
            elf = read_elf(path)
            if elf is None:
                continue
            provided.update((os.path.basename(path), elf.soname))
            directories.add(os.path.dirname(path))
            for soname in elf.needed:
                need = needs.setdefault(soname, Need(set(), {}))
                need.distributions.add(found.name)
                need.search.update(dict.fromkeys(expanded(elf.search, path)))
    for directory in directories:  # links beside them are in no RECORD
        try:
            provided.update(filter(is_shared_object, os.listdir(directory)))
        except OSError:
            pass
    return Scan(needs, provided)


def system_libraries(distributions: Sequence[Installed], mapped: set[str], roots: Sequence[str]) -> list[dict[str, Any]]:
    """Libraries outside the environment that it needs or that were mapped. Those that nothing finds are left out: an
    extension that needs them does not load here either.
    """
    scan = scan_shared_objects(distributions, roots)
    loader = Loader()
    found: dict[tuple[str, str], set[str]] = {}
    for soname, need in scan.needs.items():
        if is_ordinary(soname) and os.path.basename(soname) not in scan.provided:
            path = loader.find(soname, need.search)
            if path is not None and not is_inside(path, roots):
                found[os.path.basename(soname), path] = need.distributions
    for path in foreign_mapped(mapped, roots, loader):
        found.setdefault((soname_of(path), path), set())
    owners = owners_of(path for _, path in found)
    return [system_library(soname, path, found[soname, path], owners.get(path), path in mapped) for soname, path in sorted(found)]


def system_library(soname: str, path: str, names: Iterable[str], owner: SystemPackage | None, mapped: bool) -> dict[str, Any]:
    return {
        "soname": soname,
        "path": path,
        "package": owner.name if owner else None,
        "package_version": owner.version if owner else None,
        "package_arch": owner.arch if owner else None,
        "needed_by": sorted(names),
        "mapped": mapped,
    }


def is_ordinary(soname: str) -> bool:
    name = os.path.basename(soname)
    return not C_LIBRARY.match(name) and not INJECTED.match(name)


def soname_of(path: str) -> str:
    elf = read_elf(path)
    return (elf.soname if elf is not None else "") or os.path.basename(path)


def foreign_mapped(mapped: set[str], roots: Sequence[str], loader: Loader) -> list[str]:
    """Mapped libraries outside the environment that the interpreter and its standard library would not have brought by themselves."""
    outside = [path for path in mapped if not is_inside(path, roots) and is_ordinary(path) and "/gconv/" not in path]
    if not outside:
        return []
    extensions = sysconfig.get_config_var("DESTSHARED") or os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
    own = [interpreter_binary()]
    if os.path.isdir(extensions):
        own += [os.path.join(extensions, name) for name in os.listdir(extensions) if is_shared_object(name)]
    interpreter = loader.closure(own)
    return sorted(path for path in outside if path not in interpreter and is_ordinary(soname_of(path)))


# ---------------------------------------------------------------------------------------------------------------------
# Child processes


# fmt: off
KEEPING_FILES = (
    "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CUDA_CACHE_PATH", "CUPY_CACHE_DIR",
    "HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    "TRITON_HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_DIR", "YOLO_CONFIG_DIR",
)
# fmt: on


class Sandbox:
    """A temporary HOME for child processes that run foreign code; gone, with all that it wrote there, on leaving."""

    def __enter__(self) -> Sandbox:  # noqa: PYI034  (3.8 has no `Self`)
        self.home = tempfile.mkdtemp(prefix="collect-")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The caller's variables without secrets; every known place where libraries keep files lies in the sandbox."""
        environment = {name: value for name, value in os.environ.items() if not is_secret(name, value)}
        environment.update(dict.fromkeys(KEEPING_FILES, self.home))
        environment.update(PYTHONDONTWRITEBYTECODE="1", YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")
        if site.ENABLE_USER_SITE:  # it is derived from HOME, and part of the environment all the same
            environment["PYTHONUSERBASE"] = site.getuserbase()
        return environment

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *interpreter_flags(), os.path.abspath(__file__), *arguments],
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )

    def tidy(self, message: str) -> str:
        """One line of a child's words that is the same in every run and holds no secret."""
        return without_secrets(message.replace(self.home, "~"))[:MESSAGE_LENGTH]


def interpreter_flags() -> list[str]:
    flags = ["-B"]
    flags += [
        f"-{letter}" for letter, on in (("I", sys.flags.isolated), ("E", sys.flags.ignore_environment), ("s", sys.flags.no_user_site)) if on
    ]
    return flags + (["-X", "utf8"] if sys.flags.utf8_mode else [])


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    child.wait()


def ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def mapped_files() -> list[str]:
    """Shared objects that are mapped into this process, by real path."""
    found = set()
    for line in system_text("/proc/self/maps").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/") and is_shared_object(fields[5]):
            found.add(fields[5])
    return sorted(found)


# ---------------------------------------------------------------------------------------------------------------------
# torch: the child

FLAGS = (
    "are_deterministic_algorithms_enabled",
    "backends.cuda.cudnn_sdp_enabled",
    "backends.cuda.flash_sdp_enabled",
    "backends.cuda.math_sdp_enabled",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.fp32_precision",
    "backends.cuda.mem_efficient_sdp_enabled",
    "backends.cuda.preferred_blas_library",
    "backends.cuda.preferred_linalg_library",
    "backends.cudnn.allow_tf32",
    "backends.cudnn.benchmark",
    "backends.cudnn.benchmark_limit",
    "backends.cudnn.conv.fp32_precision",
    "backends.cudnn.deterministic",
    "backends.cudnn.enabled",
    "backends.cudnn.rnn.fp32_precision",
    "backends.fp32_precision",
    "backends.mkl.is_available",
    "backends.mkldnn.deterministic",
    "backends.mkldnn.enabled",
    "backends.mkldnn.fp32_precision",
    "backends.mkldnn.is_available",
    "backends.openmp.is_available",
    "get_default_dtype",
    "get_float32_matmul_precision",
    "is_deterministic_algorithms_warn_only_enabled",
)


def torch_child(out: str) -> None:
    """Write what torch is, then what it mapped after it computed. What was written stays when a later step ends the process."""
    import torch

    document: dict[str, Any] = {"torch": torch_facts(torch), "failures": [], "mapped": [], "versions": {}}
    write_document(out, document)
    for step in (exercise_one_device, exercise_all_devices):
        try:
            step(torch)
        except Exception as error:
            document["failures"].append(f"{step.__name__}: {described(error)}")
    document["mapped"] = mapped_files()
    write_document(out, document)
    asked = {path: version_from_library(path, torch) for path in document["mapped"]}
    document["versions"] = {path: version for path, version in asked.items() if version}
    write_document(out, document)


def torch_facts(torch: Any) -> dict[str, Any]:
    def ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Exception:  # a build without CUDA or NCCL answers with one of several exceptions
            return None

    flags = {name: ask(functools.partial(flag_value, torch, name)) for name in FLAGS}
    nccl = ask(torch.cuda.nccl.version)
    architectures = ask(lambda: torch._C._cuda_getArchFlags()) or ""  # noqa: PLW0108, SLF001  (get_arch_list() is empty without a GPU)
    return {
        "version": str(torch.__version__),
        "git": str(ask(lambda: torch.version.git_version) or ""),
        "cuda": torch.version.cuda,
        "cudnn": cudnn_text(ask(torch.backends.cudnn.version)),
        "nccl": ".".join(map(str, nccl)) if isinstance(nccl, tuple) else nccl_text(nccl),
        "cuda_available": bool(torch.cuda.is_available()),
        "arch_list": architectures.split(),
        "flags": {name: str(value) for name, value in flags.items() if value is not None},
    }


def flag_value(torch: Any, name: str) -> Any:
    value = torch
    for part in name.split("."):
        value = getattr(value, part)
    return value() if callable(value) else value


def exercise_one_device(torch: Any) -> None:
    """A convolution, forward and backward, and a matrix product: cuDNN and cuBLAS load most of themselves at first use."""
    cuda = torch.cuda.is_available()
    for dtype in (torch.float32, torch.float16) if cuda else (torch.float32,):
        options = {"device": "cuda" if cuda else "cpu", "dtype": dtype}
        image = torch.ones((2, 8, 16, 16), requires_grad=True, **options)
        weight = torch.ones((8, 8, 3, 3), requires_grad=True, **options)
        torch.nn.functional.conv2d(image, weight, padding=1).mean().backward()
        square = torch.ones((64, 64), **options)
        (square @ square).mean().item()


def exercise_all_devices(torch: Any) -> None:
    """An all-reduce: NCCL loads its network plugins at first use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > 1:
        torch.cuda.nccl.all_reduce([torch.ones(1, device=f"cuda:{number}") for number in range(count)])
        for number in range(count):
            torch.cuda.synchronize(number)


def cudnn_text(number: int | None) -> str | None:
    """92000 -> "9.20.0", 8907 -> "8.9.7" (CUDNN_VERSION in cudnn_version.h)."""
    if not number:
        return None
    base = 10000 if number >= 90000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def nccl_text(number: int | None) -> str | None:
    """22907 -> "2.29.7", 2708 -> "2.7.8" (NCCL_VERSION in nccl.h)."""
    if not number:
        return None
    base = 10000 if number >= 10000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"


def cuda_text(number: int) -> str | None:
    """13000 -> "13.0" (CUDART_VERSION)."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def version_from_library(path: str, torch: Any) -> str | None:
    """What a mapped library says of itself when asked; None when it cannot be asked."""
    name = os.path.basename(path)
    if re.match(r"lib(?:torch|c10|caffe2|shm)", name):
        return str(torch.__version__)
    for pattern, ask in QUESTIONS:
        if re.match(pattern, name):
            import ctypes

            try:
                return ask(ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW))
            except (OSError, AttributeError):
                return None
    return None


def by_number(function: str, text: Callable[[int], str | None]) -> Callable[[Any], str | None]:
    """For functions that write one integer and return 0."""

    def ask(library: Any) -> str | None:
        import ctypes

        value = ctypes.c_int()
        return text(value.value) if getattr(library, function)(ctypes.byref(value)) == 0 else None

    return ask


def by_two_numbers(function: str) -> Callable[[Any], str | None]:
    def ask(library: Any) -> str | None:
        import ctypes

        major, minor = ctypes.c_int(), ctypes.c_int()
        return f"{major.value}.{minor.value}" if getattr(library, function)(ctypes.byref(major), ctypes.byref(minor)) == 0 else None

    return ask


def by_property(function: str) -> Callable[[Any], str | None]:
    """For `xGetProperty(libraryPropertyType, int *)`: MAJOR_VERSION, MINOR_VERSION and PATCH_LEVEL are 0, 1 and 2."""

    def ask(library: Any) -> str | None:
        import ctypes

        values = [ctypes.c_int() for _ in range(3)]
        codes = [getattr(library, function)(number, ctypes.byref(value)) for number, value in enumerate(values)]
        return None if any(codes) else ".".join(str(value.value) for value in values)

    return ask


def ask_cudnn(library: Any) -> str | None:
    import ctypes

    library.cudnnGetVersion.restype = ctypes.c_size_t
    return cudnn_text(library.cudnnGetVersion())


def ask_openblas(library: Any) -> str | None:
    import ctypes

    for name in ("openblas_get_config", "openblas_get_config64_", "scipy_openblas_get_config", "scipy_openblas_get_config64_"):
        function = getattr(library, name, None)
        if function is not None:
            function.restype = ctypes.c_char_p
            match = re.match(r"OpenBLAS (\S+)", (function() or b"").decode("ascii", "replace"))
            return match.group(1) if match else None
    return None


QUESTIONS: tuple[tuple[str, Callable[[Any], str | None]], ...] = (
    (r"libcuda\.so", by_number("cuDriverGetVersion", cuda_text)),
    (r"libcudart[-.]", by_number("cudaRuntimeGetVersion", cuda_text)),
    (r"libcudnn[-.]", ask_cudnn),
    (r"libnccl[-.]", by_number("ncclGetVersion", nccl_text)),
    (r"libcublasLt[-.]", by_property("cublasLtGetProperty")),
    (r"libcublas[-.]", by_property("cublasGetProperty")),
    (r"libcufft[-.]", by_property("cufftGetProperty")),
    (r"libcurand[-.]", by_property("curandGetProperty")),
    (r"libcusolver[-.]", by_property("cusolverGetProperty")),
    (r"libcusparse[-.]", by_property("cusparseGetProperty")),
    (r"libcusparseLt[-.]", by_property("cusparseLtGetProperty")),
    (r"libnvrtc[-.]", by_two_numbers("nvrtcVersion")),
    (r"libnvJitLink[-.]", by_two_numbers("nvJitLinkVersion")),
    (r"lib(?:scipy_)?openblas", ask_openblas),
)


# ---------------------------------------------------------------------------------------------------------------------
# torch: the parent

MATHS = re.compile(
    r"lib(?:cuda|nvidia-|nccl|cublas|cudnn|cufft|curand|cusolver|cusparse|cudss|nvrtc|nvJitLink|nvjitlink|nvfatbin|nvptxcompiler|nvblas|nvpl"
    r"|nvperf|cupti|nvshmem|nvToolsExt|nvtx|cufile|gomp|iomp|omp[-.5]|mkl|dnnl|(?:scipy_)?openblas|blis|blas|lapack|torch|c10|caffe2|shm[-.])"
)


class TorchProbe(NamedTuple):
    facts: dict[str, Any] | None
    mapped: list[str]
    versions: dict[str, str]


def probe_torch(problems: Problems) -> TorchProbe:
    if not is_importable("torch"):
        return TorchProbe(None, [], {})
    with Sandbox() as sandbox:
        out = os.path.join(sandbox.home, "torch.json")
        with open(os.path.join(sandbox.home, "stderr"), "w+b") as stderr:
            child = sandbox.start(["--child", "torch", "--out", out], stderr=stderr)
            try:
                failure = ended_badly(child.wait(TORCH_TIMEOUT_S), stderr, sandbox)
            except subprocess.TimeoutExpired:
                failure = f"did not finish within {TORCH_TIMEOUT_S:.0f} s"
            finally:
                end_group(child)
        if failure:
            problems.add("torch", f"the probe {failure}")
        try:
            with open(out, encoding="ascii") as file:
                document = json.load(file)
        except (OSError, ValueError):
            return TorchProbe(None, [], {})
        for sentence in document["failures"]:
            problems.add("torch", sandbox.tidy(sentence))
        return TorchProbe(document["torch"], document["mapped"], document["versions"])


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


def loaded_libraries(probe: TorchProbe, distributions: Sequence[Installed], roots: Sequence[str], *, rehash: bool) -> list[dict[str, Any]]:
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


def hash_or_none(path: str) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Imports

# They open a browser, print poems, start an editor, or are test suites that no one imports.
NOT_IMPORTED = frozenset(("antigravity", "this", "idlelib", "test", "tests", "conftest", "setup"))


def imports_child(modules_file: str, pipe: int) -> None:
    """Import one module after another; `pipe` gets a line of JSON before and after each, and the mapped files at the end."""
    import importlib

    os.set_inheritable(pipe, False)

    def tell(*words: Any) -> None:
        os.write(pipe, json.dumps(words).encode("ascii") + b"\n")

    with open(modules_file, encoding="ascii") as file:
        modules = json.load(file)
    for module in modules:
        tell("start", module)
        try:
            importlib.import_module(module)
            tell("end", module, "")
        except BaseException as error:
            tell("end", module, described(error))
    tell("mapped", mapped_files())
    os._exit(0)  # what the modules registered to run at exit is not ours to run


class Imports(NamedTuple):
    """Attributes: results: module -> "" or its error; mapped: files of the children that reached their end."""

    results: dict[str, str]
    mapped: set[str]


def probe_imports(modules: Iterable[str]) -> Imports:
    """Import everything in as few children as it takes. What fails after others is tried again alone: only that failure is
    the module's own (an old setuptools, say, refuses to come after whoever imported distutils).
    """
    todo = sorted(set(modules) - NOT_IMPORTED)
    results: dict[str, str] = {}
    mapped: set[str] = set()
    with Sandbox() as sandbox:
        pending = todo
        while pending:
            some = import_round(pending, len(todo), sandbox)
            results.update(some.results)
            mapped |= some.mapped
            pending = [module for module in todo if module not in results]
        for module in todo:
            if results[module] not in ("", HUNG):
                results.update(import_round([module], len(todo), sandbox).results)
    return Imports({module: results[module] for module in todo}, mapped)


HUNG = f"TimeoutError: did not finish within {IMPORT_TIMEOUT_S:.0f} s"


def import_round(modules: Sequence[str], total: int, sandbox: Sandbox) -> Imports:
    """Have one child import until it is done, dies or hangs; at least the first module gets a result."""
    names = os.path.join(sandbox.home, "modules.json")
    with open(names, "w", encoding="ascii") as file:
        json.dump(list(modules), file)
    reader, writer = os.pipe()
    child = sandbox.start(["--child", "imports", "--out", names, "--pipe", str(writer)], pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    current = modules[0]
    results: dict[str, str] = {}
    mapped: list[str] | None = None
    hung = False
    try:
        for kind, *words in lines_of(reader, IMPORT_TIMEOUT_S):
            if kind == "start":
                current = words[0]
                say_progress(total - len(modules) + len(results), total, "steps", f"imports {current}")
            elif kind == "end":
                results[words[0]] = sandbox.tidy(words[1])
            elif kind == "mapped":
                mapped = words[0]
                break
        else:
            child.wait(10)
    except (TimeoutError, subprocess.TimeoutExpired):
        hung = True
    finally:
        os.close(reader)
        end_group(child)
    if mapped is None:
        results[current] = HUNG if hung else f"ProcessEnded: {ending(child.returncode)}"
    return Imports(results, set(mapped or ()))


def lines_of(pipe: int, timeout_s: float) -> Iterator[list[Any]]:
    """Documents from `pipe` up to its end. Raises TimeoutError when the next one takes longer than `timeout_s`."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], timeout_s)
        if not ready:
            raise TimeoutError
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


# ---------------------------------------------------------------------------------------------------------------------
# Integrity


class Meter:
    """Counts bytes from several threads and says so, a few times a second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._said = 0.0

    def advance(self, count: int) -> None:
        self._done += count  # a count that two threads lose between them only makes a progress bar lag
        now = time.monotonic()
        if now - self._said >= 0.2 or self._done >= self._total:
            self._said = now
            say_progress(self._done, self._total, "bytes", "integrity")


class Integrity(NamedTuple):
    """What the files of a distribution really are.

    Attributes:
        modified: paths of files that are not what RECORD says; "missing: …" and "added: …" for those on one side only; sorted.
        digest: `canonical_digest` of the files as they are.
    """

    modified: list[str]
    digest: str


PART_FILES, PART_BYTES = 256, 32 << 20


def check_integrity(distributions: Sequence[Installed]) -> dict[str, Integrity]:
    """By name, for each distribution that has a RECORD."""
    from concurrent.futures import ThreadPoolExecutor

    recorded = [found for found in distributions if found.entries is not None]
    work = [(found, entry) for found in recorded for entry in found.payload()]
    meter = Meter(sum(max(entry.size, 0) for _, entry in work))
    # A task for each file would cost more than hashing most of them.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checked = pool.map(lambda part: [look_at(found.path_of(entry), entry, meter) for found, entry in part], parts_of(work))
        words = [word for part in checked for word in part]
    actual: dict[str, list[Entry]] = {found.name: [] for found in recorded}
    modified: dict[str, set[str]] = {found.name: set() for found in recorded}
    for (found, entry), seen in zip(work, words):  # noqa: B905  (3.8 has no `strict`)
        if seen is None:
            modified[found.name].add("missing: " + entry.path)
            continue
        if seen != entry.sha256:
            modified[found.name].add(entry.path)
        actual[found.name].append(entry._replace(sha256=seen))
    for found, path, file in added_files(recorded):
        sha256 = hash_or_none(file)
        if sha256 is not None:
            modified[found.name].add("added: " + path)
            actual[found.name].append(Entry(path, sha256, -1))
    return {name: Integrity(sorted(modified[name]), canonical_digest(entries)) for name, entries in actual.items()}


def parts_of(work: Sequence[tuple[Installed, Entry]]) -> Iterator[Sequence[tuple[Installed, Entry]]]:
    """Consecutive pieces of some hundred small files or a few large ones."""
    start, size = 0, 0
    for number, (_, entry) in enumerate(work):
        size += max(entry.size, 0)
        if size >= PART_BYTES or number - start >= PART_FILES:
            yield work[start : number + 1]
            start, size = number + 1, 0
    if start < len(work):
        yield work[start:]


def look_at(path: str, entry: Entry, meter: Meter) -> str | None:
    """The file's SHA-256; RECORD's own where that has none and the file is there; None when it cannot be read."""
    try:
        if not entry.sha256:
            os.stat(path)
            return ""
        if not 0 <= entry.size <= SMALL_BYTES:
            return sha256_of(path, meter.advance)
        handle = os.open(path, os.O_RDONLY)
        try:
            data = os.read(handle, entry.size + 1)  # one more than there should be: a longer file differs
            while True:
                more = os.read(handle, 1 << 20)
                if not more:
                    break
                data += more
        finally:
            os.close(handle)
    except OSError:
        return None
    meter.advance(len(data))
    return hashlib.sha256(data).hexdigest()


SMALL_BYTES = 1 << 18


def added_files(distributions: Iterable[Installed]) -> Iterator[tuple[Installed, str, str]]:
    """Files in a distribution's own folders that no RECORD names: (distribution, canonical path, file). A folder below the site
    directory is its own when every file that a RECORD has in it is of this distribution; so are the folders below that no RECORD knows.
    """
    owners: dict[str, set[str]] = {}
    known: set[str] = set()
    by_name = {}
    for found in distributions:
        by_name[found.name] = found
        for entry in found.entries or ():
            file = posixpath.normpath(found.path_of(entry))
            known.add(file)
            if entry.path.endswith(".pyc"):
                continue
            folder = os.path.dirname(file)
            owners.setdefault(folder, set()).add(found.name)
            # Whatever has a recorded folder below it is known too, though it may belong to several.
            while is_below(folder, found.location) or is_below(folder, found.prefix):
                folder = os.path.dirname(folder)
                if folder in owners:
                    break
                owners[folder] = set()
    for folder in sorted(owners):
        if len(owners[folder]) != 1:
            continue
        found = by_name[next(iter(owners[folder]))]
        # Below the prefix (share/man/man1) a folder is everybody's, whoever uses it now.
        if found.facts["editable_paths"] or not is_below(folder, found.location) or folder == found.facts["metadata_dir"]:
            continue
        for file in unknown_files(folder, owners.keys(), known):
            yield found, file[len(found.location.rstrip("/")) + 1 :], file


def unknown_files(folder: str, recorded: Iterable[str], known: set[str]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__" and entry.path not in recorded:
                yield from unknown_files(entry.path, recorded, known)
        elif entry.path not in known and not entry.name.endswith((".pyc", ".pyo")) and entry.is_file():
            yield entry.path


# ---------------------------------------------------------------------------------------------------------------------
# The project's files


def is_manifest(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("root"), str)
        and isinstance(value.get("files"), list)
        and all(isinstance(row, list) and len(row) == 3 and all(isinstance(item, str) for item in row) for row in value["files"])
    )


def check_source(manifest: Mapping[str, Any]) -> dict[str, Any]:
    files = manifest["files"]
    canonical = json.dumps(files, separators=(",", ":"), ensure_ascii=True)
    differing = [path for path, mode, digest in files if not is_file_as(os.path.join(manifest["root"], path), mode, digest)]
    return {"digest": "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest(), "differing": sorted(differing)}


def is_file_as(path: str, mode: str, digest: str) -> bool:
    try:
        status = os.lstat(path)
        if mode == "120000":
            target = os.fsencode(os.readlink(path))
            return hashlib.sha256(target).hexdigest() == digest
        executable = bool(status.st_mode & stat.S_IXUSR)
        return stat.S_ISREG(status.st_mode) and executable == (mode == "100755") and sha256_of(path) == digest
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Expectation


def is_expectation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("packages"), list)
        and all(isinstance(item, dict) and {"name", "version"} <= item.keys() for item in value["packages"])
    )


def differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Every way in which the document is not what was expected, one sentence each."""
    return [
        *package_differences(expected["packages"], document),
        *import_differences(expected, document),
        *source_differences(expected, document),
    ]


def package_differences(packages: Iterable[Mapping[str, Any]], document: Mapping[str, Any]) -> Iterator[str]:
    found = {item["name"]: item for item in document["distributions"]}
    wanted = {item["name"]: item for item in packages}
    for name in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(name), found.get(name)
        if have is None or want is None:
            yield (
                f"{name} {want['version']} is missing"
                if want
                else f"{name} {have['version'] if have else ''} is there and was not expected"
            )
            continue
        if want["version"] != have["version"]:
            yield f"{name} is {have['version']}, expected {want['version']}"
        elif want.get("files") and want["files"] != have.get("files"):
            yield f"{name} {have['version']} has other files: {have.get('files')}, expected {want['files']}"
        for path in have.get("modified") or ():
            yield f"{name} {have['version']}: {path}" if path.startswith("missing: ") else f"{name} {have['version']}: {path} was modified"


def import_differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    imports = document["imports"]
    for module in expected.get("imports", ()):
        error = "not tried (--imports was not given)" if imports is None else imports.get(module, "not tried")
        if error:
            yield f"import {module}: {error}"


def source_differences(expected: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    digest, check = expected.get("source"), document["source_files"]
    if digest is None and check is None:
        return
    if check is None:
        yield "the project's files were not looked at (--source was not given)"
        return
    if digest != check["digest"]:
        yield f"the manifest of the project's files is {check['digest']}, expected {digest}"
    for path in check["differing"]:
        yield f"the project's file {path} is missing or differs"


def report_expectation(found: Sequence[str], document: Mapping[str, Any]) -> None:
    for sentence in found:
        print(sentence, file=sys.stderr)
    packages = len(document["distributions"])
    print(
        counted(len(found), "difference") if found else f"{counted(packages, 'distribution')}, all as expected", file=sys.stderr, flush=True
    )


# ---------------------------------------------------------------------------------------------------------------------
# The document


class Clock:
    """Seconds of each phase, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.monotonic()

    def mark(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(now - self._last, 3)
        self.seconds["total"] = round(now - self._start, 3)
        self._last = now


def collect(
    *, torch: bool, imports: bool, integrity: bool, manifest: Mapping[str, Any] | None, expected_imports: Iterable[str]
) -> dict[str, Any]:
    problems, clock = Problems(), Clock()
    directories = path_directories(problems)
    distributions = read_distributions(directories, problems)
    oddities = path_oddities(directories, distributions, problems)
    clock.mark("distributions")
    pip = pip_config(problems)
    clock.mark("pip")
    roots = environment_roots(directories)
    probe = probe_torch(problems) if torch else TorchProbe(None, [], {})
    libraries = loaded_libraries(probe, distributions, roots, rehash=integrity)
    clock.mark("torch")
    modules = {module for found in distributions for module in found.facts["modules"]}.union(expected_imports)
    tried = probe_imports(modules) if imports else None
    clock.mark("imports")
    mapped = set(probe.mapped) | (tried.mapped if tried is not None else set())
    foreign = system_libraries(distributions, mapped, roots)
    clock.mark("system_libraries")
    checked = check_integrity(distributions) if integrity else {}
    clock.mark("integrity")
    source = None if manifest is None else check_source(manifest)
    clock.mark("source")
    return {
        "schema": SCHEMA,
        "interpreter": interpreter_facts(),
        "platform": platform_facts(),
        "distributions": [{**found.facts, **integrity_facts(found, checked.get(found.name))} for found in distributions],
        "env": steering_variables(os.environ),
        "withheld": withheld_variables(os.environ),
        "path_oddities": oddities,
        "pip_config": pip,
        "torch": probe.facts,
        "libraries": libraries,
        "system_libraries": foreign,
        "imports": None if tried is None else tried.results,
        "source_files": source,
        "problems": problems.document(),
        "seconds": clock.seconds,
    }


def integrity_facts(found: Installed, checked: Integrity | None) -> dict[str, Any]:
    """`modified` and `actual_files` of the document; without a usable RECORD, and for editables, there is no digest to compare."""
    comparable = checked is not None and found.facts.get("files") is not None
    return {
        "modified": None if checked is None else checked.modified,
        "actual_files": checked.digest if checked is not None and comparable else None,
    }


def write_document(path: str, document: Mapping[str, Any]) -> None:
    text = json.dumps(clean(document), ensure_ascii=True, separators=(",", ":")) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    # Index URLs in it may hold credentials.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="collect.py", description="Write what is in this Python environment as one JSON document.")
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--torch", action="store_true")
    arguments.add_argument("--imports", action="store_true")
    arguments.add_argument("--integrity", action="store_true")
    arguments.add_argument("--source")
    arguments.add_argument("--expect")
    arguments.add_argument("--child", choices=("torch", "imports"), help=argparse.SUPPRESS)
    arguments.add_argument("--pipe", type=int, help=argparse.SUPPRESS)
    return arguments


def read_input(path: str, is_valid: Callable[[Any], bool], arguments: argparse.ArgumentParser) -> Any:
    """A JSON document; ends the script with 2 when it cannot be read or is not what is wanted."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        arguments.error(f"cannot read {path}: {reason(error)}")
    if not is_valid(value):
        arguments.error(f"cannot read {path}: not a document of the kind that this option takes")
    return value


def use_utf8(argv: Sequence[str]) -> None:
    """Start over in UTF-8 mode where the locale is another one: file names and metadata must read the same everywhere."""
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, *interpreter_flags(), "-X", "utf8", os.path.abspath(__file__), *argv])


def main(argv: Sequence[str]) -> int:
    use_utf8(argv)
    forget_script_directory()
    arguments = parser()
    options = arguments.parse_args(argv)
    if options.child == "torch":
        torch_child(options.out)
        return 0
    if options.child == "imports":
        imports_child(options.out, options.pipe)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that children end and temporary files go
    manifest = read_input(options.source, is_manifest, arguments) if options.source else None
    expected = read_input(options.expect, is_expectation, arguments) if options.expect else None
    document = collect(
        torch=options.torch,
        imports=options.imports,
        integrity=options.integrity,
        manifest=manifest,
        expected_imports=(expected or {}).get("imports", ()),
    )
    write_document(options.out, document)
    if expected is None:
        return 0
    found = differences(expected, document)
    report_expectation(found, document)
    return EXIT_DIFFERENT if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
