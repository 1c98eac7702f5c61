"""Processes of the interpreter: some modules in, their byte code out, and again."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from envsnap import process
from envsnap.bytecode.interpreters import FLAGS, Interpreter
from envsnap.errors import EngineError
from envsnap.guest.compile import NOT_ENOUGH_MEMORY
from envsnap.oci.image import EPOCH
from envsnap.target import GUEST_DIRECTORY

_REQUEST = struct.Struct(">II")
_ANSWER = struct.Struct(">I")
_HEADER = struct.Struct("<III")  # of a .pyc, after the magic number (PEP 552)
_TIMEOUT_S = 600.0


class Module(NamedTuple):
    """A Python file of a wheel. Attributes: path: in the layer."""

    path: str
    source: bytes


class Compiled(NamedTuple):
    """A .pyc. Attributes: path: in the layer."""

    path: str
    data: bytes


class Process:
    """A process of an interpreter, which compiles for as long as it is asked to: starting one costs as much as compiling 200 KB of source.

    Attributes:
        source_bytes: how much it was asked to compile.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._started: process.Coprocess | None = None
        self.source_bytes = 0

    def compile(self, modules: Sequence[Module], what: str) -> list[Compiled]:
        """The byte code of those that have some, in their order (`guest/compile.py` says which have none).

        Args:
            what: names them in an error.

        Raises:
            EngineError: the interpreter failed, for want of memory, say, or what it wrote is no byte code of these modules.
        """
        self.source_bytes += sum(len(module.source) for module in modules)
        asked = b"".join(part for module in modules for part in _asked(module))
        whole = _Whole(len(modules))
        try:
            data = self._coprocess().ask(asked, whole, timeout_s=_TIMEOUT_S)
        except process.NotStarted as error:
            _failed(self._interpreter, what, str(error))
        except process.Ended as ended:
            done = ended.completed
            if done.returncode == NOT_ENOUGH_MEMORY and not whole(bytearray(done.stdout)):
                module = modules[-whole.missing]
                why = f"not enough memory to compile {module.path}, which has {len(module.source):,} bytes"
                _failed(self._interpreter, what, why, hint="raise the limit of memory (ulimit -v); --no-pyc leaves byte code out")
            why = f"it took more than {_TIMEOUT_S:.0f} s" if done.timed_out else f"it ended early, with exit code {done.returncode}"
            _failed(self._interpreter, what, why, done.tail() if done.stderr else "")
        answers = list(_answers(data, self._interpreter, what))
        if len(answers) != len(modules):
            _failed(self._interpreter, what, "it wrote byte code for another number of modules")
        return [_checked(module, one, self._interpreter, what) for module, one in zip(modules, answers, strict=True) if one]

    def close(self) -> None:
        if self._started is not None:
            self._started.close()

    def _coprocess(self) -> process.Coprocess:
        if self._started is None:
            command = self._interpreter.command
            self._started = process.Coprocess([*command.argv, *FLAGS, str(GUEST_DIRECTORY), "compile"], env=command.variables)
        return self._started


class _Whole:
    """Whether there is an answer for each module. Attributes: missing: how many have none."""

    def __init__(self, modules: int) -> None:
        self.missing = modules
        self._place = 0

    def __call__(self, data: bytearray) -> bool:
        while self.missing and self._place + _ANSWER.size <= len(data):
            end = self._place + _ANSWER.size + _ANSWER.unpack_from(data, self._place)[0]
            if end > len(data):
                return False
            self._place = end
            self.missing -= 1
        return not self.missing


def _asked(module: Module) -> tuple[bytes, bytes, bytes]:
    path = f"/{module.path}".encode()
    return _REQUEST.pack(len(path), len(module.source)), path, module.source


def _answers(data: bytes, interpreter: Interpreter, what: str) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        start = place + _ANSWER.size
        size = _ANSWER.unpack_from(data, place)[0] if start <= len(data) else 0
        place = start + size
        if place > len(data):
            _failed(interpreter, what, "what it wrote ends early")
        yield data[start:place]


def _checked(module: Module, data: bytes, interpreter: Interpreter, what: str) -> Compiled:
    if not data.startswith(interpreter.magic + _HEADER.pack(0, EPOCH, len(module.source))):
        _failed(interpreter, what, f"what it wrote for {module.path} is no byte code of that file")
    folder, _, name = module.path.rpartition("/")
    return Compiled(f"{folder}/__pycache__/{name.removesuffix('.py')}.{interpreter.cache_tag}.pyc", data)


def _failed(interpreter: Interpreter, what: str, why: str, log: str = "", hint: str = "--no-pyc leaves it out") -> NoReturn:
    raise EngineError(f"byte code of {what} cannot be made", why=f"Python {interpreter.version}: {why}", hint=hint, log=log)
