"""Run a guest script: `python -B GUEST SCRIPT [ARGUMENTS]`, where GUEST is this directory, wherever it was carried to."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

sys.dont_write_bytecode = True
SCRIPTS = ("collect", "compile", "gpu", "pack", "smoke")


def load(script: str) -> object:
    """A module of this directory, which is no part of the environment and so does not stay on sys.path."""
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0] or ".") == here:
        del sys.path[0]
    spec = spec_from_file_location("envsnap_guest", os.path.join(here, "__init__.py"), submodule_search_locations=[here])
    if spec is None or spec.loader is None:
        raise ImportError(here)
    package = module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    return importlib.import_module("%s.%s" % (spec.name, script))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        sys.exit("usage: python -B GUEST %s [ARGUMENTS]" % "|".join(SCRIPTS))
    sys.exit(load(sys.argv[1]).main(sys.argv[2:]))  # type: ignore[attr-defined]
