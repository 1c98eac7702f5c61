"""A base image from packages alone, made of stand-ins for Debian's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envsnap.blobs import BlobStore
from envsnap.debian import alternatives, base
from envsnap.debian.archive import Archive, Settings
from envsnap.debian.base import MinimalBase
from envsnap.errors import InputError, PlanError
from envsnap.model.debian import SystemPlan
from tests.unit.debian.conftest import Mirror, make
from tests.unit.debian.test_layer import read

ESSENTIAL = {"Essential": "yes"}
MAWK = (
    '#!/bin/sh\nset -e\n# Automatically added by dh_installalternatives/13\nif [ "$1" = configure ]; then\n'
    "\tupdate-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n"
    "\t\t--slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz\n"
    "\tupdate-alternatives --install /usr/bin/other other /usr/bin/absent 5\nfi\n# End automatically added section\n"
)
PASSWD = make(
    "base-passwd",
    {
        "usr/share/base-passwd/passwd.master": b"root:*:0:0:root:/root:/bin/bash\n"
        b"nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "usr/share/base-passwd/group.master": b"root:*:0:\nshadow:*:42:\n",
    },
    fields=ESSENTIAL,
)
DEBS = (
    PASSWD,
    make(
        "base-files",
        {
            "etc/debian_version": b"12.4\n",
            "usr/share/base-files/motd": b"hello\n",
            "usr/share/base-files/dot.profile": b"# p\n",
            "usr/share/doc/base-files/README": b"r",
        },
        fields=ESSENTIAL | {"Depends": "awk"},
    ),
    make(
        "mawk",
        {"usr/bin/mawk": b"m", "usr/share/man/man1/mawk.1.gz": b"man", "usr/share/doc/mawk/copyright": b"c"},
        fields={"Provides": "awk"},
        scripts={"postinst": MAWK},
    ),
    make("libpam-runtime", {"usr/share/pam/common-auth": b"# x\n$auth_primary\n$auth_additional\n# end\n"}, fields=ESSENTIAL),
    make("dash", {"bin/dash": b"d"}, fields=ESSENTIAL),
    make(
        "python3",
        {"usr/bin/python3": b"p", "usr/share/locale/de/x.mo": b"l"},
        scripts={"triggers": "interest /usr/lib/python3\ninterest-noawait py\n"},
    ),
    make(
        "ca-certificates", {"usr/share/ca-certificates/mozilla/B.crt": b"B", "usr/share/ca-certificates/mozilla/A.crt": b"A\n"}, arch="all"
    ),
    make("tzdata", {"usr/share/zoneinfo/Etc/UTC": b"TZif"}, arch="all"),
    make("unwanted", {"usr/bin/unwanted": b""}),
)


def made(mirror: Mirror, cache: Path) -> tuple[SystemPlan, MinimalBase]:
    if not mirror.debs:
        mirror.publish(*DEBS)
    archive = Archive("debian:bookworm", "amd64", cache, Settings(mirror=mirror.root.as_uri(), keyring=mirror.keyring))
    plan = base.resolve_now(archive)
    archive.fetch(plan.packages)
    return plan, base.build(plan, archive.open, BlobStore(cache / "blobs"))


def test_what_a_system_needs_is_there(mirror: Mirror, tmp_path: Path) -> None:
    plan, result = made(mirror, tmp_path / "cache")
    assert [file.name for file in plan.packages] == [
        "base-files", "base-passwd", "ca-certificates", "dash", "libpam-runtime", "mawk", "python3", "tzdata"
    ]  # fmt: skip
    found = read(BlobStore(tmp_path / "cache/blobs").read(result.layer.digest))
    text = {path: data.decode() for path, (_, data) in found.items()}
    target = {path: member.target for path, (member, _) in found.items() if member.kind == "link"}
    assert {name: target[name] for name in ("bin", "lib", "lib64", "sbin", "var/run", "var/lock")} == {
        "bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin", "var/run": "/run", "var/lock": "/run/lock"
    }  # fmt: skip
    assert text["usr/bin/dash"] == "d" and target["usr/bin/sh"] == "dash"
    assert text["etc/passwd"].splitlines()[0] == "root:x:0:0:root:/root:/bin/bash"
    assert text["etc/shadow"] == "root:*:3652:0:99999:7:::\nnobody:*:3652:0:99999:7:::\n"
    shadow = found["etc/shadow"][0]
    assert (shadow.mode, shadow.gid) == (0o640, 42)
    assert [found[path][0].mode for path in ("tmp", "root", "var/mail", "proc")] == [0o1777, 0o700, 0o2775, 0o755]
    assert text["root/.profile"] == "# p\n" and text["etc/motd"] == "hello\n"
    assert text["etc/ssl/certs/ca-certificates.crt"] == "A\nB\n" and text["etc/ca-certificates.conf"].endswith(
        "\nmozilla/A.crt\nmozilla/B.crt\n"
    )
    assert text["etc/pam.d/common-auth"] == "# x\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\n# end\n"
    assert target["etc/localtime"] == "/usr/share/zoneinfo/Etc/UTC"


def test_alternatives_are_links_and_records(mirror: Mirror, tmp_path: Path) -> None:
    _, result = made(mirror, tmp_path / "cache")
    found = read(BlobStore(tmp_path / "cache/blobs").read(result.layer.digest))
    assert (found["usr/bin/awk"][0].target, found["etc/alternatives/awk"][0].target) == ("/etc/alternatives/awk", "/usr/bin/mawk")
    assert "usr/share/man/man1/awk.1.gz" not in found and "usr/bin/other" not in found
    assert found["var/lib/dpkg/alternatives/awk"][1].decode() == (
        "auto\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/man1/awk.1.gz\n\n/usr/bin/mawk\n5\n/usr/share/man/man1/mawk.1.gz\n\n"
    )


def test_a_quotation_of_several_lines_asks_for_no_alternative() -> None:
    script = 'update-alternatives --install /usr/bin/a "a\nb" /usr/bin/c 5\nupdate-alternatives --install /usr/bin/d d /usr/bin/e 5\n'
    assert [choice.name for choice in alternatives.asked_for(script)] == ["d"]


def test_a_priority_that_is_no_number_asks_for_no_alternative() -> None:
    assert not list(alternatives.asked_for("update-alternatives --install /usr/bin/a a /usr/bin/c ²\n"))


def test_what_is_left_out_is_in_no_list(mirror: Mirror, tmp_path: Path) -> None:
    _, result = made(mirror, tmp_path / "cache")
    found = read(BlobStore(tmp_path / "cache/blobs").read(result.layer.digest))
    text = {path: data.decode() for path, (_, data) in found.items()}
    assert not {path for path in found if path.startswith(("usr/share/man/", "usr/share/locale/", "usr/share/doc/base-files/R"))}
    info = "var/lib/dpkg/info"
    assert (
        text["usr/share/doc/mawk/copyright"] == "c" and "copyright" in text[f"{info}/mawk.list"] and "man1" not in text[f"{info}/mawk.list"]
    )
    assert [line[34:] for line in text[f"{info}/mawk.md5sums"].splitlines()] == ["usr/bin/mawk", "usr/share/doc/mawk/copyright"]
    assert "path-exclude=/usr/share/man/*" in text["etc/dpkg/dpkg.cfg.d/left-out"]
    assert text["var/lib/dpkg/triggers/File"] == "/usr/lib/python3 python3\n" and text["var/lib/dpkg/triggers/py"] == "python3/noawait\n"


def test_its_config_and_manifest(mirror: Mirror, tmp_path: Path) -> None:
    _, result = made(mirror, tmp_path / "cache")
    manifest = result.image.manifest
    assert manifest is not None and [layer.digest for layer in manifest.layers] == [result.layer.digest]
    config = json.loads(result.image.config.raw)
    assert config["config"]["Cmd"] == ["bash"] and config["config"]["Env"] == [f"PATH={base.PATH}"]
    assert (config["architecture"], config["os"], config["rootfs"]["diff_ids"]) == ("amd64", "linux", [result.layer.diff_id])
    assert config["history"][0]["created_by"] == "envsnap: debian 12 (bookworm), 8 packages"


def test_the_same_packages_give_the_same_bytes(mirror: Mirror, tmp_path: Path) -> None:
    first, one = made(mirror, tmp_path / "one")
    second, two = made(mirror, tmp_path / "two")
    assert first == second and one == two
    turned = SystemPlan(distribution=first.distribution, arch=first.arch, packages=first.packages[::-1])
    archive = Archive("debian 12", "amd64", tmp_path / "one", Settings(offline=True))
    assert base.build(turned, archive.open, BlobStore(tmp_path / "three")) == one


def test_what_is_no_base(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"ubuntu 24\.04"):
        base.resolve_now(Archive("ubuntu:noble", "amd64", tmp_path, Settings(mirror=mirror.root.as_uri())))
    plan, _ = made(mirror, tmp_path / "cache")
    archive = Archive("debian 12", "amd64", tmp_path / "cache", Settings(offline=True))
    without = SystemPlan(
        distribution="debian 12", arch="amd64", packages=tuple(file for file in plan.packages if file.name != "base-passwd")
    )
    with pytest.raises(InputError, match="cannot make a base") as caught:
        base.build(without, archive.open, BlobStore(tmp_path / "x"))
    assert "passwd.master" in caught.value.why
    with pytest.raises(InputError, match="not in the cache"):
        base.build(plan, Archive("debian 12", "amd64", tmp_path / "empty", Settings(offline=True)).open, BlobStore(tmp_path / "x"))
    assert not list((tmp_path / "x/sha256").iterdir())
