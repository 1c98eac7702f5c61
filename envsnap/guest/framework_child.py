"""In a child process: imports a framework, writes down what it is, has it compute, and writes down what that mapped."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any, Callable, Protocol, Sequence

from . import paddle_child, tensorflow_child, torch_child
from .children import mapped_files
from .library_versions import version_from_library
from .text import described, write_document


class Framework(Protocol):
    """What a module is that knows one framework.

    Attributes:
        LIBRARIES: names of the libraries that are its own, whose version is the framework's.
        STEPS: what to compute, each in turn; one that fails is named.
    """

    LIBRARIES: re.Pattern[str]
    STEPS: Sequence[Callable[[Any], None]]

    def facts(self, module: Any, /) -> dict[str, Any]:
        """`envsnap.model.facts.FrameworkFacts` of the imported module."""


FRAMEWORKS: dict[str, Framework] = {"torch": torch_child, "tensorflow": tensorflow_child, "paddle": paddle_child}
"""By the name that imports it. Of several in one environment the first here is the one that is asked."""


def framework_child(name: str, out: str) -> None:
    """Write what the framework is, then what it mapped after it computed. What was written stays when a later step ends the process."""
    framework = FRAMEWORKS[name]
    module = importlib.import_module(name)
    document: dict[str, Any] = {"facts": framework.facts(module), "failures": [], "mapped": [], "versions": {}}
    write_document(out, document)
    for step in framework.STEPS:
        try:
            step(module)
        except Exception as error:
            document["failures"].append(f"{step.__name__}: {described(error)}")
    document["mapped"] = mapped_files()
    write_document(out, document)
    own = document["facts"]["version"]
    asked = {path: own if framework.LIBRARIES.match(os.path.basename(path)) else version_from_library(path) for path in document["mapped"]}
    document["versions"] = {path: version for path, version in asked.items() if version}
    write_document(out, document)
