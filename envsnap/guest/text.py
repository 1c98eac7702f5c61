"""Problems that are met and survived, text of unknown encoding, files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import sys
from typing import Any, Callable, Mapping


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


def open_regular(path: str) -> int:
    """A descriptor to read a file by. Raises OSError: also for what has no end or waits for somebody, as a device or a pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "no regular file", path)
    return handle


def sha256_of(path: str, advance: Callable[[int], None] | None = None, algorithm: str = "sha256") -> str:
    digest = hashlib.new(algorithm)
    buffer = memoryview(bytearray(1 << 20))
    with open(open_regular(path), "rb", buffering=0) as file:
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


def hash_or_none(path: str) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def write_document(path: str, document: Mapping[str, Any]) -> None:
    text = json.dumps(clean(document), ensure_ascii=True, separators=(",", ":")) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    # Index URLs in it may hold credentials.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def answer(question: Callable[[], Any]) -> Any:
    """What foreign code answers; None where it raises, as builds without CUDA do, each with an exception of its own."""
    try:
        return question()
    except Exception:
        return None


def flag_value(module: Any, name: str) -> Any:
    """What a dotted name of a module stands for; a function is called."""
    value = module
    for part in name.split("."):
        value = getattr(value, part)
    return value() if callable(value) else value
