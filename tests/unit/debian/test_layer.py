"""Packages as a layer."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from envsnap.blobs import BlobStore
from envsnap.debian import layer, system
from envsnap.debian.archive import Archive, Settings
from envsnap.errors import EngineError, InputError
from envsnap.layers.reader import LayerReader, Member, inflated
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import BaseInventory, Directory
from envsnap.model.debian import DebFile
from tests.unit.debian.conftest import Made, Mirror, entry, folder, link, make

STATUS = "Package: zlib1g\nStatus: install ok installed\nMaintainer: z\nArchitecture: amd64\nVersion: 1.2\nDescription: z\n\n"
INVENTORY = BaseInventory(
    distribution="debian 12",
    complete=True,
    links={"lib": "usr/lib", "var/run": "run"},
    directories={"etc/x": Directory(mode=0o2750, gid=7)},
)
FIELDS = {"Section": "libs", "Depends": "zlib1g", "Multi-Arch": "same", "Priority": "optional"}
HELLO = make(
    "hello",
    {"lib/libhello.so": b"x", "usr/share/doc/hello/copyright": b"all", "etc/x/hello.conf": b"y", "var/run/z": b""},
    fields=FIELDS,
    scripts={"conffiles": "/etc/x/hello.conf\n", "triggers": "activate-noawait ldconfig\n", "postinst": "#!/bin/sh\n"},
)
ALPHA = make("alpha", {"usr/bin/alpha": b"#!/bin/sh\n"}, arch="all", md5sums=False)


def blob(*debs: Made, inventory: BaseInventory = INVENTORY, status: bytes = STATUS.encode(), store: Path) -> bytes:
    files = {made.file.sha256: made.data for made in debs}

    @contextmanager
    def opened(file: DebFile) -> Iterator[BinaryIO]:
        yield io.BytesIO(files[file.sha256])

    blobs = BlobStore(store)
    known = BaseInventory(**{**{name: getattr(inventory, name) for name in inventory.__struct_fields__}, "dpkg_status": blobs.put(status)})
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    layer.write([made.file for made in debs], opened, known, blobs, writer, arch="amd64")
    writer.finish()
    return out.getvalue()


def read(data: bytes) -> dict[str, tuple[Member, bytes]]:
    reader = LayerReader(inflated([data], what="x"), what="x")
    return {member.path: (member, b"".join(reader.content())) for member in reader}


def test_files_land_where_the_base_keeps_them(tmp_path: Path) -> None:
    found = read(blob(HELLO, ALPHA, store=tmp_path))
    assert {path for path, (member, _) in found.items() if member.kind != "directory" and not path.startswith("var/lib/dpkg")} == {
        "usr/lib/libhello.so", "usr/share/doc/hello/copyright", "etc/x/hello.conf", "run/z", "usr/bin/alpha"
    }  # fmt: skip
    assert "lib" not in found and "var/run" not in found
    kept = found["etc/x"][0]
    assert (kept.mode, kept.uid, kept.gid) == (0o2750, 0, 7)
    assert all(member.mtime == 315532800 for member, _ in found.values())


def test_dpkgs_database_is_as_dpkg_would_have_written_it(tmp_path: Path) -> None:
    found = {path: data.decode() for path, (_, data) in read(blob(HELLO, ALPHA, store=tmp_path)).items()}
    md5 = {
        name: hashlib.md5(data).hexdigest()
        for name, data in (("so", b"x"), ("doc", b"all"), ("conf", b"y"), ("run", b""), ("alpha", b"#!/bin/sh\n"))
    }
    assert found["var/lib/dpkg/status"] == (
        "Package: alpha\nStatus: install ok installed\nMaintainer: Nobody <nobody@example.com>\nArchitecture: all\nVersion: 1.0-1\n"
        "Description: alpha\n\n"
        "Package: hello\nStatus: install ok installed\nPriority: optional\nSection: libs\nMaintainer: Nobody <nobody@example.com>\n"
        "Architecture: amd64\nMulti-Arch: same\nVersion: 1.0-1\nDepends: zlib1g\n"
        f"Conffiles:\n /etc/x/hello.conf {md5['conf']}\nDescription: hello\n\n" + STATUS
    )
    info = "var/lib/dpkg/info"
    assert found[f"{info}/hello:amd64.list"].startswith("/.\n/lib\n/lib/libhello.so\n/usr\n")
    assert (
        found[f"{info}/hello:amd64.md5sums"]
        == f"{md5['so']}  lib/libhello.so\n{md5['doc']}  usr/share/doc/hello/copyright\n{md5['run']}  var/run/z\n"
    )
    assert found[f"{info}/hello:amd64.conffiles"] == "/etc/x/hello.conf\n" and f"{info}/hello:amd64.postinst" in found
    assert found[f"{info}/alpha.md5sums"] == f"{md5['alpha']}  usr/bin/alpha\n"
    assert f"{info}/alpha.control" not in found


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg")
def test_dpkg_itself_reads_it(tmp_path: Path) -> None:
    for path, (member, data) in read(blob(HELLO, ALPHA, store=tmp_path / "blobs")).items():
        if path.startswith("var/lib/dpkg/") and member.kind == "file":
            place = tmp_path / "root" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    (tmp_path / "root/var/lib/dpkg/info/format").write_text("1\n")  # as every base has it
    admin = f"--admindir={tmp_path}/root/var/lib/dpkg"
    said = subprocess.run(["dpkg-query", admin, "-W", "-f", "${Package} ${db:Status-Abbrev}\n"], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("alpha ii \nhello ii \nzlib1g ii \n", "")
    owner = subprocess.run(["dpkg-query", admin, "-S", "/lib/libhello.so"], capture_output=True, text=True, check=True)
    assert owner.stdout == "hello:amd64: /lib/libhello.so\n"


def test_what_two_packages_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="usr/bin/alpha"):
        blob(ALPHA, make("beta", {"usr/bin/alpha": b""}), store=tmp_path)


def test_links_of_the_base_in_a_circle_are_refused(tmp_path: Path) -> None:
    circle = BaseInventory(distribution="debian 12", complete=True, links={"lib": "usr/lib", "usr": "lib/usr"})
    with pytest.raises(InputError, match="base's links at 'lib'") as caught:
        blob(HELLO, inventory=circle, store=tmp_path)
    assert "circle" in caught.value.why


def test_links_and_modes_stay_as_they_are(tmp_path: Path) -> None:
    made = make("hello", [
        folder("./"), folder("./usr/", 0o700), entry("./usr/a", b"x", mode=0o4755), link("./usr/b", "a"), link("./lib", "usr/lib"),
        entry("./usr/c", kind=b"1", mode=0o4755, target="./usr/a"),
    ])  # fmt: skip
    found = read(blob(made, store=tmp_path))
    assert [found[f"usr/{name}"][0].mode for name in "ac"] == [0o4755, 0o4755] and found["usr"][0].mode == 0o700
    assert (found["usr/b"][0].target, found["usr/c"][0].target) == ("a", "usr/a")
    assert "lib" not in found  # the base's own link


def test_the_order_says_nothing(tmp_path: Path) -> None:
    assert blob(HELLO, ALPHA, store=tmp_path) == blob(ALPHA, HELLO, store=tmp_path)


def test_the_machine_says_nothing(tmp_path: Path) -> None:
    code = (
        "import hashlib, sys, pathlib; from tests.unit.debian.test_layer import *; "
        "print(hashlib.sha256(blob(HELLO, ALPHA, store=pathlib.Path(sys.argv[1]))).hexdigest())"
    )
    root = Path(__file__).parents[3]
    digests = set()
    for number, (zone, seed, umask) in enumerate((("UTC", "1", 0o022), ("Asia/Tokyo", "2", 0o077))):
        env = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / str(number))],
            capture_output=True,
            text=True,
            env=env,
            umask=umask,
            cwd=tmp_path,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


# From what is wanted to a plan.


def planned(mirror: Mirror, cache: Path, *wanted: str, debs: Sequence[Made], status: str = STATUS) -> Mapping[str, Sequence[str]]:
    mirror.publish(*debs)
    archive = Archive("debian 12", "amd64", cache, Settings(mirror=mirror.root.as_uri(), keyring=mirror.keyring))
    plan = system.plan(archive, wanted, (), status.encode())
    assert (plan.distribution, plan.arch) == ("debian 12", "amd64")
    reasons: dict[str, list[str]] = {file.name: [] for file in plan.packages}
    for need in plan.needs_shell:
        reasons[need.package].append(need.because)
    for file in plan.packages:
        with archive.open(file) as opened:
            assert hashlib.sha256(opened.read()).hexdigest() == file.sha256
    return reasons


def test_a_plan_has_all_that_is_lacking_and_says_what_needs_a_shell(mirror: Mirror, tmp_path: Path) -> None:
    debs = [
        make("a", {"usr/bin/a": b""}, fields={"Depends": "b, c, zlib1g"}),
        make(
            "b",
            {"usr/bin/b": b"", "usr/share/glib-2.0/schemas/b.xml": b""},
            scripts={"postinst": "#!/bin/sh\nadduser b\n"},
            fields={"Depends": "libglib2.0-0"},
        ),
        make(
            "c",
            {"usr/bin/b": b"", "etc/ld.so.conf.d/c.conf": b"/opt"},
            scripts={"conffiles": "/etc/ld.so.conf.d/c.conf\n"},
            fields={"Depends": "zlib1g (>= 2)"},
        ),
        make("libglib2.0-0", {"usr/lib/g": b""}),
        make("zlib1g", {"usr/lib/z": b""}, version="2.0"),
    ]
    assert planned(mirror, tmp_path / "cache", "a", debs=debs) == {
        "a": [],
        "b": [
            "its postinst does more than unpacking (adduser b)",
            "libglib2.0-0 has to process its usr/share/glib-2.0/schemas/b.xml",
            "c has /usr/bin/b, too",
        ],
        "c": ["its libraries lie where only ldconfig makes them found"],
        "libglib2.0-0": [],
        "zlib1g": ["it replaces the base's 1.2"],
    }


def test_what_is_there_needs_nothing(mirror: Mirror, tmp_path: Path) -> None:
    assert planned(mirror, tmp_path / "cache", "zlib1g", debs=[make("zlib1g", version="2.0")]) == {}


def test_of_what_is_there_no_archive_is_asked(tmp_path: Path) -> None:
    """And of anything else one is: here, where there is none, that fails."""
    archive = Archive("debian 12", "amd64", tmp_path / "cache", Settings(mirror=(tmp_path / "none").as_uri()))
    plan = system.plan(archive, ("zlib1g=1.2",), ("zlib1g",), STATUS.encode())
    assert (plan.distribution, plan.arch, plan.packages, plan.needs_shell) == ("debian 12", "amd64", (), ())
    for wanted, captured in ((("zlib1g=1.3",), ()), (("other",), ()), ((), ("other",))):
        with pytest.raises(EngineError):
            system.plan(archive, wanted, captured, STATUS.encode())
