"""Wheels made of what is installed, by the guest script `pack` in the target itself."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from packaging.tags import parse_tag

from envsnap import redaction
from envsnap.blobs import BlobStore
from envsnap.errors import TargetError
from envsnap.model.facts import CondaPackage, Distribution
from envsnap.probes.interpreter import forward
from envsnap.progress import Progress
from envsnap.target import Target

Kind = Literal["installed", "editable", "working_tree", "system"]
_SEARCHED_BYTES = 16 << 20  # at once
_LONGEST_BYTES = 1 << 12  # of a secret that lies across two pieces
_FIELDS = ("name", "version", "location", "metadata_dir", "modified", "actual_files", "editable_paths", "modules", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWheel:
    """A wheel in the blob store.

    Attributes:
        file: wheel file name.
        blob: its digest.
        files: as in `LockedPackage.files`; None for an editable's metadata alone.
    """

    file: str
    blob: str
    files: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedConda:
    """An archive in the blob store. Attributes: blob: its digest; files: of each package, as in `LockedCondaPackage.files`."""

    blob: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPython:
    """An archive in the blob store. Attributes: as of `LockedTree`."""

    blob: str
    libc: str
    sonames: tuple[str, ...]


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of packed.json."""

    sha256: str = ""
    files: str | None = None
    tags: tuple[str, ...] = ()
    conda: dict[str, str] = {}
    libc: str = ""
    sonames: tuple[str, ...] = ()
    refused: str = ""


def pack(target: Target, wanted: Sequence[tuple[Distribution, Kind]], blobs: BlobStore, progress: Progress) -> dict[str, PackedWheel | str]:
    """Make the wheels of some distributions.

    Args:
        wanted: each with what goes into its wheel: the installed files, by RECORD or by the operating system's package manager, an
            editable's metadata alone, or that and the modules that it puts on the path.

    Returns:
        By name, the wheel, or one sentence why there is none.

    Raises:
        TargetError: the script could not run, or the disk is full.
    """
    if not wanted:
        return {}
    with _run(target, [_asked(distribution, kind) for distribution, kind in wanted], progress) as results:
        return {
            distribution.name: _kept(distribution, kind, result, file, blobs)
            for (distribution, kind), (result, file) in zip(wanted, results, strict=True)
        }


def pack_conda(target: Target, packages: Sequence[CondaPackage], prefix: str, blobs: BlobStore, progress: Progress) -> PackedConda | str:
    """Put everything that conda installed into an archive for another prefix; or one sentence why there is none. Raises as `pack`."""
    written = {path for package in packages for path in package.modified or () if not path.startswith("missing: ")}
    conda = {"kind": "conda", "name": "what conda installed", "version": "", "location": prefix, "metadata_dir": ""}
    with _run(target, [conda], progress) as [(result, file)]:
        if result.refused:
            return result.refused
        if found := _secret_in_tree(file, written):
            return f"it holds what looks like a secret ({found}). If it is none, say so on that line: pragma: allowlist secret"
        return PackedConda(blob=blobs.take(file), files=result.conda)


def pack_python(target: Target, prefix: str, blobs: BlobStore, progress: Progress) -> PackedPython | str:
    """Put the interpreter into an archive for another prefix; or one sentence why there is none. Raises as `pack`."""
    python = {"kind": "python", "name": "the interpreter", "version": "", "location": prefix, "metadata_dir": ""}
    with _run(target, [python], progress) as [(result, file)]:
        if result.refused:
            return result.refused
        return PackedPython(blob=blobs.take(file), libc=result.libc, sonames=result.sonames)


