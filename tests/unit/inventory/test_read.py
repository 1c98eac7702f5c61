"""What is known of an image from its layers alone."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, TargetError
from envsnap.guest.record import canonical_digest, payload, read_record
from envsnap.inventory import read
from envsnap.inventory.read import LayerSource, read_inventory
from envsnap.model.base import BaseInventory, Directory, ImageConfig
from envsnap.progress import SILENT
from tests.unit.inventory.conftest import (
    Entry,
    directory,
    elf,
    file,
    gzipped,
    hard_link,
    layer,
    link,
    loader_cache,
    pieces,
    whiteout,
)

LIB = "usr/lib/x86_64-linux-gnu"
LOADER = "/lib64/ld-linux-x86-64.so.2"
GLIBC = b"GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n"


def system(*, version: str = "3.11.2", cache: bool = True) -> list[Entry]:
    """A Debian with a Python, as far as anybody looks."""
    program = elf(needed=("libz.so.1", "libc.so.6"), interpreter=LOADER, text=f"\0{version}\0python 3.11.9".encode())
    entries = [
        link("bin", "usr/bin"),
        link("lib", "usr/lib"),
        link("lib64", "usr/lib64"),
        directory("usr"),
        directory("tmp", 0o1777),
        directory("var/mail", 0o2775, 0, 8),
        link("etc/os-release", "../usr/lib/os-release"),
        file("usr/lib/os-release", b'PRETTY_NAME="Debian"\nVERSION_ID="12"\nID=debian\nBROKEN="\n'),
        file("usr/bin/python3.11", program, 0o755),
        link("usr/bin/python3", "python3.11"),
        file("usr/lib/python3.11/os.py", b"import abc"),
        file("usr/lib/python3.11/site.py", b"def getsitepackages(): return ['dist-packages']"),
        file("usr/lib/python3.11/encodings/__init__.py", b"#"),
        file("usr/lib/python3.11/test/test_x.py", b"#"),
        file("usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", elf(needed=("libssl.so.3",))),
        file("usr/lib/python3.11/lib-dynload/_gone.cpython-311-x86_64-linux-gnu.so", elf(needed=("libgone.so.1",))),
        file(f"{LIB}/libc.so.6", elf(soname="libc.so.6", needed=("ld-linux-x86-64.so.2",), text=GLIBC), 0o755),
        file(f"{LIB}/libz.so.1.2.13", elf(soname="libz.so.1")),
        link(f"{LIB}/libz.so.1", "libz.so.1.2.13"),
        file(f"{LIB}/libssl.so.3", elf(soname="libssl.so.3")),
        file(f"{LIB}/ld-linux-x86-64.so.2", elf(soname="ld-linux-x86-64.so.2"), 0o755),
        link("usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    ]
    if cache:
        names = ("libc.so.6", "libz.so.1", "libssl.so.3", "ld-linux-x86-64.so.2", "libstale.so.1")
        entries.append(file("etc/ld.so.cache", loader_cache({name: f"/lib/x86_64-linux-gnu/{name}" for name in names})))
    return entries


def inventory(tmp_path: Path, *layers: list[Entry], env: dict[str, str] | None = None, progress: Any = SILENT) -> BaseInventory:
    sources = [source(layer(*entries), number) for number, entries in enumerate(layers, 1)]
    config = ImageConfig(architecture="amd64", env=env or {})
    found = read_inventory("base:1", sources, config, blobs=blobs(tmp_path), scratch=tmp_path, progress=progress)
    # What is remembered can be read back.
    assert msgspec.json.decode(msgspec.json.encode(found), type=BaseInventory) == found
    return found


def source(tar: bytes, number: int = 1, diff_id: str | None = None) -> LayerSource:
    honest = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    return LayerSource(name=f"layer {number}", diff_id=diff_id or honest, open=lambda: pieces(gzipped(tar)))


def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def record(*lines: tuple[str, bytes], metadata: str) -> bytes:
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}" for path, data in lines
    ]
    return "\n".join([*rows, f"{metadata}/RECORD,,", ""]).encode()


def test_a_system_with_a_python(tmp_path: Path) -> None:
    found = inventory(tmp_path, system())
    assert (found.distribution, found.libc, found.complete) == ("debian 12", "glibc 2.36", True)
    assert (found.python, found.python_path) == ("3.11.2", "/usr/bin/python3")
    assert found.sonames == {"libc.so.6", "libz.so.1", "libssl.so.3", "ld-linux-x86-64.so.2"}
    assert found.directories == {"tmp": Directory(mode=0o1777), "var/mail": Directory(mode=0o2775, gid=8)}
    assert found.links == {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
    assert found.interpreter is not None
    assert blobs(tmp_path).has(found.interpreter)


def test_the_same_layers_give_the_same_inventory(tmp_path: Path) -> None:
    assert inventory(tmp_path / "a", system()) == inventory(tmp_path / "b", system()[:9], system()[9:])


def test_without_a_cache_the_loader_finds_what_lies_in_its_directories(tmp_path: Path) -> None:
    more = [
        file(f"{LIB}/libother.so.1.2", elf(soname="libother.so.1")),
        file(f"{LIB}/plugin.so", elf()),
        file(f"{LIB}/libtext.so", b"INPUT(x)"),
    ]
    found = inventory(tmp_path, system(cache=False), more)
    assert found.sonames == {"libc.so.6", "libz.so.1", "libssl.so.3", "ld-linux-x86-64.so.2"}


def test_a_cache_of_another_machine_or_none_at_all(tmp_path: Path) -> None:
    foreign = file("etc/ld.so.cache", loader_cache({"libz.so.1": f"/{LIB}/libz.so.1", "libarm.so.1": "/usr/bin/python3"}, flags=0x0A03))
    assert "libarm.so.1" not in inventory(tmp_path, system(), [foreign]).sonames
    for damaged in (b"", b"glibc-ld.so.cache1.1", b"glibc-ld.so.cache1.1" + b"\xff" * 200):
        assert "libz.so.1" in inventory(tmp_path, system(), [file("etc/ld.so.cache", damaged)]).sonames


def test_no_python_and_none_that_can_be_read(tmp_path: Path) -> None:
    assert inventory(tmp_path, system(), [whiteout("usr/bin/python3")]).python is None
    script = inventory(tmp_path, system(), [whiteout("usr/bin/python3"), file("usr/local/bin/python3", b"#!/bin/sh\n", 0o755)])
    assert (script.python, script.python_path, script.interpreter, script.packages) == (None, None, None, ())
    assert inventory(tmp_path, system(), [whiteout("usr/lib/python3.11")]).python is None
    assert inventory(tmp_path, system(), env={"PATH": "relative:/sbin"}).python is None


def test_the_first_python_on_the_path_that_can_be_run(tmp_path: Path) -> None:
    official = [
        file("usr/local/bin/python3.12", elf(needed=("libpython3.12.so.1.0",), interpreter=LOADER), 0o755),
        link("usr/local/bin/python3", "python3.12"),
        file("usr/local/lib/libpython3.12.so.1.0", elf(soname="libpython3.12.so.1.0", needed=("libc.so.6",), text=b"\x003.12.4\0")),
        file("usr/local/lib/python3.12/os.py", b"#"),
        file("usr/local/lib/python3.12/site.py", b"#"),
        file("opt/bin/python3", b"no program", 0o644),
        file("etc/ld.so.cache", loader_cache({"libpython3.12.so.1.0": "/usr/local/lib/libpython3.12.so.1.0"})),
    ]
    path = {"PATH": "/opt/bin:/usr/local/bin:/usr/bin", "PYTHON_VERSION": "3.12.4"}
    found = inventory(tmp_path, system(), official, env=path)
    assert (found.python, found.python_path) == ("3.12.4", "/usr/local/bin/python3")
    assert inventory(tmp_path, system(), official, env={"PATH": "/usr/bin"}).python == "3.11.2"


class Listener:
    """Progress that keeps what should not be missed."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def detail(self, text: str) -> None: ...


