"""Writing wheels: fixed dates, fixed order, no compressor, and a RECORD of what is in them."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
import zipfile
from pathlib import Path
from typing import IO, Iterable, Mapping, NamedTuple, Optional, Sequence, Union

from .interpreter import interpreter_facts
from .record import Entry, canonical_digest, sha256_hex

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest that zip can say
PIECE_BYTES = 1 << 20
ANY = "py3-none-any"


class Refused(Exception):
    """A package cannot be packed; its text is one sentence."""


class Member(NamedTuple):
    """A file of the wheel.

    Attributes:
        content: its bytes, or the file that has them.
        record_hash: for its RECORD line, "" where the installed RECORD has none either; None to compute it.
    """

    path: str
    content: Union[bytes, Path]
    executable: bool = False
    record_hash: Optional[str] = None


def write_wheel(members: Iterable[Member], metadata_name: str, wheel: IO[bytes]) -> str:
    by_path = {member.path: member for member in members}
    hashes: dict[str, str] = {}
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(by_path):
            member = by_path[path]
            try:
                actual, size = add_member(archive, member)
            except OSError as error:
                raise unreadable(path, error) from error
            if member.record_hash is not None and member.record_hash.startswith("sha256=") and member.record_hash.rstrip("=") != actual:
                raise Refused(f"{path} is not what its RECORD says")
            hashes[path] = actual if member.record_hash is None else member.record_hash
            writer.writerow((path, hashes[path], str(size)))
        writer.writerow((f"{metadata_name}/RECORD", "", ""))
        data = record.getvalue().encode("utf-8", "surrogateescape")
        add_member(archive, Member(path=f"{metadata_name}/RECORD", content=data))
    return digest_as_installed(hashes, metadata_name)


def add_member(archive: zipfile.ZipFile, member: Member) -> tuple[str, int]:
    """Put a file into the wheel; returns its hash as RECORD writes it, and its size."""
    info = zipfile.ZipInfo(member.path, EPOCH)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | (0o755 if member.executable else 0o644)) << 16
    digest, size = hashlib.sha256(), 0
    source = io.BytesIO(member.content) if isinstance(member.content, bytes) else member.content.open("rb")
    with source, archive.open(info, "w", force_zip64=True) as target:  # always, so that the bytes do not hang on a guess of the size
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            target.write(piece)
    return encoded(digest.digest()), size


def digest_as_installed(hashes: Mapping[str, str], metadata_name: str) -> str:
    """`record.canonical_digest` of the wheel as it will be installed. Attributes: hashes: as RECORD writes them, by path in the wheel."""
    data = data_folder(metadata_name)
    entries = []
    for path, hash_ in hashes.items():
        if path.startswith(f"{data}/scripts/"):
            continue
        installed = "prefix:" + path[len(f"{data}/data/") :] if path.startswith(f"{data}/data/") else path
        entries.append(Entry(installed, sha256_hex(hash_), -1))
    return canonical_digest(entries)


def data_folder(metadata_name: str) -> str:
    """Folder of a wheel for what goes elsewhere than the site directory: "x-1.data" for "x-1.dist-info"."""
    return re.sub(r"\.dist-info\Z", "", metadata_name) + ".data"


def encoded(digest: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def unreadable(path: str, error: OSError) -> Refused:
    return Refused(f"{path} of its RECORD cannot be read: {error.strerror}")


def wheel_headers(tags: Sequence[str]) -> bytes:
    pure = "true" if list(tags) == [ANY] else "false"
    lines = ["Wheel-Version: 1.0", "Generator: envsnap", f"Root-Is-Purelib: {pure}", *(f"Tag: {tag}" for tag in tags)]
    return ("\n".join(lines) + "\n").encode("ascii")


def own_tag() -> str:
    """The tag of what was built in place by this interpreter."""
    facts = interpreter_facts()
    return "{0}-{0}-linux_{1}".format(facts["abi"], facts["machine"])


def is_native(names: Iterable[str]) -> bool:
    return any(name.endswith(".so") for name in names)


def escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name)


def escaped_version(version: str) -> str:
    return version.replace("-", "_")
