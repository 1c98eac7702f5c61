"""What a Weights & Biases run wrote down of its environment: the files of its folder, and the records of an offline run.

`*.wandb` is a log of LevelDB's form (blocks of 32 KiB; each piece with CRC-32 of its type and data, length and type) behind a header
of seven bytes, of protobuf messages `Record`; of these the few fields that describe the environment are read, by number. Everything
here is untrusted, and a log may end in the middle: the run may have, too.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envsnap import redaction
from envsnap.errors import InputError
from envsnap.model.facts import Problem

FILE_LIMIT_BYTES = 64 << 20
LOG_LIMIT_BYTES = 8 << 30
RECORD_LIMIT_BYTES = 16 << 20
_METADATA = "wandb-metadata.json"
_HEADER = struct.Struct("<4sHB")
_PIECE = struct.Struct("<IHB")
_BLOCK = 32 << 10
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MOST_GPUS = 64
_UPSTREAM = re.compile(r"diff_([0-9a-f]{40}|[0-9a-f]{64})\.patch\Z")
_ENTRY = re.compile(r"\s*-\s+([^#]*)")

# wandb/proto/wandb_internal.proto: numbers of the fields that are read.
_RUN, _ENVIRONMENT, _RUN_GIT = 17, 26, 21
_OS, _PYTHON, _ARGS, _GIT, _GPU_TYPE, _GPU_COUNT, _CPU, _NVIDIA, _CUDA = 1, 2, 5, 9, 18, 19, 22, 24, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Attributes: memory_bytes: 0 where it is not said."""

    name: str
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WandbRun:
    """Attributes:
    os: `platform.platform()`, "Linux-6.1.0-x86_64-with-glibc2.36".
    python: "3.11.7"; implementation: "cpython".
    remote, commit: of the project's git repository; remote without credentials.
    arguments_hold_secrets: some argument of the command line looked like one; none of them is kept.
    requirements: the lines of requirements.txt, with their numbers from 1.
    patch: of the uncommitted work; kept only where the run saved its code (`save_code`).
    upstream: the newest commit that the tracked branch had, and the patch from there to the working tree; kept where commits
        were not pushed.
    cuda: the newest that the driver supports, as NVML says; not what was loaded.
    conda: what conda-environment.yaml lists, but for pip's part.
    """

    os: str = ""
    python: str = ""
    implementation: str = "cpython"
    cpu: str = ""
    gpus: tuple[Gpu, ...] = ()
    cuda: str = ""
    remote: str | None = None
    commit: str | None = None
    arguments_hold_secrets: bool = False
    requirements: tuple[tuple[int, str], ...] = ()
    patch: bytes | None = None
    upstream: tuple[str, bytes] | None = None
    conda: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read(directory: Path) -> WandbRun:
    """Read a run's folder, or its `files` folder.

    Raises:
        InputError: it is none: neither requirements.txt nor metadata nor records are there.
    """
    files = directory / "files" if (directory / "files").is_dir() else directory
    problems: list[Problem] = []
    run = WandbRun()
    logs = sorted(path for path in directory.glob("*.wandb") if path.is_file())
    for log in logs:
        run = _from_log(run, log, problems)
    metadata = _read(files / _METADATA, problems)
    if metadata is not None:
        run = _from_metadata(run, metadata, problems)
    requirements = _read(files / "requirements.txt", problems)
    if requirements is None and metadata is None and not logs:
        raise InputError(
            f"no run of W&B: {directory}",
            why="neither requirements.txt nor wandb-metadata.json nor a .wandb file is there",
            hint="name the folder of one run, wandb/run-… or wandb/offline-run-…",
        )
    if requirements is None:
        problems.append(Problem(where="requirements.txt", what="is not there: no package of the run is known"))
    lines = (requirements or b"").decode("utf-8-sig", "replace").splitlines()
    conda = _read(files / "conda-environment.yaml", problems) or b""
    return replace(
        run,
        requirements=tuple((number, line.strip()) for number, line in enumerate(lines, 1)),
        patch=_read(files / "diff.patch", problems),
        upstream=_upstream(files, problems),
        conda=_entries(conda.decode("utf-8-sig", "replace")),
        problems=tuple(problems),
    )


def says_where(file: str) -> bool:
    """Whether a run's file of that name says what it ran on."""
    return file == _METADATA or file.endswith(".wandb")


def _upstream(files: Path, problems: list[Problem]) -> tuple[str, bytes] | None:
    for path in sorted(files.glob("diff_*.patch")):
        if (match := _UPSTREAM.match(path.name)) and (patch := _read(path, problems)) is not None:
            return match[1], patch
    return None