STATUS = "Package: python3.11-minimal\nStatus: install ok installed\nVersion: {}\nArchitecture: amd64\n"


@pytest.mark.parametrize(
    ("version", "dpkg", "expected", "doubts"),
    [
        ("3.11.2", "3.11.2-6+deb12u6", "3.11.2", 0),
        ("3.11.2", "3.11.9-1", "3.11.2", 1),
        ("nothing", "3.11.2-6+deb12u6", "3.11.2", 0),
        ("nothing", "1:3.11.0~rc1-1", "3.11.0", 0),
        ("3.11.0rc1+", "3.11.0~rc1-1", "3.11.0", 0),
        ("nothing", "3.12.1-1", None, 0),
        ("x\0/opt/python/3.11.7", "3.11.7-1", "3.11.7", 0),
        ("x\0/opt/python/3.11.7\0y\x003.11.8", "3.11.8-1", "3.11.8", 0),
        ("x\0/opt/3.11.7\0/opt/3.11.8", "3.11.6-1", "3.11.6", 0),
        ("x\0libfoo-13.11.7\0sqlite 2.3.11.8", "3.11.6-1", "3.11.6", 0),
    ],
)
def test_who_says_which_version_it_is(tmp_path: Path, version: str, dpkg: str, expected: str | None, doubts: int) -> None:
    listener = Listener()
    found = inventory(tmp_path, system(version=version), [file("var/lib/dpkg/status", STATUS.format(dpkg).encode())], progress=listener)
    assert found.python == expected
    assert len(listener.warnings) == doubts


