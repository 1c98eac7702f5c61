"""What is in files and images, compressed or not: for tests that look for what must not be there, without any code of envsnap's."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import subprocess
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def opened(data: bytes) -> Iterator[bytes]:
    """The bytes themselves; and what is in them, where they are gzip, a tar or a zip archive, however deep."""
    yield data
    if data.startswith(b"\x1f\x8b"):
        try:
            yield from opened(gzip.decompress(data))
        except (OSError, EOFError, zlib.error):
            return
    elif data.startswith(b"\xfd7zXZ"):
        yield from opened(lzma.decompress(data))
    elif data.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from opened(archive.read(name))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                yield f"{member.name} {member.linkname} {member.pax_headers}".encode("utf-8", "surrogateescape")
                if member.isreg() and (file := tar.extractfile(member)) is not None:
                    inner = file.read()
                    if inner.startswith((b"\x1f\x8b", b"PK\3\4")):
                        yield from opened(inner)


def below(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content, opened, of every file."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            for data in opened(path.read_bytes()):
                yield str(path), data


def in_engine(image: str) -> Iterator[tuple[str, bytes]]:
    """What an engine says of an image, and all that it saves of it."""
    for command in (["history", "--no-trunc", image], ["inspect", image]):
        yield f"docker {command[0]}", subprocess.run(["docker", *command], capture_output=True, check=True).stdout
    saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    assert saved.stdout is not None
    with saved.stdout, tarfile.open(fileobj=saved.stdout, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            for data in opened(content.read()) if content is not None else ():
                yield member.name, data
    assert saved.wait() == 0


def in_registry(reference: str) -> Iterator[tuple[str, bytes]]:
    """An image's manifest, config and layers, from a registry on loopback."""
    address, _, path = reference.partition("/")
    repository, _, tag = path.rpartition(":")

    def get(what: str) -> bytes:
        request = urllib.request.Request(f"http://{address}/v2/{repository}/{what}", headers={"Accept": MANIFESTS})
        with urllib.request.urlopen(request) as answer:
            body: bytes = answer.read()
        return body

    manifest = get(f"manifests/{tag}")
    yield "manifest", manifest
    read = json.loads(manifest)
    for blob in (read["config"], *read["layers"]):
        for data in opened(get(f"blobs/{blob['digest']}")):
            yield blob["digest"], data
