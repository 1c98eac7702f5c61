"""Compile modules to byte code that follows from the source and the interpreter's version alone.

    python -B GUEST compile

stdin     for each module: lengths of its path and of its source (two 32-bit numbers, most significant byte first), the path
          where it will lie (UTF-8), the source.
stdout    for each of them, in their order and as soon as it is there: the length of its .pyc (a 32-bit number), the .pyc; a
          length of 0 where it has none.

A .pyc names the modification time `MTIME` and the size of its source, as `py_compile` writes it: an edit makes it invalid.

What `marshal` writes hangs on more than the source: whether an object is told as shared is read off its reference count, and how a
short string is told off whether something else in the process has interned it. Here every string is shared and every one of those is
interned, so that neither order nor company matters. A module has no .pyc when it does not compile, when its text is in an encoding
that not every installation has, and when its constants lie in an order that hangs on addresses in memory.

Whether a module compiles must not hang on the machine either. Memory that does not suffice ends the script. How deeply a module may be
nested is counted up to Python 3.13, from numbers that are built in; from 3.14 on it is measured on the stack, and the stack is made here.

Needs PYTHONHASHSEED=0, and so flags that let variables through.

Exit codes: 0 fine, also where modules do not compile; 2 wrong arguments, input that ends early, or another hash seed; 4 not enough memory
for the module that comes after those whose answers were written.
"""

from __future__ import annotations

import gc
import marshal
import os
import re
import struct
import sys
import warnings
from functools import partial
from importlib.util import MAGIC_NUMBER
from types import CodeType
from typing import IO, Any, Callable, FrozenSet, Iterable, List, Optional, Sequence, Set

MTIME = 315532800  # of every file in a layer: `envsnap.oci.image.EPOCH`
REQUEST = struct.Struct(">II")
ANSWER = struct.Struct(">I")
HEADER = struct.Struct("<III")

CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
EVERYWHERE = frozenset(("ascii", "us-ascii", "utf-8", "utf8", "utf-8-sig", "latin-1", "latin1", "iso-8859-1", "iso8859-1"))
ALWAYS_TWICE = sys.version_info >= (3, 14)  # what else hangs on known strings there, nobody has looked up
HASHES_ARE_FIXED = not sys.flags.hash_randomization
NOT_ENOUGH_MEMORY = 4
# More than compiling takes: up to 750 bytes for one of the source ("a\n" and "a;" again and again), with what is doubled when it grows.
ROOM_BYTES = 16 << 20
ROOM_FOR_A_BYTE = 2048
STACK_IS_MEASURED = sys.version_info >= (3, 14)
STACK_BYTES = 8 << 20  # what most machines give a process (ulimit -s)
SETS_ARE_SORTED = sys.version_info >= (3, 11)  # by marshal itself

# One-character strings are kept by the interpreter, whoever made them: once interned, they are in every module.
INTERNED = [sys.intern(chr(number)) for number in range(256)]


def byte_code(path: str, source: bytes) -> Optional[bytes]:
    """The .pyc of a module; None when it has none. Raises MemoryError: there is not enough to tell."""
    if not encoded_as_everywhere(source):
        return None
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        constants = Constants(code)
        if ALWAYS_TWICE or constants.depend_on_company():
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
            constants = Constants(code)  # only now the first ones go
    except MemoryError:  # also the parser's word for what is nested too deeply, however much memory there is
        if not has_room(ROOM_BYTES + ROOM_FOR_A_BYTE * len(source)):
            raise
        return None
    except Exception:  # SyntaxError, ValueError, RecursionError: whoever imports it is told
        return None
    if not (SETS_ARE_SORTED or all(len(one) < 2 or hashed_by_value(one) for one in constants.sets)):
        return None
    data = marshal.dumps(code)
    del constants  # it held them until here
    return b"".join((MAGIC_NUMBER, HEADER.pack(0, MTIME, len(source) & 0xFFFFFFFF), data))


def has_room(size: int) -> bool:
    """Whether the process may have as much memory; none of it is used."""
    try:
        bytes(size)
    except MemoryError:
        return False
    return True