@contextmanager
def _run(target: Target, wanted: Sequence[Mapping[str, object]], progress: Progress) -> Iterator[list[tuple[_Result, Path]]]:
    """The script's results, each with its file, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="envsnap-pack-") as scratch, ExitStack() as stack:
        document, outputs = Path(scratch, "wanted.json"), Path(scratch, "out")
        outputs.mkdir()
        document.write_text(json.dumps(wanted), encoding="ascii")
        arguments = ["--wanted", "{wanted}", "--out", "{out}"]
        result = target.run_guest("pack", arguments, outputs=outputs, inputs={"wanted": document}, on_line=forward(progress, stack))
        try:
            results = msgspec.json.decode((outputs / "packed.json").read_bytes(), type=list[_Result])
            if len(results) != len(wanted):
                raise OSError(f"{len(results)} results for {len(wanted)} packages")
        except (OSError, ValueError) as error:
            log = redaction.text(result.log)
            raise TargetError(f"cannot pack what is installed in {target.description}", why=str(error), log=log) from error
        yield [(one, outputs / f"{number}.whl") for number, one in enumerate(results)]


def _asked(distribution: Distribution, kind: Kind) -> dict[str, object]:
    fields = {name: getattr(distribution, name) for name in _FIELDS}
    if kind == "system":
        return {"kind": kind, **fields, "modified": distribution.edited, "system": msgspec.to_builtins(distribution.system)}
    return {"kind": kind, **fields, "modified": distribution.modified or ()}


def _kept(distribution: Distribution, kind: Kind, result: _Result, wheel: Path, blobs: BlobStore) -> PackedWheel | str:
    if result.refused:
        return result.refused
    if found := _secret_in(wheel, distribution, kind):
        return f"it holds what looks like a secret ({found}). If it is none, say so on that line: pragma: allowlist secret"
    blob = blobs.take(wheel)
    if blob != f"sha256:{result.sha256}":
        return "its wheel changed on its way from the target"
    return PackedWheel(file=wheel_file_name(distribution.name, distribution.version, result.tags), blob=blob, files=result.files)


def _secret_in(wheel: Path, distribution: Distribution, kind: Kind) -> str:
    """The first in what was written here: anywhere in a working tree and in what no index gave, else in edited and added files; ""
    for none.
    """
    by_hand = kind not in ("installed", "system") or distribution.direct_url is not None
    written = {word.removeprefix("added: ").removeprefix("prefix:") for word in distribution.edited}
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = re.sub(r"\A[^/]+\.data/(data|scripts)/", lambda match: "" if match[1] == "data" else "bin/", info.filename)
            if (by_hand or path in written) and (found := _secret_of(archive, info)):
                return f"{path}, {found}"
    return ""


def _secret_in_tree(tree: Path, written: AbstractSet[str]) -> str:
    """The first in a file of conda's that was edited; "" for none."""
    if written:
        with tarfile.open(tree) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name in written and member.size <= _SEARCHED_BYTES else None
                if file is not None and (found := redaction.find_secrets_in(file.read())):
                    return f"{member.name}, {found[0]}"
    return ""


def _secret_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    if info.file_size <= _SEARCHED_BYTES:
        return next(map(str, redaction.find_secrets_in(archive.read(info))), "")
    before = b""
    with archive.open(info) as file:
        while piece := file.read(_SEARCHED_BYTES):  # of which the lines are not counted
            if found := redaction.find_secrets_in(before + piece):
                return found[0].kind
            before = piece[-_LONGEST_BYTES:]
    return ""


def wheel_file_name(name: str, version: str, tags: Sequence[str]) -> str:
    """Name for a packed wheel: with its tags, so that only interpreters that it fits accept it."""
    parsed = [tag for line in tags for tag in sorted(parse_tag(line), key=str)]
    columns = (
        ".".join(dict.fromkeys(tag.interpreter for tag in parsed)),
        ".".join(dict.fromkeys(tag.abi for tag in parsed)),
        ".".join(dict.fromkeys(tag.platform for tag in parsed)),
    )
    return f"{re.sub(r'[-_.]+', '_', name)}-{version.replace('-', '_')}-{'-'.join(columns)}.whl"
