"""Read a Python environment from inside and write what is there as one JSON document.

It runs in *another* interpreter than envsnap: in the environment that is captured, and in the image that was
built from it. It needs Python >= 3.8 and nothing but the standard library, and changes nothing: no
package is installed, no file is written but the document, no byte code is cached. What it is asked to import or compute, it
does in child processes with a temporary HOME and without the variables that hold secrets.

    python -B GUEST collect --out FILE [--framework] [--imports] [--integrity] [--device-code] [--source MANIFEST] [--expect EXPECTED]

--out FILE        where the document goes; "-" is stdout, which otherwise stays empty.
--framework       import torch, else tensorflow, else paddle, run a convolution and a matrix product, and name the libraries
                  that this mapped.
--imports         import every top-level module of every distribution, and those that --expect names.
--integrity       hash every file that a RECORD names.
--device-code     read the GPU architectures that each distribution's shared objects hold code for.
--source FILE     hold a project's files against a manifest: {"root": dir, "files": [[path, mode, sha256], ...]} with git's
                  modes 100644, 100755 and 120000 (a link: the hash is of its target).
--expect FILE     hold the result against a document of the type `envsnap.model.plan.Expected`.

The document is `envsnap.model.facts.CollectedFacts`, as ASCII, and but for `seconds` the same bytes for the same
environment. Broken metadata never stops the script: each fault becomes one entry of `problems`.

stderr carries lines for people and, while --integrity or --imports run, `progress DONE TOTAL UNIT WHAT`.

Exit codes: 0 fine; 2 wrong arguments, or a manifest or expectation that cannot be read; 7 the environment is not what
--expect says, with one line on stderr for each difference.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any, Callable, Iterable, Mapping, Sequence

from .children import PROGRAM, interpreter_flags
from .conda import conda_changes, conda_oddities, owners, read_conda
from .distributions import Installed, of_conda, read_distributions, unowned
from .expectation import differences, is_expectation, report_expectation
from .framework_child import FRAMEWORKS, framework_child
from .framework_probe import NOTHING, loaded_libraries, probe_framework
from .imports import imports_child, probe_imports
from .integrity import Integrity, check_integrity
from .interpreter import interpreter_facts, platform_facts
from .needs import system_libraries
from .paths import environment_roots, path_directories
from .pip_config import pip_config
from .record import canonical_path
from .shadowing import foreign_imports, path_oddities
from .source_files import check_source, is_manifest
from .system_distributions import of_system
from .text import Problems, reason, write_document
from .variables import steering_variables, withheld_variables

EXIT_DIFFERENT = 7


SCHEMA = 1


class Clock:
    """Seconds of each phase, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = self._last = time.monotonic()

    def mark(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] = round(now - self._last, 3)
        self.seconds["total"] = round(now - self._start, 3)
        self._last = now


def collect(
    *,
    framework: bool,
    imports: bool,
    integrity: bool,
    code: bool,
    manifest: Mapping[str, Any] | None,
    expected_imports: Iterable[str],
) -> dict[str, Any]:
    problems, clock = Problems(), Clock()
    directories = path_directories(problems)
    conda = read_conda(problems)
    owner = {place: package.name for place, package in owners(conda).items()}
    distributions = of_conda(read_distributions(directories, problems), owner)
    of_others = [file.path for package in conda for file in package.files]
    oddities = [*path_oddities(directories, distributions, of_others, problems), *conda_oddities(conda)]
    clock.mark("distributions")
    pip = pip_config(problems)
    clock.mark("pip")
    roots = environment_roots(directories)
    probe = probe_framework(problems) if framework else NOTHING
    libraries = loaded_libraries(probe, distributions, roots, rehash=integrity)
    clock.mark("framework")
    modules = {module for found in distributions for module in found.facts["modules"]}.union(expected_imports)
    tried = probe_imports(modules) if imports else None
    if tried is not None:
        oddities += foreign_imports(tried.places, distributions)
    clock.mark("imports")
    mapped = set(probe.mapped) | (tried.mapped if tried is not None else set())
    foreign = system_libraries(distributions, mapped, roots)
    clock.mark("system_libraries")
    checked = check_integrity(distributions) if integrity else {}
    of_packages = of_system(distributions, integrity=integrity)
    changes = {package.name: conda_changes(package) for package in conda} if integrity else None
    clock.mark("integrity")
    architectures = device_codes(distributions, problems) if code else {}
    clock.mark("device_code")
    source = None if manifest is None else check_source(manifest)
    clock.mark("source")
    return {
        "schema": SCHEMA,
        "interpreter": interpreter_facts(),
        "platform": platform_facts(),
        "distributions": [
            {
                **found.facts,
                **integrity_facts(found, checked.get(found.name), changes),
                "system": of_packages.get(found.name),
                "device_code": architectures.get(found.name),
            }
            for found in distributions
        ],
        "unowned": unowned(directories, distributions),
        "conda": [{**package.facts, "modified": None if changes is None else changes[package.name]} for package in conda],
        "env": steering_variables(os.environ),
        "withheld": withheld_variables(os.environ),
        "path_oddities": sorted(set(oddities)),
        "pip_config": pip,
        **{name: probe.facts if name == probe.name else None for name in FRAMEWORKS},
        "libraries": libraries,
        "system_libraries": foreign,
        "imports": None if tried is None else tried.results,
        "source_files": source,
        "problems": problems.document(),
        "seconds": clock.seconds,
    }