def encoded_as_everywhere(source: bytes) -> bool:
    for line in source[:4096].split(b"\n", 2)[:2]:
        match = CODING.match(line)
        if match is not None and match[1].decode("ascii", "replace").lower().replace("_", "-") not in EVERYWHERE:
            return False
    return True


class Constants:
    """What a module's code is made of.

    Attributes:
        names: of modules, functions, classes, variables; texts: string constants. Together one more reference to each string.
        qualified: names with a dot.
    """

    def __init__(self, code: CodeType) -> None:
        self.names: List[str] = []
        self.texts: List[str] = []
        self.qualified: Set[str] = set()
        self.sets: List[FrozenSet[Any]] = []
        pending = [code]
        while pending:
            code = pending.pop()
            qualified = getattr(code, "co_qualname", "")
            if "." in qualified:
                self.qualified.add(qualified)
            self.names += (code.co_filename, code.co_name, qualified)
            self.names += code.co_names
            self.names += code.co_varnames
            self.names += code.co_cellvars
            self.names += code.co_freevars
            self._take(code.co_consts, pending)

    def _take(self, constants: Iterable[Any], codes: List[CodeType]) -> None:
        for constant in constants:
            kind = type(constant)
            if kind is str:
                self.texts.append(constant)
            elif kind is CodeType:
                codes.append(constant)
            elif kind is tuple:
                self._take(constant, codes)
            elif kind is frozenset:
                self.sets.append(constant)
                self._take(constant, codes)
            elif kind is slice:
                self._take((constant.start, constant.stop, constant.step), codes)

    def depend_on_company(self) -> bool:
        """Whether they can differ as their strings are new to the process or known to it. After this they are known.

        Equal sets are two objects where their strings were known, else one; a set that has no equal is one object either way, made
        anew where its strings were known, which shows where marshal does not sort it. A class in a function has its qualified name
        as a constant, which becomes the interned string where there was none.
        """
        depending = len(self.sets) - len(set(self.sets)) if SETS_ARE_SORTED else len(self.sets)
        return depending > 0 or not self.qualified.isdisjoint(self.texts)


def hashed_by_value(constant: Any) -> bool:
    """Whether its hash is the same in every process, and with it the place in a set: that of None and of Ellipsis was an address."""
    if type(constant) in (tuple, frozenset):
        return all(map(hashed_by_value, constant))
    if type(constant) in (str, bytes):
        return HASHES_ARE_FIXED
    return constant is not None and constant is not Ellipsis


def exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def serve(stdin: IO[bytes], stdout: IO[bytes]) -> int:
    while True:
        request = stdin.read(REQUEST.size)
        if not request:
            return 0
        try:
            path_size, size = REQUEST.unpack(request)
            path = exactly(stdin, path_size).decode("utf-8")
            source = exactly(stdin, size)
        except (EOFError, struct.error, UnicodeDecodeError):
            sys.stderr.write("the modules to compile are cut off\n")
            return 2
        try:
            answer = byte_code(path, source) or b""
        except MemoryError:
            sys.stderr.write("not enough memory to compile %s (%d bytes)\n" % (path, len(source)))
            return NOT_ENOUGH_MEMORY
        stdout.write(ANSWER.pack(len(answer)))
        stdout.write(answer)
        stdout.flush()  # who asks may wait for it before asking again


def on_a_stack_of_its_own(work: Callable[[], int]) -> int:
    """What `work` returns, when it has as much of a stack on every machine."""
    import threading

    codes: List[int] = []
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=lambda: codes.append(work()))
    thread.start()
    thread.join()
    return codes[0] if codes else 1  # what went wrong was written to stderr


def main(argv: Sequence[str]) -> int:
    if argv:
        sys.stderr.write("compile takes no arguments\n")
        return 2
    if sys.flags.hash_randomization:
        sys.stderr.write("compile needs PYTHONHASHSEED=0\n")
        return 2
    warnings.simplefilter("ignore")
    gc.disable()  # code refers to nothing that refers to it
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    work = partial(serve, sys.stdin.buffer, answers)
    code = on_a_stack_of_its_own(work) if STACK_IS_MEASURED else work()
    answers.close()
    return code
