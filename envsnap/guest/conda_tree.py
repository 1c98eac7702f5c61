"""The files of conda's packages as a tar archive that can be unpacked at another prefix.

An environment of conda knows its prefix: packages name a placeholder for it, which installing replaces, in texts and in binaries.
Here the captured prefix is replaced in the same files by the new one. The bytes depend on those files and the new prefix alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tarfile
from typing import IO, Any

from .compile import MTIME
from .conda import CondaFile, CondaPackage, is_changed, paths_of, read_conda
from .record import Entry, canonical_digest
from .text import Problems, sha256_of

# They name places of the captured host, and sometimes its user.
PRIVATE_KEYS = ("extracted_package_dir", "package_tarball_full_path", "link", "url", "channel")


def pack_conda_tree(out: IO[bytes], new_prefix: str, prefix: str = sys.prefix) -> dict[str, str]:
    """Write the archive; returns, by package, the digest of its files as they are: `read_conda` finds it in the new prefix.

    Raises:
        OSError: a file cannot be read. ValueError: one cannot be made to name the new prefix.
    """
    packages = read_conda(Problems(), prefix)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path, file in sorted({file.path: file for package in packages for file in package.files}.items()):
            add(archive, os.path.join(prefix, path), file, prefix, new_prefix)
        digests = {}
        for package in packages:
            name = "{name}-{version}-{build}".format(**package.facts)
            record, digests[package.name] = record_for(package, prefix, new_prefix)
            add_bytes(archive, f"conda-meta/{name}.json", record, 0o644)
        add_bytes(archive, "conda-meta/history", b"", 0o644)  # without it, nobody takes this for an environment
    return digests


def add(archive: tarfile.TarFile, place: str, file: CondaFile, prefix: str, new_prefix: str) -> None:
    """One file, link or directory as it is now; what is gone stays gone."""
    if not is_there(file, place):
        return
    status = os.stat(place) if file.has_content else os.lstat(place)
    member = header(file.path, status.st_mode)
    if os.path.islink(place) and not file.has_content:
        member.type, member.linkname = tarfile.SYMTYPE, relocated_link(os.readlink(place), prefix, new_prefix)
        archive.addfile(member)
    elif os.path.isdir(place):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif file.placeholder:
        add_bytes(archive, file.path, relocated(read(place), file, prefix, new_prefix), status.st_mode)
    else:
        member.size = status.st_size
        with open(place, "rb") as content:
            archive.addfile(member, content)


def is_there(file: CondaFile, place: str) -> bool:
    return os.path.exists(place) if file.has_content else os.path.lexists(place)


def header(path: str, mode: int) -> tarfile.TarInfo:
    """Whoever uses the image can read it, and nothing else of a mode is the package's: it came of the captured host's umask."""
    member = tarfile.TarInfo(path)
    member.mode, member.mtime = 0o755 if mode & 0o100 else 0o644, MTIME
    return member


def add_bytes(archive: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    member = header(path, mode)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def relocated_link(target: str, prefix: str, new_prefix: str) -> str:
    return new_prefix + target[len(prefix) :] if target == prefix or target.startswith(prefix + "/") else target


def relocated(data: bytes, file: CondaFile, prefix: str, new_prefix: str) -> bytes:
    """With the new prefix in the place of the old; a binary keeps its length, its strings the NULs that end them."""
    old, new = os.fsencode(prefix), os.fsencode(new_prefix)
    if file.mode != "binary":
        return data.replace(old, new)

    def replace(match: Any) -> bytes:
        text: bytes = match.group(0)
        string = text.rstrip(b"\0").replace(old, new)
        if len(string) >= len(text):
            raise ValueError(f"{file.path} has no room for the prefix {new_prefix}")
        return string + b"\0" * (len(text) - len(string))

    return re.sub(re.escape(old) + rb"[^\0]*\0+", replace, data)


def record_for(package: CondaPackage, prefix: str, new_prefix: str) -> tuple[bytes, str]:
    """The record of the package in the new prefix, with hashes of what is there and no word of the captured host, and the digest of
    its files. An edited file is from now on what the package has.
    """
    record = {key: value for key, value in package.record.items() if key not in PRIVATE_KEYS}
    if package.facts["url"]:
        record["url"] = package.facts["url"]
    now = {file.path: in_new_prefix(file, prefix, new_prefix) for file in package.files if is_there(file, os.path.join(prefix, file.path))}
    files = [file for file in package.files if file.path in now]
    edited = {file.path for file in files if is_changed(file, prefix)}
    lines = []
    for line in paths_of(package.record):
        if line["_path"] in now:
            sha256 = now[line["_path"]]
            hashes = {"sha256_in_prefix": sha256} if sha256 else {}
            lines.append({**line, **hashes, **({"sha256": sha256} if sha256 and line["_path"] in edited else {})})
    record["paths_data"] = {"paths": lines, "paths_version": 1}
    record["files"] = sorted(now)
    digest = canonical_digest(Entry(file.path, now[file.path] if file.path in edited else file.sha256, -1) for file in files)
    return json.dumps(record, indent=1, sort_keys=True).encode("ascii") + b"\n", digest


def in_new_prefix(file: CondaFile, prefix: str, new_prefix: str) -> str:
    """SHA-256 of a file as it will be; "" for links and directories."""
    place = os.path.join(prefix, file.path)
    if file.kind != "hardlink" or not os.path.isfile(place) or (os.path.islink(place) and not file.has_content):
        return ""
    if file.placeholder:
        return hashlib.sha256(relocated(read(place), file, prefix, new_prefix)).hexdigest()
    return sha256_of(place)
