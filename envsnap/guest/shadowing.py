"""What of sys.path is not as a fresh environment has it, each a sentence."""

from __future__ import annotations

import os
import re
import site
import sys
from typing import Iterable, Mapping, Sequence

from .distributions import Installed, read_distribution
from .modules import is_public, module_of
from .os_packages import owners_of
from .paths import is_site_directory
from .text import Problems, counted, hash_or_none, is_below, list_directory, read_text


def path_oddities(
    directories: Sequence[str], distributions: Sequence[Installed], conda_paths: Iterable[str], problems: Problems
) -> list[str]:
    """Args: conda_paths: files that conda installed, relative to the prefix."""
    sentences = []
    pythonpath = os.environ.get("PYTHONPATH")
    if pythonpath:
        sentences.append(f"PYTHONPATH puts {pythonpath} in front of the environment's own packages")
    sentences += user_site_oddity()
    sentences += startup_modules()
    sentences += outside_packages(directories, distributions)
    for location in filter(is_site_directory, directories):
        names = list_directory(location, problems)
        sentences += [f"{name} in {location} is the leftover of an interrupted uninstall" for name in names if name.startswith("~")]
        sentences += executing_pth(location, names, distributions, problems)
        sentences += loose_modules(location, names, distributions, conda_paths)
    sentences += foreign_scripts(distributions)
    sentences += overwritten(distributions)
    return sorted(dict.fromkeys(sentences))


def user_site_oddity() -> list[str]:
    directory = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    try:
        filled = bool(directory and os.listdir(directory))
    except OSError:
        filled = False
    return [f"the user's own site directory {directory} is enabled and not empty"] if filled else []


def startup_modules() -> list[str]:
    loaded = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in ("sitecustomize", "usercustomize"))
    return [f"{name} ({file}) runs whenever the interpreter starts" for name, file in loaded if file]


def outside_packages(directories: Iterable[str], distributions: Iterable[Installed]) -> list[str]:
    """Entries that hold distributions and are neither below the prefix nor an editable's source."""
    editable = {path for found in distributions for path in found.facts["editable_paths"]}
    counts: dict[str, int] = {}
    for found in distributions:
        counts[found.location] = counts.get(found.location, 0) + 1
    prefix = os.path.realpath(sys.prefix)
    return [
        f"{path} lies outside the prefix and holds {counted(counts[path], 'distribution')}"
        for path in directories
        if path in counts and path not in editable and not is_below(os.path.realpath(path), prefix)
    ]


def executing_pth(location: str, names: Iterable[str], distributions: Iterable[Installed], problems: Problems) -> list[str]:
    """That of a package travels with it, also of one of the operating system's; one that no package brought stays behind."""
    sentences = []
    for name in (name for name in names if name.endswith(".pth")):
        if any(found.location == location and has_entry(found, name) for found in distributions):
            continue
        text = read_text(os.path.join(location, name), name, problems) or ""
        if re.search(r"^import[ \t]", text, re.MULTILINE) and not owners_of([os.path.realpath(os.path.join(location, name))]):
            sentences.append(f"{name} of no package runs code whenever the interpreter starts, and stays behind")
    return sentences


def loose_modules(location: str, names: Iterable[str], distributions: Iterable[Installed], conda_paths: Iterable[str]) -> list[str]:
    """What lies in a site directory and can be imported, and no installer knows of."""
    below = location[len(sys.prefix.rstrip("/")) + 1 :] + "/" if is_below(location, sys.prefix) else None
    known = {entry.path.partition("/")[0] for found in distributions if found.location == location for entry in found.entries or ()}
    known.update(path[len(below) :].partition("/")[0] for path in conda_paths if below and path.startswith(below))
    # Eggs and their like have no usable RECORD, but name their modules.
    named_alone = (found for found in distributions if found.facts.get("files") is None and not found.facts["editable_paths"])
    known.update(name for found in named_alone if found.location == location for name in found.facts["modules"])
    # What one of the same name hides is known all the same.
    for found in hidden(location, names, distributions):
        known.update(found.facts["modules"], (entry.path.partition("/")[0] for entry in found.entries or ()))
    loose = []
    for name in names:
        path = os.path.join(location, name)
        module = name if os.path.isdir(path) and has_code(path) else module_of(name)
        if is_public(module) and not {name, module} & known and not name.endswith((".dist-info", ".egg-info", ".egg", ".pth")):
            loose.append(name)
    places = {name: os.path.realpath(os.path.join(location, name)) for name in loose}
    owners = owners_of(places.values())
    of_system = [name for name in loose if places[name] in owners]
    unknown = [name for name in loose if places[name] not in owners]
    return [
        *([f"no package brought {few(unknown)} in {location}: nothing says where from, and it stays behind"] if unknown else []),
        *(
            [f"no distribution has {few(of_system)} in {location}, which the operating system brought: it stays behind"]
            if of_system
            else []
        ),
    ]


