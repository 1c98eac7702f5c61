"""Debian packages of a CPython that Debian 12 has not, laid out as Debian and Ubuntu lay out theirs.

The files are those of an interpreter of this host that is a tree of its own (pyenv's, uv's, one below /usr/local or /opt), carried
to /usr by envsnap's own packer. Debian's patches to `site` and `sysconfig` are applied to it: `dist-packages`, and the install
schemes `posix_local` and `deb_system`.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]

PACK = "import sys; from envsnap.guest.python_tree import pack_python_tree; pack_python_tree(sys.stdout.buffer, '/usr')"
PLACE = "import sys; print('%d.%d' % sys.version_info[:2], sys.base_prefix)"
DEPENDS = (
    "libc6, libbz2-1.0, libcrypt1, libexpat1, libffi8, liblzma5, libncursesw6, libreadline8, libsqlite3-0, libssl3, libuuid1, "
    "media-types, tzdata, zlib1g"
)

SITE = [
    (
        """    if prefixes is None:
        prefixes = PREFIXES

    for prefix in prefixes:
        if not prefix or prefix in seen:
            continue
        seen.add(prefix)

""",
        """    if prefixes is None:
        prefixes = PREFIXES

    is_virtual_environment = sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix")

    for prefix in prefixes:
        if not prefix or prefix in seen:
            continue
        seen.add(prefix)

""",
    ),
    (
        """            for libdir in libdirs:
                path = os.path.join(prefix, libdir,
                                    "python%d.%d" % sys.version_info[:2],
                                    "site-packages")
""",
        """            python = "python%d.%d" % sys.version_info[:2]
            if is_virtual_environment:
                sitepackages.append(os.path.join(prefix, "lib", python, "site-packages"))
            sitepackages.append(os.path.join(prefix, "local/lib", python, "dist-packages"))
            sitepackages.append(os.path.join(prefix, "lib", "python3", "dist-packages"))
            for libdir in libdirs:
                path = os.path.join(prefix, libdir,
                                    "python%d.%d" % sys.version_info[:2],
                                    "dist-packages")
""",
    ),
]
SCHEME = """    '{name}': {{
        'stdlib': '{{installed_base}}/lib/python{{py_version_short}}',
        'platstdlib': '{{platbase}}/lib/python{{py_version_short}}',
        'purelib': '{{base}}/{packages}',
        'platlib': '{{platbase}}/{packages}',
        'include': '{{installed_base}}/include/python{{py_version_short}}{{abiflags}}',
        'platinclude': '{{installed_platbase}}/include/python{{py_version_short}}{{abiflags}}',
        'scripts': '{{base}}{local}/bin',
        'data': '{{base}}{local}',
        }},