def test_a_header_says_the_version_where_the_program_does_not(tmp_path: Path) -> None:
    header = file("usr/include/python3.11/patchlevel.h", b'#define PY_VERSION      	"3.11.5"\n')
    assert inventory(tmp_path, system(version="two\x003.11.7\x003.11.8"), [header]).python == "3.11.5"


def test_packages_of_dpkg(tmp_path: Path) -> None:
    status = (
        b"Package: zlib1g\nStatus: install ok installed\nVersion: 1:1.2.13\nArchitecture: amd64\nDescription: x\n .\n more\n\n"
        b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\n"
        b"Package: held\nStatus: hold ok installed\nVersion: 2\nArchitecture: all\n\n"
        b"Package: ../x\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n\n"
    )
    found = inventory(tmp_path, system(), [file("var/lib/dpkg/status", status)])
    assert [(package.name, package.version) for package in found.system_packages] == [("held", "2"), ("zlib1g", "1:1.2.13")]
    assert found.dpkg_status is not None
    assert blobs(tmp_path).read(found.dpkg_status) == status


def test_packages_of_images_without_dpkg(tmp_path: Path) -> None:
    each = [
        file("var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12\nArchitecture: amd64\n"),
        file("var/lib/dpkg/status.d/base.md5sums", b"Package: trap\nVersion: 1\nArchitecture: all\n"),
    ]
    found = inventory(tmp_path, system(), each)
    assert ([package.name for package in found.system_packages], found.dpkg_status) == (["base-files"], None)


def installed(site: str, name: str, version: str, **more: bytes) -> list[Entry]:
    metadata = f"{name}-{version}.dist-info"
    lines = record((f"{name}/__init__.py", b"x"), ("../../../bin/tool", b"y"), (f"{metadata}/INSTALLER", b"pip\n"), metadata=metadata)
    return [
        file(f"{site}/{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: trap\n".encode()),
        file(f"{site}/{metadata}/RECORD", more.pop("RECORD", lines)),
        *(file(f"{site}/{metadata}/{other}", data) for other, data in more.items()),
    ]


