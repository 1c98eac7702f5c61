"""The project's files as a layer: anybody may read and write them, whoever the container runs as."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from envsnap.errors import InputError
from envsnap.layers.writer import SMALL_BYTES, LayerWriter
from envsnap.model.base import Directory
from envsnap.oci.paths import parents

_LINK, _EXECUTABLE = "120000", "100755"
_MODES = {"100644": 0o666, _EXECUTABLE: 0o777}
_FOLDER = 0o777
_TARGET_BYTES = 4096


class Content(NamedTuple):
    """What a file holds, a link its target. Attributes: size: bytes. pieces: read once."""

    size: int
    pieces: Iterable[bytes]


def write_tree(
    manifest: Iterable[tuple[str, str, str]],
    content: Callable[[str], Content],
    writer: LayerWriter,
    *,
    top: str,
    above: Mapping[str, Directory] = {},
) -> None:
    """Write all files and links of a manifest below a directory, in its order.

    Args:
        manifest: (path, git's mode, SHA-256 of content or target, hex), as docs/lockfile-format.md has it of the source.
        content: of the file at a path of the manifest.
        top: the directory, without a leading "/".
        above: how the directories above it are kept, where that is not 0755 of root.

    Raises:
        InputError: a file is not what the manifest says, or a path is refused.
    """
    for path in reversed([*parents(top)]):
        how = above.get(path, Directory())
        writer.directory(path, how.mode, how.uid, how.gid)
    writer.directory(top, _FOLDER)
    for path, mode, sha256 in manifest:
        for folder in reversed([*parents(path)]):
            writer.directory(f"{top}/{folder}", _FOLDER)
        if _write(f"{top}/{path}", mode, content(path), writer) != sha256:
            raise InputError(f"{path} is not what it was", why="its SHA-256 is another than that in the list of the project's files")


def _write(path: str, mode: str, content: Content, writer: LayerWriter) -> str:
    if mode == _LINK and content.size <= _TARGET_BYTES:
        target = b"".join(content.pieces)
        writer.symlink(path, target.decode("utf-8", "surrogateescape"))
        return hashlib.sha256(target).hexdigest()
    if mode not in _MODES:
        raise InputError(f"refused {path}", why=f"mode {mode} is that of no file")
    if content.size > SMALL_BYTES:
        return writer.stream(path, content.pieces, size=content.size, mode=_MODES[mode])
    writer.file(path, data := b"".join(content.pieces), _MODES[mode])
    return hashlib.sha256(data).hexdigest()