def device_codes(distributions: Iterable[Installed], problems: Problems) -> dict[str, dict[str, list[str]] | None]:
    """By name."""
    from .fatbin import device_code  # not carried into images, whose own check does not ask for it

    return {found.name: device_code(found, problems) for found in distributions}


def integrity_facts(found: Installed, checked: Integrity | None, conda_changes: Mapping[str, list[str]] | None) -> dict[str, Any]:
    """`modified` and `actual_files` of the document; without a usable RECORD, and for editables, there is no digest to compare."""
    if found.facts["conda"] is not None:
        changed = None if conda_changes is None else [as_site_path(path, found) for path in conda_changes[found.facts["conda"]]]
        return {"modified": changed, "actual_files": None}
    comparable = checked is not None and found.facts.get("files") is not None
    return {
        "modified": None if checked is None else checked.modified,
        "actual_files": checked.digest if checked is not None and comparable else None,
    }


def as_site_path(path: str, found: Installed) -> str:
    """A path of conda's, relative to its prefix, as RECORD would have it."""
    mark, path = ("missing: ", path[len("missing: ") :]) if path.startswith("missing: ") else ("", path)
    return mark + canonical_path(os.path.join(sys.prefix, path), found.location, sys.prefix)


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="collect", description="Write what is in this Python environment as one JSON document.")
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--framework", action="store_true")
    arguments.add_argument("--imports", action="store_true")
    arguments.add_argument("--integrity", action="store_true")
    arguments.add_argument("--device-code", action="store_true")
    arguments.add_argument("--source")
    arguments.add_argument("--expect")
    arguments.add_argument("--child", choices=(*FRAMEWORKS, "imports"), help=argparse.SUPPRESS)
    arguments.add_argument("--pipe", type=int, help=argparse.SUPPRESS)
    return arguments


def read_input(path: str, is_valid: Callable[[Any], bool], arguments: argparse.ArgumentParser) -> Any:
    """A JSON document; ends the script with 2 when it cannot be read or is not what is wanted."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        arguments.error(f"cannot read {path}: {reason(error)}")
    if not is_valid(value):
        arguments.error(f"cannot read {path}: not a document of the kind that this option takes")
    return value


def use_utf8(argv: Sequence[str]) -> None:
    """Start over in UTF-8 mode where the locale is another one: file names and metadata must read the same everywhere."""
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, *interpreter_flags(), "-X", "utf8", PROGRAM, "collect", *argv])


def main(argv: Sequence[str]) -> int:
    use_utf8(argv)
    arguments = parser()
    options = arguments.parse_args(argv)
    if options.child in FRAMEWORKS:
        framework_child(options.child, options.out)
        return 0
    if options.child == "imports":
        imports_child(options.out, options.pipe)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that children end and temporary files go
    manifest = read_input(options.source, is_manifest, arguments) if options.source else None
    expected = read_input(options.expect, is_expectation, arguments) if options.expect else None
    document = collect(
        framework=options.framework,
        imports=options.imports,
        integrity=options.integrity,
        code=options.device_code,
        manifest=manifest,
        expected_imports=(expected or {}).get("imports", ()),
    )
    write_document(options.out, document)
    if expected is None:
        return 0
    found = differences(expected, document)
    report_expectation(found, document)
    return EXIT_DIFFERENT if found else 0