"""
SYSCONFIG = [
    (
        "    'posix_home': {\n",
        SCHEME.format(name="deb_system", packages="lib/python3/dist-packages", local="")
        + SCHEME.format(name="posix_local", packages="local/lib/python{py_version_short}/dist-packages", local="/local")
        + "    'posix_home': {\n",
    ),
    (
        """    return {
        'prefix': 'posix_prefix',
        'home': 'posix_home',
        'user': 'posix_user',
""",
        """    if sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix"):
        prefix_scheme = 'posix_prefix'
    elif os.environ.get('DEB_PYTHON_INSTALL_LAYOUT', 'posix_local') in ('deb', 'deb_system'):
        prefix_scheme = 'deb_system'
    else:
        prefix_scheme = 'posix_local'
    return {
        'prefix': prefix_scheme,
        'home': 'posix_home',
        'user': 'posix_user',
""",
    ),
    ("inc_dir = get_path('platinclude')\n", "inc_dir = get_path('platinclude', 'posix_prefix')\n"),
]
PATCHES = {"site.py": SITE, "sysconfig.py": SYSCONFIG}
"""File of the standard library -> each piece of its text, which is there exactly once, and what Debian has in its place."""

SITE_IS_FROZEN_SINCE = (3, 11)
SHT_PROGBITS, SHT_RELA, R_X86_64_RELATIVE = 1, 4, 8

EXTERNALLY_MANAGED = """[externally-managed]
Error=This Python belongs to the distribution. Install into a virtual environment, or with --break-system-packages.
"""


def find(minor: str) -> Path:
    """An interpreter of that minor version ("3.12") in a tree of its own.

    Raises:
        SystemExit: this host has none; the message says what to do.
    """
    variable = f"ENVSNAP_STANDIN_PYTHON{minor.replace('.', '')}"
    given = os.environ.get(variable)
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
    for name in [given] if given else [shutil.which(f"python{minor}"), *map(str, of_pyenv)]:
        told = subprocess.run([name, "-c", PLACE], capture_output=True, text=True) if name else None
        if told is not None and told.returncode == 0:
            version, prefix = told.stdout.split()
            if version == minor and os.path.realpath(prefix) != "/usr":
                return Path(prefix, "bin", f"python{minor}")
    raise SystemExit(
        f"this host has no Python {minor} in a tree of its own: install one (pyenv install {minor}, uv python install {minor}) "
        f"or name it in {variable}"
    )


def make_debs(minor: str, managed: bool, to: Path) -> str:
    """Write python3.12's package and the package `python3`, which points to it.

    Args:
        managed: the distribution asks pip to leave its Python alone (PEP 668).

    Returns:
        The interpreter's version ("3.12.1").
    """
    program = find(minor)
    asked = [program, "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="envsnap-standin-") as scratch:
        tree = Path(scratch, f"python{minor}")
        library = tree / "usr/lib" / f"python{minor}"
        carry(program, tree / "usr")
        for name, pieces in PATCHES.items():
            patch(library / name, pieces)
        if tuple(map(int, minor.split("."))) >= SITE_IS_FROZEN_SINCE:
            files = (tree / "usr/bin" / program.name, *(tree / "usr/lib").glob("libpython*.so*"))
            if sum(thaw(file, "site") for file in files) != 1:
                raise SystemExit(f"{program} has no table of frozen modules, from which `site` has to be taken")
        if managed:
            (library / "EXTERNALLY-MANAGED").write_text(EXTERNALLY_MANAGED)
        patched = " ".join(f"/usr/lib/python{minor}/{name}" for name in PATCHES)
        script = f"#!/bin/sh\nset -e\npython{minor} -m compileall -q {patched}\n"
        script += f"install -d /usr/local/lib/python{minor}/dist-packages /usr/lib/python3/dist-packages\n"
        build(tree, f"python{minor}", version, DEPENDS, {"postinst": script}, to)
        points = Path(scratch, "python3")
        (points / "usr/bin").mkdir(parents=True)
        (points / "usr/bin/python3").symlink_to(f"python{minor}")
        build(points, "python3", version, f"python{minor} (= {version}-0standin1)", {}, to)
    return version


def carry(program: Path, to: Path) -> None:
    """Lay out the interpreter's files for the prefix /usr."""
    with subprocess.Popen([program, "-c", PACK], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as packing:
        assert packing.stdout is not None
        with tarfile.open(fileobj=packing.stdout, mode="r|") as archive:
            for member in archive:
                member.name = member.name.removeprefix("python/")
                archive.extract(member, to, filter="fully_trusted")
    if packing.returncode != 0:
        raise SystemExit(f"{program} cannot be carried")


def patch(file: Path, pieces: list[tuple[str, str]]) -> None:
    text = file.read_text(encoding="utf-8")
    for old, new in pieces:
        if text.count(old) != 1:
            raise SystemExit(f"{file.name} of this Python is not what Debian's patch is for: {old.strip().splitlines()[0]!r}")
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")
    for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        stale.unlink()


def thaw(file: Path, module: str) -> int:
    """Have a module that is frozen into the interpreter read from its file, which was patched, instead.

    In the table of frozen modules, an array of `struct _frozen` that relocations fill, the module's name loses its first letter: nobody
    finds it there any more.

    Returns:
        How many entries were changed: 0 in a file without the table.
    """
    content = bytearray(file.read_bytes())
    sections = elf_sections(content)
    names = {place for section in sections if section.kind == SHT_PROGBITS for place in strings(content, module, section)}
    changed = 0
    for section in sections:
        if section.kind != SHT_RELA:
            continue
        filled = {place: (at, addend) for at, place, kind, addend in relocations(content, section) if kind == R_X86_64_RELATIVE}
        for place, (at, addend) in filled.items():
            # An entry is a pointer to the name, one to the code, and two numbers.
            if addend in names and place + 8 in filled and place + 16 not in filled:
                struct.pack_into("<q", content, at + 16, addend + 1)
                changed += 1
    if changed:
        file.write_bytes(content)
    return changed


class Section(NamedTuple):
    """Of a 64-bit ELF file. Attributes: address: in memory. offset, size: in the file, in bytes."""

    kind: int
    address: int
    offset: int
    size: int


def elf_sections(content: bytearray) -> list[Section]:
    (table,) = struct.unpack_from("<Q", content, 40)
    length, count = struct.unpack_from("<HH", content, 58)
    headers = range(table, table + length * count, length)
    return [Section(struct.unpack_from("<I", content, at + 4)[0], *struct.unpack_from("<QQQ", content, at + 16)) for at in headers]


def relocations(content: bytearray, section: Section) -> list[tuple[int, int, int, int]]:
    """Each one: where it stands in the file, the address that it fills, its type, and its addend."""
    places = range(section.offset, section.offset + section.size, 24)
    return [(at, *struct.unpack_from("<QQq", content, at)) for at in places]


def strings(content: bytearray, text: str, section: Section) -> list[int]:
    """Addresses of a string in a section; linkers let one be the end of another."""
    found = re.finditer(text.encode() + rb"\0", content[section.offset : section.offset + section.size])
    return [section.address + one.start() for one in found]


def build(tree: Path, name: str, version: str, depends: str, scripts: dict[str, str], to: Path) -> None:
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {name}\nVersion: {version}-0standin1\nArchitecture: amd64\nSection: python\nPriority: optional\n"
        f"Maintainer: envsnap's tests <nobody@localhost>\nDepends: {depends}\n"
        f"Description: CPython {version} in the layout of Debian and Ubuntu, a stand-in for tests\n"
    )
    for script, text in scripts.items():
        (control / script).write_text(text)
        (control / script).chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, to], check=True, stdout=subprocess.DEVNULL)
