"""The `python3` of an image: where it is, which version, and where it looks for packages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envsnap.inventory.files import File, FileSystem
from envsnap.inventory.libraries import Libraries

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what engines set where an image sets none
_NAME = re.compile(r"python(3\.[0-9]+t?)\Z")
_LIBPYTHON = re.compile(r"libpython(3\.[0-9]+t?)\.so\.1\.0\Z")
_PATCHLEVEL = re.compile(rb'#define\s+PY_VERSION\s+"([^"\n]{1,40})"')
_EXACT = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+)(?:(?:a|b|rc)[0-9]+)?\+?\Z")
_UPSTREAM = re.compile(r"(?:[0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+)(?:[^0-9].*)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """Paths are without the leading "/", but for `executable`.

    Attributes:
        executable: as `sys.executable` says it.
        version: "3.11.2".
        doubts: a sentence for whatever else speaks of its version and says another one.
        binary: the program, links resolved.
        prefix: of its installation, not of a virtual environment of it.
        stdlib: directory of its standard library.
        sites: where it looks for packages, in order.
    """

    executable: str
    version: str
    doubts: tuple[str, ...]
    binary: str
    prefix: str
    stdlib: str
    sites: tuple[str, ...]


def find_python(files: FileSystem, libraries: Libraries, env: Mapping[str, str], debian_versions: Mapping[str, str]) -> Python | str:
    """What `python3` on the image's PATH is; a reason where it has none that can be read without running it.

    Args:
        env: of the image's config.
        debian_versions: package -> version, of dpkg.
    """
    executable, binary, file = _on_path(files, env.get("PATH", _DEFAULT_PATH))
    if file is None:
        return "no python3 on its PATH"
    if libraries.elf(file) is None:
        return f"{executable} is no program that can be read without running it"
    prefix = posixpath.dirname(posixpath.dirname(binary))
    minor, stdlib = _standard_library(files, libraries, binary, file, prefix)
    if not stdlib:
        return f"{executable} has no standard library below /{prefix}"
    said = list(_versions(files, libraries, binary, prefix, minor, env, debian_versions))
    if not said:
        return f"nothing says which {minor} {executable} is"
    (best, version), *others = said
    return Python(
        executable=executable,
        version=version,
        doubts=tuple(f"the base's Python is {version} by {best}, and {other} by {source}" for source, other in others if other != version),
        binary=binary,
        prefix=prefix,
        stdlib=stdlib,
        sites=tuple(_sites(files, executable, prefix, stdlib, minor)),
    )


def _on_path(files: FileSystem, path: str) -> tuple[str, str, File | None]:
    for directory in path.split(":"):
        place = posixpath.join(directory, "python3")
        found = files.walk(place) if directory.startswith("/") else None
        if found is not None and isinstance(found[1], File) and found[1].mode & 0o111:
            return place, found[0], found[1]
    return "", "", None


def _standard_library(files: FileSystem, libraries: Libraries, binary: str, file: File, prefix: str) -> tuple[str, str]:
    """Minor version ("3.11", "3.13t") and directory; the latter is empty where there is none."""
    own = libraries.elf(file)
    named = [_NAME.match(posixpath.basename(binary)), *(_LIBPYTHON.match(name) for name in (own.needed if own else ()))]
    minors = [match[1] for match in named if match]
    # A program that is called "python3" and linked statically says nothing; then there is one standard library, or it cannot be told.
    lying = {m[1] for lib in ("lib", "lib64") for name in files.children(_join(prefix, lib)) if (m := _NAME.match(name))}
    for minor in minors or (lying if len(lying) == 1 else ()):
        for lib in ("lib", "lib64"):
            if files.file(place := _join(prefix, lib, f"python{minor}", "os.py")) is not None:
                return minor, posixpath.dirname(place)
    return "", ""


def _versions(
    files: FileSystem,
    libraries: Libraries,
    binary: str,
    prefix: str,
    minor: str,
    env: Mapping[str, str],
    debian_versions: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Who says which version it is, the best first: what the program itself would print is compiled into it."""
    number = minor.removesuffix("t")
    compiled = re.escape(number.encode()) + rb"\.[0-9]{1,3}(?:(?:a|b|rc)[0-9]{1,2})?\+?"
    # Linkers let a string begin within a longer one that ends like it ("/opt/python/3.11.7").
    patterns = (re.compile(rb"\0(" + compiled + rb")(?=\0)"), re.compile(rb"[/-](" + compiled + rb")(?=\0)"))
    programs = [file for file in (files.file(binary), _libpython(files, libraries, binary)) if file is not None]
    found = next((seen for pattern in patterns for file in programs if (seen := files.search(file, pattern))), set())
    if len(found) == 1 and (version := _exact(found.pop().decode("ascii"), number)):
        yield "the program itself", version
    header = files.file(_join(prefix, f"include/python{minor}/patchlevel.h"))
    if header is not None and (found := files.search(header, _PATCHLEVEL)):
        version = _exact(min(found).decode("ascii", "replace"), number)
        if version:
            yield "its patchlevel.h", version
    package = f"python{number}-minimal"
    if prefix == "usr" and (match := _UPSTREAM.match(debian_versions.get(package, ""))) and match[1].startswith(f"{number}."):
        yield package, match[1]
    # Docker's official images set it for the Python that they put into /usr/local.
    if prefix == "usr/local" and (version := _exact(env.get("PYTHON_VERSION", ""), number)):
        yield "PYTHON_VERSION", version


def _libpython(files: FileSystem, libraries: Libraries, binary: str) -> File | None:
    start = files.file(binary)
    assert start is not None
    found, _ = libraries.closure([(binary, start)])
    return next((file for soname, file in found.items() if _LIBPYTHON.match(soname)), None)


def _exact(said: str, number: str) -> str:
    """As `sys.version_info[:3]` would say it ("3.13.0" of "3.13.0rc1+"); empty for a version of another minor one."""
    match = _EXACT.match(said)
    return match[1] if match and match[1].startswith(f"{number}.") else ""


def _sites(files: FileSystem, executable: str, prefix: str, stdlib: str, minor: str) -> Iterator[str]:
    """As its `site` module would, which Debian has changed."""
    here = posixpath.dirname(executable)
    for home in (here, posixpath.dirname(here)):
        settings = files.text(posixpath.join(home, "pyvenv.cfg"))
        if settings is not None:
            yield from (_join(home[1:], lib, f"python{minor}", "site-packages") for lib in ("lib", "lib64"))
            if not re.search(r"^include-system-site-packages\s*=\s*true\s*$", settings, re.MULTILINE | re.IGNORECASE):
                return
            break
    if "dist-packages" in (files.text(f"{stdlib}/site.py") or ""):
        yield _join(prefix, f"local/lib/python{minor}/dist-packages")
        yield _join(prefix, "lib/python3/dist-packages")
        yield _join(prefix, f"lib/python{minor}/dist-packages")
    else:
        yield from (_join(prefix, lib, f"python{minor}", "site-packages") for lib in ("lib64", "lib"))


def _join(*parts: str) -> str:
    return posixpath.join(*filter(None, parts))