def _entries(text: str) -> tuple[str, ...]:
    """What an environment file of conda lists under `dependencies`, up to pip's own list: "numpy=2.2.6=py311_0"."""
    _, _, dependencies = text.partition("dependencies:")
    ours = (match[1].strip() for line in dependencies.partition("- pip:")[0].splitlines() if (match := _ENTRY.match(line)))
    return tuple(_text(entry) for entry in ours if entry)


def _read(path: Path, problems: list[Problem]) -> bytes | None:
    """A file's bytes; None without it. A link would bring in what is not of the run: none is followed."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                problems.append(Problem(where=path.name, what="is left out: it is no file"))
                return None
            data = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(Problem(where=path.name, what=f"cannot be read: {error.strerror}"))
        return None
    if len(data) > FILE_LIMIT_BYTES:
        problems.append(Problem(where=path.name, what=f"is left out: more than {FILE_LIMIT_BYTES >> 20} MiB"))
        return None
    return data


def _from_metadata(run: WandbRun, data: bytes, problems: list[Problem]) -> WandbRun:
    """wandb-metadata.json of an online run; names have changed over the years."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        problems.append(Problem(where=_METADATA, what=f"cannot be read: {error}"))
        return run
    if not isinstance(document, dict):
        problems.append(Problem(where=_METADATA, what="is no object"))
        return run
    git = document.get("git") if isinstance(document.get("git"), dict) else {}
    listed = document.get("gpu_nvidia") or document.get("gpuNvidia") or document.get("gpu_devices")
    gpus = [
        Gpu(name=_text(item.get("name")), memory_bytes=_number(item.get("memoryTotal") or item.get("memory_total")))
        for item in _list(listed)[:_MOST_GPUS]
        if isinstance(item, dict)
    ]
    if not gpus and document.get("gpu"):
        gpus = [Gpu(name=_text(document["gpu"]))] * max(1, min(_number(document.get("gpu_count")), _MOST_GPUS))
    cpu = document.get("cpu") if isinstance(document.get("cpu"), dict) else {}
    return _with(
        run,
        os=_text(document.get("os")),
        python=_text(document.get("python")),
        cpu=_text((cpu or {}).get("model")),
        gpus=tuple(gpus),
        cuda=_text(document.get("cudaVersion") or document.get("cuda")),
        remote=_text((git or {}).get("remote") or (git or {}).get("remoteUrl")),
        commit=_text((git or {}).get("commit")),
        arguments=[_text(argument) for argument in _list(document.get("args"))],
    )


def _with(
    run: WandbRun, *, os: str, python: str, cpu: str, gpus: tuple[Gpu, ...], cuda: str, remote: str, commit: str, arguments: Sequence[str]
) -> WandbRun:
    """What is said now in the place of what was not said before."""
    implementation, _, version = python.rpartition(" ")  # "CPython 3.11.7", before 0.19 "3.11.7"
    return replace(
        run,
        os=os or run.os,
        python=version or run.python,
        implementation=implementation.lower() or run.implementation,
        cpu=cpu or run.cpu,
        gpus=gpus or run.gpus,
        cuda=cuda or run.cuda,
        remote=redaction.text(redaction.url(remote)) if remote else run.remote,
        commit=commit or run.commit,
        arguments_hold_secrets=run.arguments_hold_secrets or any(map(_is_secret, arguments, [*arguments[1:], ""])),
    )


def _is_secret(argument: str, following: str) -> bool:
    """Whether `--token=VALUE` or `--token VALUE` gives one, or the argument is one by its look."""
    name, equals, _ = argument.lstrip("-").partition("=")
    is_given = equals or (argument.startswith("-") and following and not following.startswith("-"))
    return redaction.is_secret_value(argument) or bool(is_given and redaction.is_secret_name(name.replace("-", "_")))


