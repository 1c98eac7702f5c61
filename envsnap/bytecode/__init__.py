"""Byte code for the modules of wheels, made by exactly the version of Python that the image has, and kept by wheel and version.

The same wheel, layout and version give the same bytes, whoever compiles them and where: an interpreter of that version is found, or there
is an error; another is never used.
"""

from envsnap.bytecode.carried import unpack_carried
from envsnap.bytecode.compiler import Compiler, Sources, sources_of
from envsnap.bytecode.interpreters import Command, Interpreter, NotFound, find_interpreter, on_this_host

__all__ = [
    "Command",
    "Compiler",
    "Interpreter",
    "NotFound",
    "Sources",
    "find_interpreter",
    "on_this_host",
    "sources_of",
    "unpack_carried",
]
