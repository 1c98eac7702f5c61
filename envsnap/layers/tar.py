"""Headers of tar entries, by a rule of our own: ustar where it can say an entry, a pax extended header before it where it cannot.

Specification: POSIX.1-2017, pax interchange format. The same entry gives the same bytes everywhere; users and groups have no names.
"""

from __future__ import annotations

from typing import Literal

BLOCK = 512
END = bytes(2 * BLOCK)

Kind = Literal[b"0", b"1", b"2", b"5", b"x"]
FILE: Kind = b"0"
HARD_LINK: Kind = b"1"
LINK: Kind = b"2"
DIRECTORY: Kind = b"5"
_EXTENDED: Kind = b"x"

_NAME, _PREFIX = 100, 155
_SMALL, _LARGE = 8**7 - 1, 8**11 - 1
_CHECKSUM_OF_BLANKS = 8 * 0x20
_REST = bytes(12)


def header(path: str, kind: Kind, *, size: int, mode: int, mtime: int, uid: int = 0, gid: int = 0, target: str = "") -> bytes:
    """The header of an entry, with the extended one before it where that is needed.

    Args:
        path: without a leading "/"; undecodable bytes as surrogates.
        size: bytes of content that follow, padded to whole blocks.
        target: of a link.
    """
    records: dict[str, bytes] = {}
    raw = path.encode("utf-8", "surrogateescape")
    if kind == DIRECTORY:
        raw += b"/"
    prefix, name = _split(raw) or (b"", b"")
    if not name:
        records["path"] = raw.rstrip(b"/")
        name = _stand_in(raw)
    link = target.encode("utf-8", "surrogateescape")
    if len(link) > _NAME or not link.isascii():
        records["linkpath"] = link
        link = _stand_in(link)
    if size > _LARGE:
        records["size"] = b"%d" % size
    if uid > _SMALL:
        records["uid"] = b"%d" % uid
    if gid > _SMALL:
        records["gid"] = b"%d" % gid
    plain = _ustar(name, prefix, kind, 0 if "size" in records else size, mode, mtime, min(uid, _SMALL), min(gid, _SMALL), link)
    return _extended(records, mtime) + plain if records else plain


def padding(size: int) -> bytes:
    """What follows content of `size` bytes."""
    return bytes(-size % BLOCK)


def _split(raw: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name, as ustar joins them with "/"; None where it cannot say the path."""
    if not raw.isascii():
        return None
    if len(raw) <= _NAME:
        return b"", raw
    slash = raw.rfind(b"/", 0, min(_PREFIX + 1, len(raw) - 1))
    if slash <= 0 or len(raw) - slash - 1 > _NAME:
        return None
    return raw[:slash], raw[slash + 1 :]


def _stand_in(raw: bytes) -> bytes:
    """For readers that know no extended headers, which are none that matter."""
    return bytes(byte if byte < 0x80 else 0x3F for byte in raw[:_NAME])


def _ustar(name: bytes, prefix: bytes, kind: Kind, size: int, mode: int, mtime: int, uid: int, gid: int, link: bytes) -> bytes:
    before = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME, b"\0"), mode, uid, gid, size, mtime)
    after = b"%s%sustar\x0000%s0000000\x000000000\0%s%s" % (
        kind,
        link.ljust(_NAME, b"\0"),
        bytes(64),
        prefix.ljust(_PREFIX, b"\0"),
        _REST,
    )
    return b"%s%06o\0 %s" % (before, sum(before) + sum(after) + _CHECKSUM_OF_BLANKS, after)


def _extended(records: dict[str, bytes], mtime: int) -> bytes:
    body = b"".join(_record(keyword.encode(), records[keyword]) for keyword in sorted(records))
    plain = _ustar(b"././@PaxHeader", b"", _EXTENDED, len(body), 0o644, mtime, 0, 0, b"")
    return plain + body + padding(len(body))


def _record(keyword: bytes, value: bytes) -> bytes:
    """Length, keyword and value; the length counts its own digits, too."""
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)
