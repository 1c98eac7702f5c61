"""Packages of the operating system: whose a file is, and which files a package brought."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Iterable, Mapping, NamedTuple, Sequence

from .libraries import output_of
from .metadata import Headers
from .text import system_text

DPKG = "/var/lib/dpkg"
MD5SUM = re.compile(r"([0-9a-f]{32})  (.+)")
RPM_ALGORITHMS = {"(none)": "md5", "1": "md5", "2": "sha1", "8": "sha256", "9": "sha384", "10": "sha512", "11": "sha224"}  # RFC 4880, 9.4


class SystemPackage(NamedTuple):
    manager: str
    name: str
    version: str
    arch: str


class Brought(NamedTuple):
    """The files that a package brought.

    Attributes:
        algorithm: of the digests, by hashlib's name.
        digests: hexadecimal, by absolute path; neither links nor directories are among them.
    """

    algorithm: str
    digests: Mapping[str, str]


def owners_of(paths: Iterable[str]) -> dict[str, SystemPackage]:
    """Real path -> the operating system's package that owns it."""
    wanted = sorted(set(paths))
    if not wanted:
        return {}
    return dpkg_owners(wanted) if has_dpkg() else rpm_owners(wanted)


def brought_by(packages: Iterable[SystemPackage]) -> dict[SystemPackage, Brought]:
    """What packages brought; those of whose files nobody keeps digests are left out."""
    wanted = sorted(set(packages))
    if not wanted:
        return {}
    found = {package: dpkg_brought(package) for package in wanted} if has_dpkg() else rpm_brought(wanted)
    return {package: brought for package, brought in found.items() if brought.digests}


def listed_by(package: SystemPackage) -> list[str]:
    """Absolute paths of all that a package owns: directories and links, too."""
    return dpkg_listed(package) if has_dpkg() else output_of(["rpm", "-ql", f"{package.name}.{package.arch}"]).splitlines()


def has_dpkg() -> bool:
    return os.path.isdir(f"{DPKG}/info")


def dpkg_owners(paths: Iterable[str]) -> dict[str, SystemPackage]:
    aliases = {alias.encode("utf-8", "surrogateescape"): path for path in paths for alias in usrmerge_aliases(path)}
    found: dict[str, str] = {}
    for package, listed in dpkg_lists(DPKG):
        for line in aliases.keys() & set(listed.split(b"\n")):
            found.setdefault(aliases[line], package)
    status = dpkg_status({package.partition(":")[0] for package in found.values()})
    owners = {}
    for path, package in found.items():
        name, _, arch = package.partition(":")
        entries = status.get(name, [])
        version, of = next((entry for entry in entries if arch in ("", entry[1])), ("", arch))
        owners[path] = SystemPackage("dpkg", name, version, of)
    return owners


@lru_cache(maxsize=1)
def dpkg_lists(root: str) -> Sequence[tuple[str, bytes]]:
    """The packages ("zlib1g:amd64"), sorted, each with the lines of what it owns. Read once, however often owners are asked for."""
    lists: list[tuple[str, bytes]] = []
    for name in sorted(os.listdir(f"{root}/info")):
        if name.endswith(".list"):
            with open(f"{root}/info/{name}", "rb") as file:
                lists.append((name[: -len(".list")], file.read()))
    return lists


def usrmerge_aliases(path: str) -> tuple[str, str]:
    """A merged /usr has files at /usr/lib that packages list as /lib, and the other way round."""
    return (path, path[len("/usr") :] if path.startswith("/usr/") else "/usr" + path)


def dpkg_status(names: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Package -> (version, architecture) for each installed architecture."""
    found: dict[str, list[tuple[str, str]]] = {}
    for paragraph in system_text(f"{DPKG}/status").split("\n\n") if names else ():
        name = paragraph[len("Package: ") : paragraph.find("\n")] if paragraph.startswith("Package: ") else ""
        if name in names:
            fields = Headers(paragraph)
            found.setdefault(name, []).append((fields.one("version"), fields.one("architecture")))
    return found


def dpkg_brought(package: SystemPackage) -> Brought:
    """As its md5sums say; packages may lack them."""
    names = (f"{package.name}:{package.arch}", package.name)
    text = next(filter(None, (system_text(f"{DPKG}/info/{name}.md5sums") for name in names)), "")
    lines = filter(None, map(MD5SUM.fullmatch, text.split("\n")))
    return Brought("md5", {"/" + line[2]: line[1] for line in lines})


def dpkg_listed(package: SystemPackage) -> list[str]:
    names = (package.name, f"{package.name}:{package.arch}")
    lists = (listed for name, listed in dpkg_lists(DPKG) if name in names)
    return [line for listed in lists for line in listed.decode("utf-8", "surrogateescape").split("\n") if line]


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


def rpm_brought(packages: Sequence[SystemPackage]) -> dict[SystemPackage, Brought]:
    """As rpm's database says, asked once for all of them."""
    known = {(package.name, package.arch): package for package in packages}
    form = "[%{=NAME}\\t%{=ARCH}\\t%{=FILEDIGESTALGO}\\t%{FILEDIGESTS}\\t%{FILENAMES}\\n]"
    algorithms: dict[SystemPackage, str] = {}
    digests: dict[SystemPackage, dict[str, str]] = {}
    for line in output_of(["rpm", "-q", "--qf", form, *sorted({f"{package.name}.{package.arch}" for package in packages})]).split("\n"):
        fields = line.split("\t", 4)
        package = known.get((fields[0], fields[1])) if len(fields) == 5 else None
        if package is not None and fields[3]:  # directories and links have none
            algorithms[package] = RPM_ALGORITHMS.get(fields[2], "")
            digests.setdefault(package, {})[fields[4]] = fields[3]
    return {package: Brought(algorithms[package], found) for package, found in digests.items()}
