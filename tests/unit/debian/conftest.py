"""Packages and a signed archive made by hand: what a distribution would publish, and what none would."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, sign

from envsnap.model.debian import DebFile


def entry(
    path: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.linkname = kind, mode, target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def folder(path: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, kind=tarfile.DIRTYPE, mode=mode)


def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(path, kind=tarfile.SYMTYPE, target=target)


def tarred(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def ar(parts: Sequence[tuple[str, bytes]]) -> bytes:
    out = b"!<arch>\n"
    for name, data in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def tree(files: Mapping[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Files with all their directories, as dpkg-deb packs them."""
    entries = [folder("./")]
    known = {""}
    for path, data in files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in known:
                known.add(parent)
                entries.append(folder(f"./{parent}/"))
        entries.append(entry(f"./{path}", data))
    return entries


def control(name: str, version: str, arch: str, fields: Mapping[str, str]) -> str:
    lines = {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": "Nobody <nobody@example.com>",
        **fields,
        "Description": name,
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


@dataclass
class Made:
    """A .deb. Attributes: data: its bytes; file: as an index names it."""

    data: bytes
    file: DebFile
    control: str


def make(
    name: str,
    files: Mapping[str, bytes] | Sequence[tuple[tarfile.TarInfo, bytes]] = {},
    *,
    version: str = "1.0-1",
    arch: str = "amd64",
    fields: Mapping[str, str] = {},
    scripts: Mapping[str, str] = {},
    compress: str = ".xz",
    md5sums: bool = True,
) -> Made:
    said = control(name, version, arch, fields)
    members = tree(files) if isinstance(files, Mapping) else list(files)
    parts = {"control": said, **scripts}
    if md5sums and isinstance(files, Mapping) and files:
        conffiles = scripts.get("conffiles", "").split()
        parts["md5sums"] = "".join(
            f"{hashlib.md5(data).hexdigest()}  {path}\n" for path, data in files.items() if f"/{path}" not in conffiles
        )
    data = ar(
        [
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", gzip.compress(tarred([folder("./"), *(entry(f"./{key}", text.encode()) for key, text in parts.items())]))),
            (f"data.tar{compress}", compressed(tarred(members), compress)),
        ]
    )
    return Made(data=data, file=as_file(name, version, arch, data), control=said)


def as_file(name: str, version: str, arch: str, data: bytes) -> DebFile:
    path = f"pool/main/{name[0]}/{name}/{name}_{version.partition(':')[2] or version}_{arch}.deb"
    return DebFile(name=name, version=version, arch=arch, path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def compressed(data: bytes, ending: str) -> bytes:
    match ending:
        case ".zst":
            from backports import zstd

            return bytes(zstd.compress(data))
        case ".xz":
            return lzma.compress(data)
        case ".gz":
            return gzip.compress(data)
        case _:
            return data


KEY = Tsk.generate("Archive <archive@example.com>")
OTHER_KEY = Tsk.generate("Somebody <somebody@example.com>")


@dataclass
class Mirror:
    """A distribution's archive in a directory, as a server would show it."""

    root: Path
    debs: list[Made] = field(default_factory=list)
    key: Tsk = KEY
    release: dict[str, str] = field(default_factory=dict)

    @property
    def keyring(self) -> Path:
        path = self.root / "keyring.pgp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(self.key.extract_certificate()))
        return path

    def publish(self, *debs: Made, suite: str = "bookworm") -> None:
        """Write .debs, an index of them, and a signature; the other suites have nothing."""
        self.debs += debs
        for made in debs:
            place = self.root / made.file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(made.data)
        self.index(suite, self.packages(self.debs))
        for other in ("bookworm-updates", "bookworm-security"):
            place = self.root if other.endswith("updates") else self.root.with_name(self.root.name + "-security")
            self.index(other, b"", place)

    def packages(self, debs: Sequence[Made]) -> bytes:
        return "\n".join(
            f"{made.control}Filename: {made.file.path}\nSize: {made.file.size_bytes}\nSHA256: {made.file.sha256}\n" for made in debs
        ).encode()

    def index(self, suite: str, packages: bytes, root: Path | None = None) -> None:
        raw = lzma.compress(packages)
        dists = (root or self.root) / "dists" / suite
        place = dists / "main/binary-amd64/Packages.xz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)
        fields = {"Origin": "Debian", "Codename": suite, "Date": "Sat, 11 Jul 2026 10:16:37 UTC", "Architectures": "amd64", **self.release}
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        text += f"SHA256:\n {hashlib.sha256(raw).hexdigest()} {len(raw)} main/binary-amd64/Packages.xz\n"
        (dists / "InRelease").write_bytes(sign(self.key.signer(), text.encode(), mode=SignatureMode.CLEAR))


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")