def few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def hidden(location: str, names: Iterable[str], distributions: Iterable[Installed]) -> Iterable[Installed]:
    """The distributions of a directory that imports do not see, since another of their name comes first."""
    seen = {found.facts["metadata_dir"] for found in distributions}
    others = (read_distribution(location, name, Problems()) for name in names if os.path.join(location, name) not in seen)
    return filter(None, others)


def has_code(directory: str) -> bool:
    try:
        return any(module_of(name) for name in os.listdir(directory))
    except OSError:
        return False


def foreign_scripts(distributions: Iterable[Installed]) -> list[str]:
    """Console scripts that another interpreter than this one runs."""
    by_interpreter: dict[str, list[str]] = {}
    for found in distributions:
        for entry in found.entries or ():
            if entry.path.startswith("prefix:bin/"):
                interpreter = interpreter_of_script(found.path_of(entry))
                if interpreter and not is_this_interpreter(interpreter, found.prefix):
                    by_interpreter.setdefault(interpreter, []).append(os.path.basename(entry.path))
    sentences = []
    for interpreter, scripts in sorted(by_interpreter.items()):
        shown = ", ".join(sorted(scripts)[:3]) + (f" and {len(scripts) - 3} more" if len(scripts) > 3 else "")
        sentences.append(f"{shown} {'runs' if len(scripts) == 1 else 'run'} with {interpreter}, which is not this environment's")
    return sentences


def interpreter_of_script(path: str) -> str:
    """The Python that a script's first lines name, also in the form for long paths; "" for other programs."""
    try:
        with open(path, "rb") as file:
            head = file.read(512).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    match = re.match(r"#!(?:/bin/sh\n'''exec' \"?)?(/[^\n\"]*?python[0-9.]*)(?=[\n\" ])", head)
    return match.group(1) if match else ""


def is_this_interpreter(interpreter: str, prefix: str) -> bool:
    directory = os.path.realpath(os.path.dirname(interpreter))
    ours = (os.path.join(prefix, "bin"), os.path.join(sys.prefix, "bin"), os.path.dirname(sys.executable))
    return directory in map(os.path.realpath, ours)


def foreign_imports(places: Mapping[str, str], distributions: Iterable[Installed]) -> list[str]:
    """Modules that were imported from elsewhere than the distribution that has them. Args: places: module -> file or folder."""
    sentences = []
    for found in distributions:
        roots = (found.location, *found.facts["editable_paths"])
        if found.entries is None or found.facts["editable_paths"]:
            continue
        tops = {entry.path.partition("/")[0] for entry in found.entries}
        for module in found.facts["modules"]:
            place = places.get(module)
            if not place or any(is_below(os.path.realpath(place), os.path.realpath(root)) for root in roots):
                continue
            if module in tops or any(module_of(top) == module for top in tops):
                sentences.append(f"{module} is imported from {place}, not from {found.name} {found.facts['version']} in {found.location}")
    return sentences


def overwritten(distributions: Iterable[Installed]) -> list[str]:
    """Files that two distributions have in one place with different content: the one that was installed last has written over the other."""
    first: dict[tuple[str, str], tuple[Installed, str]] = {}
    clashes: dict[tuple[str, str], list[tuple[Installed, Installed, str]]] = {}
    for found in distributions:
        for entry in found.payload():
            if not entry.sha256:
                continue
            other, content = first.setdefault((found.location, entry.path), (found, entry.sha256))
            if content != entry.sha256:
                clashes.setdefault((other.name, found.name), []).append((other, found, entry.path))
    sentences = []
    for clash in clashes.values():
        one, other, path = clash[0]
        there = None if path.startswith("prefix:") else hash_or_none(os.path.join(one.location, path))
        if any(entry.path == path and entry.sha256 == there for entry in one.payload()):
            one, other = other, one
        shown = path + (f" and {counted(len(clash) - 1, 'more file')}" if len(clash) > 1 else "")
        sentences.append(f"{named(other)} has written over {shown} of {named(one)}")
    return sentences


def named(found: Installed) -> str:
    return f"{found.name} {found.facts['version']}"


def has_entry(found: Installed, path: str) -> bool:
    return any(entry.path == path for entry in found.entries or ())