def _text(value: Any) -> str:
    """One line of text that any file can hold: JSON can spell half of a surrogate pair."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", value).strip()[:500] if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else 0


# The log of an offline run


def _from_log(run: WandbRun, path: Path, problems: list[Problem]) -> WandbRun:
    try:
        if path.stat().st_size > LOG_LIMIT_BYTES:
            raise Damaged(f"more than {LOG_LIMIT_BYTES >> 30} GiB")
        for record in records(path):
            run = _from_record(run, record)
    except CutOff as error:
        problems.append(Problem(where=path.name, what=f"{error}: the run was ended, or is still going"))
    except Damaged as error:
        problems.append(Problem(where=path.name, what=f"is read up to where it is damaged: {error}"))
    except OSError as error:
        problems.append(Problem(where=path.name, what=f"cannot be read: {error.strerror}"))
    return run


class Damaged(Exception):
    """A log or message that is not what it should be; its text is a clause."""


class CutOff(Exception):
    """A log that ends in the middle; its text is a clause."""


def records(path: Path) -> Iterator[bytes]:
    """The messages of a log, in order; one that was being written when the run ended is left out.

    Raises:
        Damaged: a checksum is wrong, or it is no such log. CutOff: after the last whole message. OSError.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or _HEADER.unpack(header)[0] != b":W&B":
            raise Damaged("it does not begin like one of W&B")
        place, parts, started = _HEADER.size, bytearray(), False
        while True:
            left = _BLOCK - place % _BLOCK
            if left < _PIECE.size:
                file.seek(left, 1)
                place += left
                continue
            head = file.read(_PIECE.size)
            if not head and not started:
                return
            if len(head) < _PIECE.size:
                raise CutOff(f"ends in the middle of a record, at byte {place}")
            checksum, length, kind = _PIECE.unpack(head)
            if (checksum, length, kind) == (0, 0, 0):  # the rest of the block is padding
                file.seek(left - _PIECE.size, 1)
                place += left
                continue
            data = file.read(length)
            if len(data) < length:
                raise CutOff(f"ends in the middle of a record, at byte {place}")
            if length > left - _PIECE.size or zlib.crc32(bytes((kind,)) + data) != checksum:
                raise Damaged(f"wrong checksum at byte {place}")
            place += _PIECE.size + length
            if kind in (_FULL, _FIRST):
                parts, started = bytearray(), True
            if not started or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
                raise Damaged(f"a piece out of its order at byte {place}")
            parts += data
            if len(parts) > RECORD_LIMIT_BYTES:
                raise Damaged(f"a record of more than {RECORD_LIMIT_BYTES >> 20} MiB")
            if kind in (_FULL, _LAST):
                yield bytes(parts)
                started = False


def _from_record(run: WandbRun, record: bytes) -> WandbRun:
    """Raises Damaged."""
    fields = message(record)
    for inner in fields.get(_RUN, ()):
        for git in message(_bytes(inner)).get(_RUN_GIT, ()):
            run = _with_git(run, message(_bytes(git)))
    for inner in fields.get(_ENVIRONMENT, ()):
        found = message(_bytes(inner))
        for git in found.get(_GIT, ()):
            run = _with_git(run, message(_bytes(git)))
        nvidia = [message(_bytes(item)) for item in found.get(_NVIDIA, ())]
        gpus = tuple(Gpu(name=_string(item, 1), memory_bytes=_integer(item, 2)) for item in nvidia[:_MOST_GPUS])
        if not gpus and _string(found, _GPU_TYPE):
            gpus = (Gpu(name=_string(found, _GPU_TYPE)),) * max(1, min(_integer(found, _GPU_COUNT), _MOST_GPUS))
        cpu = [message(_bytes(item)) for item in found.get(_CPU, ())]
        run = _with(
            run,
            os=_string(found, _OS),
            python=_string(found, _PYTHON),
            cpu=_string(cpu[-1], 3) if cpu else "",
            gpus=gpus,
            cuda=_string(found, _CUDA),
            remote="",
            commit="",
            arguments=[_text(_bytes(item).decode("utf-8", "replace")) for item in found.get(_ARGS, ())],
        )
    return run


def _with_git(run: WandbRun, git: Mapping[int, Sequence[int | bytes]]) -> WandbRun:
    remote = _string(git, 1)
    return replace(run, remote=redaction.text(redaction.url(remote)) if remote else run.remote, commit=_string(git, 2) or run.commit)


def message(data: bytes) -> dict[int, list[int | bytes]]:
    """Fields of a protobuf message by number, each with its values in order: integers, and the bytes of texts and messages.

    Raises:
        Damaged: it is none.
    """
    fields: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value: int | bytes
            value, place = _varint(data, place)
        elif kind in (1, 5, 2):
            length, place = (8, place) if kind == 1 else (4, place) if kind == 5 else _varint(data, place)
            if place + length > len(data):
                raise Damaged("a field that is longer than its message")
            value, place = data[place : place + length], place + length
        else:
            raise Damaged(f"a field of the kind {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise Damaged("a number without an end")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Damaged("a number where a message should be")
    return value


def _string(fields: Mapping[int, Sequence[int | bytes]], number: int) -> str:
    values = fields.get(number, ())
    return _text(_bytes(values[-1]).decode("utf-8", "replace")) if values else ""


def _integer(fields: Mapping[int, Sequence[int | bytes]], number: int) -> int:
    values = fields.get(number, ())
    return _number(values[-1]) if values else 0