def test_packages_of_python(tmp_path: Path) -> None:
    local, distribution = "usr/local/lib/python3.11/dist-packages", "usr/lib/python3/dist-packages"
    editable = {"direct_url.json": b'{"url": "file:///src", "dir_info": {"editable": true}}'}
    found = inventory(
        tmp_path,
        system(),
        [
            *installed(local, "NumPy_X", "2.0"),
            *installed(local, "mine", "1", **editable),
            *installed(local, "broken", "1", RECORD=b"no record"),
            *installed(distribution, "numpy_x", "1.0"),
            file(f"{distribution}/six-1.16.0.egg-info/PKG-INFO", b"Name: six\nVersion: 1.16.0\n"),
            file(f"{distribution}/old.egg-info", b"Name: old\nVersion: 3\n"),
            file(f"{distribution}/~ippy-1.dist-info/METADATA", b"Name: leftover\nVersion: 1\n"),
            *installed("usr/lib/python3.11/site-packages", "elsewhere", "1"),
        ],
    )
    assert [(p.name, p.version, p.site) for p in found.packages] == [
        ("broken", "1", local),
        ("mine", "1", local),
        ("numpy-x", "2.0", local),
        ("old", "3", distribution),
        ("six", "1.16.0", distribution),
    ]
    by_name = {package.name: package for package in found.packages}
    own = by_name["numpy-x"]
    assert own.record is not None
    text = blobs(tmp_path).read(own.record).decode()
    entries, _ = read_record(text, f"/{local}", "/usr/local")
    assert own.files == canonical_digest(payload(entries, "NumPy_X-2.0.dist-info"))
    assert [by_name[name].files for name in ("broken", "mine", "six")] == [None, None, None]
    assert by_name["broken"].record is not None
    assert by_name["six"].record is None


def test_a_virtual_environment_on_the_path(tmp_path: Path) -> None:
    venv = [link("opt/venv/bin/python3", "/usr/bin/python3"), *installed("opt/venv/lib/python3.11/site-packages", "inside", "1")]
    below = installed("usr/lib/python3/dist-packages", "below", "1")
    path = {"PATH": "/opt/venv/bin:/usr/bin"}
    for text, names in ((b"home = /usr/bin\n", ["inside"]), (b"include-system-site-packages = TRUE\n", ["below", "inside"])):
        found = inventory(tmp_path, system(), venv, below, [file("opt/venv/pyvenv.cfg", text)], env=path)
        assert (found.python_path, found.python) == ("/opt/venv/bin/python3", "3.11.2")
        assert [package.name for package in found.packages] == names


def test_a_program_that_is_called_python3_and_nothing_else(tmp_path: Path) -> None:
    """Its one standard library says which it is; of two neither does."""
    own = [whiteout("usr/bin/python3"), hard_link("opt/conda/bin/python3", "usr/bin/python3.11"), file("opt/conda/lib/python3.11/os.py")]
    path = {"PATH": "/opt/conda/bin"}
    assert inventory(tmp_path, system(), own, env=path).python == "3.11.2"
    assert inventory(tmp_path, system(), own, [file("opt/conda/lib/python3.12/os.py")], env=path).python is None


def test_paths_that_no_document_can_say_are_left_out(tmp_path: Path) -> None:
    odd = [directory("opt/a\\x2d", 0o700), directory("opt/b\udcff", 0o700), directory("opt/c\n", 0o700), link("opt/d\\", "/tmp")]
    assert "opt" not in "".join(inventory(tmp_path, system(), odd).directories)


def test_a_layer_is_read_again_for_hard_links_and_held_against_its_digest_again(tmp_path: Path) -> None:
    entries = [entry for entry in system() if entry[0] != "usr/bin/python3.11"]
    program = next(data for path, _, data in system() if path == "usr/bin/python3.11")
    tar = layer(*entries, file("opt/same", program, 0o755), hard_link("usr/bin/python3.11", "opt/same"))
    answers = [tar, tar.replace(b"3.11.2\0", b"3.11.3\0"), tar, tar]
    assert len(answers[1]) == len(tar)
    assert answers[1] != tar
    first = LayerSource(name="layer 1", diff_id=source(tar).diff_id, open=lambda: pieces(answers.pop(0)))

    def once() -> BaseInventory:
        return read_inventory(
            "base:1", [first], ImageConfig(architecture="amd64"), blobs=blobs(tmp_path), scratch=tmp_path, progress=SILENT
        )

    with pytest.raises(EngineError, match="cannot read what is in base:1"):
        once()
    assert once().python == "3.11.2"


def test_other_bytes_than_the_config_says_are_refused(tmp_path: Path) -> None:
    wrong = source(layer(*system()), diff_id=f"sha256:{'0' * 64}")
    with pytest.raises(EngineError) as caught:
        read_inventory("base:1", [wrong], ImageConfig(architecture="amd64"), blobs=blobs(tmp_path), scratch=tmp_path, progress=SILENT)
    assert "layer 1" in caught.value.why
    assert not list(blobs(tmp_path).root.glob("sha256/*"))


def test_a_layer_that_grows_beyond_any_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_MAX_BYTES", 1 << 20)
    bomb = source(layer(file("zeros", bytes(3 << 20))))
    with pytest.raises(InputError, match="layer 1"):
        read_inventory("base:1", [bomb], ImageConfig(architecture="amd64"), blobs=blobs(tmp_path), scratch=tmp_path, progress=SILENT)


def test_a_layer_that_ends_early_is_refused(tmp_path: Path) -> None:
    def cut() -> Iterator[bytes]:
        yield gzipped(layer(*system()))[:-200]

    with pytest.raises(InputError, match="layer 1"):
        read_inventory(
            "base:1",
            [LayerSource(name="layer 1", diff_id=None, open=cut)],
            ImageConfig(architecture="amd64"),
            blobs=blobs(tmp_path),
            scratch=tmp_path,
            progress=SILENT,
        )


def test_a_connection_that_breaks_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield gzipped(layer(*system()))[:1000]
        raise ConnectionResetError("reset by peer")

    layers = [LayerSource(name="layer 1", diff_id=None, open=broken)]
    with pytest.raises(EngineError, match="cannot read layer 1") as caught:
        read_inventory("base:1", layers, ImageConfig(architecture="amd64"), blobs=blobs(tmp_path), scratch=tmp_path, progress=SILENT)
    assert caught.value.why == "reset by peer"


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(TargetError, match="no space left"):
        inventory(tmp_path, system())


def test_musl_is_told_from_glibc(tmp_path: Path) -> None:
    alpine = [
        file("lib/ld-musl-x86_64.so.1", elf(soname="libc.musl-x86_64.so.1"), 0o755),
        link("lib/libc.musl-x86_64.so.1", "ld-musl-x86_64.so.1"),
        file("usr/local/lib/libz.so.1", elf(soname="libz.so.1")),
        file("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.1\n"),
    ]
    found = inventory(tmp_path, alpine)
    assert (found.distribution, found.libc, found.sonames) == (
        "alpine 3.20.1",
        "musl",
        frozenset({"libz.so.1", "libc.musl-x86_64.so.1"}),
    )
    glibc = inventory(tmp_path, system(cache=False), [file("usr/local/lib/libown.so.1", elf(soname="libown.so.1"))])
    assert "libown.so.1" not in glibc.sonames


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    inventory(tmp_path, system())
    assert {path.name for path in tmp_path.iterdir()} == {"blobs"}


def test_what_could_be_imported_and_is_no_package_s(tmp_path: Path) -> None:
    site, debian = "usr/local/lib/python3.11/dist-packages", "usr/lib/python3/dist-packages"
    found = inventory(
        tmp_path,
        system(),
        [
            file(f"{site}/cv2/__init__.py", b"#"),
            file(f"{site}/dali.cpython-311-x86_64-linux-gnu.so", elf()),
            file(f"{site}/one.py", b"#"),
            file(f"{site}/_private.py", b"#"),
            file(f"{site}/README.md", b"#"),
            file(f"{site}/six.py", b"#"),
            file(f"{site}/google/six/__init__.py", b"#"),
            file(f"{site}/six-1.dist-info/METADATA", b"Name: six\nVersion: 1\n"),
            file(f"{site}/six-1.dist-info/RECORD", record(("six.py", b"#"), ("google/six/__init__.py", b"#"), metadata="six-1.dist-info")),
            file(f"{debian}/yaml/__init__.py", b"#"),
            file(f"{debian}/PyYAML-5.egg-info/PKG-INFO", b"Name: PyYAML\nVersion: 5\n"),
            file(f"{debian}/PyYAML-5.egg-info/top_level.txt", b"_yaml\nyaml\n"),
            file(f"{debian}/gi/__init__.py", b"#"),
        ],
    )
    assert found.unowned == (f"{debian}/gi", f"{site}/cv2", f"{site}/dali.cpython-311-x86_64-linux-gnu.so", f"{site}/one.py")
