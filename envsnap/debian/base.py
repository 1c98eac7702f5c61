"""A base image from Debian packages alone: a small root with Python, made where no registry can be reached.

The packages' maintainer scripts are not run. What those of the essential ones would do on an empty disk is done here, the same on every
machine: users and groups, links of a merged /usr, alternatives, certificates, PAM's defaults. The same packages give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from envsnap.blobs import BlobStore
from envsnap.debian import alternatives, database
from envsnap.debian.archive import Archive
from envsnap.debian.database import Installed
from envsnap.debian.distributions import architecture, find
from envsnap.debian.layer import OpenDeb, Tree
from envsnap.debian.resolve import resolve
from envsnap.errors import InputError, PlanError
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory
from envsnap.model.debian import SystemPlan
from envsnap.oci.documents import Config, canonical
from envsnap.oci.image import EPOCH, BaseImage, Layer, RunConfig, put_together, scratch

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WANTED = ("python3", "ca-certificates", "tzdata")
"""Beside the packages that every Debian system has ("Essential: yes")."""

_LEFT_OUT = """\
# What no program of an image reads is left out: this is how the base was made, and how packages are installed in it.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
"""
_EXCLUDED = ("usr/share/info/", "usr/share/lintian/", "usr/share/locale/", "usr/share/man/")
_READ = (
    "usr/share/base-files/",
    "usr/share/base-passwd/",
    "usr/share/ca-certificates/",
    "usr/share/libc-bin/",
    "usr/share/pam/common-",
    "usr/share/readline/",
)
_MERGED = ("bin", "sbin", "lib")
_LIB64 = {"amd64": "lib64"}
_UTMP, _MAIL, _SHADOW = 43, 8, 42  # groups whose numbers are Debian's for ever (base-passwd)
_ROOT_PROFILE = {"dot.profile": "root/.profile", "dot.bashrc": "root/.bashrc", "profile": "etc/profile", "motd": "etc/motd"}
_LOCAL = ("bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "share/ca-certificates", "src")
_SHELLS = "# /etc/shells: valid login shells\n" + "".join(
    f"{place}/{name}\n" for place in ("/bin", "/usr/bin") for name in ("sh", "bash", "rbash", "dash")
)
_CERTIFICATES = "usr/share/ca-certificates/"
_PAM = {  # what pam-auth-update makes of libpam-runtime's own profile: (module type, Primary, Additional)
    "common-account": ("account", "[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so", ""),
    "common-auth": ("auth", "[success=1 default=ignore]\tpam_unix.so nullok", ""),
    "common-password": ("password", "[success=1 default=ignore]\tpam_unix.so obscure yescrypt", ""),
    "common-session": ("session", "[default=1]\t\t\tpam_permit.so", "required\tpam_unix.so"),
    "common-session-noninteractive": ("session", "[default=1]\t\t\tpam_permit.so", "required\tpam_unix.so"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimalBase:
    """Attributes: image: to build upon, with its manifest; layer: its only one, in the cache's blobs."""

    image: BaseImage
    layer: Layer


def resolve_now(archive: Archive) -> SystemPlan:
    """The packages that a base of a Debian release is made of today: the pins of `build`.

    Raises:
        PlanError: it is not Debian, or a package cannot be had.
        EngineError, InputError, UsageError: as `Archive.index`.
    """
    if archive.distribution.vendor != "debian":
        raise PlanError(f"no base can be made of the packages of {archive.distribution.name}", hint="--base debian:bookworm")
    index = archive.index()
    # First of all, so that nobody's alternative brings in the converter of old systems.
    merged = [name for name in ("usr-is-merged",) if index.candidates(name)]
    resolution = resolve(index, [*merged, *index.essential(), *WANTED], (), archive.arch)
    return SystemPlan(
        distribution=archive.distribution.name,
        arch=archive.arch,
        packages=tuple(package.source_of for package in resolution.packages if package.source_of is not None),
    )


def build(plan: SystemPlan, open_deb: OpenDeb, store: BlobStore) -> MinimalBase:
    """The base of pinned packages; its layer goes into the store.

    Raises:
        InputError: a .deb is missing, not what the plan names, or refused.
        TargetError: the disk is full, or the place cannot be written.
    """
    with store.writer(durable=False) as blob:
        writer = LayerWriter(blob.write)
        _write(plan, open_deb, writer)
        diff_id, _ = writer.finish()
    release = find(plan.distribution)
    made = Layer(
        digest=blob.digest,
        diff_id=diff_id,
        size_bytes=store.path(blob.digest).stat().st_size,
        made_by=f"envsnap: {plan.distribution} ({release.codename}), {len(plan.packages)} packages",
    )
    image = put_together(_start(plan.arch), [made], RunConfig(env={"PATH": PATH}, labels={}, workdir="/"))
    return MinimalBase(image=BaseImage(config=image.config, manifest=image.manifest), layer=made)


def _start(arch: str) -> BaseImage:
    """No layers, and a shell as what runs when nothing else is said."""
    empty = scratch(architecture(arch))
    document = {**empty.config.document, "config": {"Cmd": ["bash"]}}
    return replace(
        empty,
        config=Config(raw=canonical(document), document=document, architecture=empty.config.architecture, os=empty.config.os, diff_ids=()),
    )


def _write(plan: SystemPlan, open_deb: OpenDeb, writer: LayerWriter) -> None:
    links = {name: f"usr/{name}" for name in (*_MERGED, *filter(None, [_LIB64.get(plan.arch)]))}
    elsewhere = {"var/run": "run", "var/lock": "run/lock"}
    tree = Tree(
        writer,
        plan.arch,
        _kept(),
        links | elsewhere,
        excludes=_is_left_out,
        reads=lambda path: path.startswith(_READ),
    )
    for path, target in links.items():
        writer.symlink(path, target)
    packages = [tree.install(file, open_deb) for file in sorted(plan.packages, key=lambda file: file.name)]
    present = tree.paths
    for path, mode, uid, gid in _directories():
        tree.directory(path, mode, uid, gid)
    for path, target in elsewhere.items():
        writer.symlink(path, f"/{target}")
    for path, data, mode, gid in (*_made(tree.texts), *_python(packages)):
        if path not in present:
            tree.file(path, data, mode, 0, gid)
    choices = [choice for package in packages for choice in alternatives.asked_for(package.deb.text("postinst"))]
    for path, target in (*_links(), *alternatives.links(choices, present)):
        if path not in present:
            tree.link(path, target)
    for path, text in alternatives.records(choices, present):
        tree.file(path, text.encode())
    database.write(tree.file, b"", packages)
    database.write_triggers(tree.file, packages)
    tree.write_loader_cache(b"")


def _is_left_out(path: str) -> bool:
    """As `_LEFT_OUT` says it to dpkg."""
    parts = path.split("/")
    if path.startswith("usr/share/doc/"):
        return len(parts) > 4 and parts[4:] != ["copyright"]
    return path.startswith(_EXCLUDED)


def _kept() -> Mapping[str, Directory]:
    return {
        "root": Directory(mode=0o700),
        "tmp": Directory(mode=0o1777),
        "var/tmp": Directory(mode=0o1777),
        "run/lock": Directory(mode=0o1777),
    }


def _directories() -> Iterator[tuple[str, int, int, int]]:
    """Those that base-files makes when it is installed: path, mode, user, group."""
    for path in (
        "dev",
        "proc",
        "sys",
        "run",
        "run/lock",
        "tmp",
        "boot",
        "home",
        "mnt",
        "srv",
        "opt",
        "media",
        "root",
        "etc/opt",
        "var/opt",
        "var/tmp",
    ):
        yield path, 0o755, 0, 0
    for name in _LOCAL:
        yield f"usr/local/{name}", 0o755, 0, 0
    yield "var/mail", 0o2775, 0, _MAIL


def _links() -> Iterator[tuple[str, str]]:
    yield "etc/dpkg/origins/default", "debian"
    yield "etc/localtime", "/usr/share/zoneinfo/Etc/UTC"
    yield "usr/bin/sh", "dash"
    yield "usr/local/man", "share/man"
    yield "var/spool/mail", "../mail"


def _made(texts: Mapping[str, bytes]) -> Iterator[tuple[str, bytes, int, int]]:
    """Path, content, mode and group of each file that scripts would make; `texts` are the files that they read."""
    for name, place in _ROOT_PROFILE.items():
        if f"usr/share/base-files/{name}" in texts:
            yield place, texts[f"usr/share/base-files/{name}"], 0o644, 0
    yield from _accounts(_text(texts, "usr/share/base-passwd/passwd.master"), _text(texts, "usr/share/base-passwd/group.master"))
    for template in ("usr/share/libc-bin/nsswitch.conf", "usr/share/base-files/nsswitch.conf"):
        if template in texts:
            yield "etc/nsswitch.conf", texts[template], 0o644, 0
            break
    yield from _certificates(texts)
    for name, (kind, primary, additional) in _PAM.items():
        template = f"usr/share/pam/{name}"
        if template in texts:
            profile = texts[template].decode().replace(f"${kind}_primary", f"{kind}\t{primary}")
            yield (
                f"etc/pam.d/{name}",
                profile.replace(f"${kind}_additional\n", f"{kind}\t{additional}\n" if additional else "").encode(),
                0o644,
                0,
            )
    if "usr/share/readline/inputrc" in texts:
        yield "etc/inputrc", texts["usr/share/readline/inputrc"], 0o644, 0
    yield "etc/shells", _SHELLS.encode(), 0o644, 0
    yield "etc/timezone", b"Etc/UTC\n", 0o644, 0
    yield "etc/dpkg/dpkg.cfg.d/left-out", _LEFT_OUT.encode(), 0o644, 0
    for name in ("etc/environment", "etc/subuid", "etc/subgid", "var/lib/dpkg/diversions", "var/lib/dpkg/statoverride", "var/log/faillog"):
        yield name, b"", 0o644, 0
    yield "var/lib/dpkg/info/format", b"1\n", 0o644, 0
    yield "var/log/lastlog", b"", 0o664, _UTMP
    yield "var/log/wtmp", b"", 0o664, _UTMP
    yield "var/log/btmp", b"", 0o660, _UTMP


def _accounts(passwd: str, group: str) -> Iterator[tuple[str, bytes, int, int]]:
    """base-passwd's master copies in use, with passwords in shadow (and none that would open anything)."""
    day = EPOCH // 86400
    users = [line.split(":") for line in passwd.splitlines() if line]
    groups = [line.split(":") for line in group.splitlines() if line]
    yield "etc/passwd", "".join(":".join([name, "x", *rest]) + "\n" for name, _, *rest in users).encode(), 0o644, 0
    yield "etc/group", "".join(":".join([name, "x", *rest]) + "\n" for name, _, *rest in groups).encode(), 0o644, 0
    yield "etc/shadow", "".join(f"{name}:*:{day}:0:99999:7:::\n" for name, *_ in users).encode(), 0o640, _SHADOW
    yield "etc/gshadow", "".join(f"{name}:*::\n" for name, *_ in groups).encode(), 0o640, _SHADOW


def _certificates(texts: Mapping[str, bytes]) -> Iterator[tuple[str, bytes, int, int]]:
    """Every authority that ca-certificates ships, in the one file that OpenSSL, GnuTLS and Python look into."""
    shipped = sorted(path for path in texts if path.startswith(_CERTIFICATES) and path.endswith(".crt"))
    yield "etc/ssl/certs/ca-certificates.crt", b"".join(texts[path].rstrip(b"\n") + b"\n" for path in shipped), 0o644, 0
    listed = "".join(f"{path.removeprefix(_CERTIFICATES)}\n" for path in shipped)
    yield (
        "etc/ca-certificates.conf",
        f"# Authorities below /usr/share/ca-certificates that are trusted; see update-ca-certificates(8).\n{listed}".encode(),
        0o644,
        0,
    )


def _python(packages: Sequence[Installed]) -> Iterator[tuple[str, bytes, int, int]]:
    if any(package.name == "python3" for package in packages):
        yield (
            "etc/python3/debian_config",
            b"[DEFAULT]\n# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n",
            0o644,
            0,
        )


def _text(texts: Mapping[str, bytes], path: str) -> str:
    try:
        return texts[path].decode("utf-8")
    except (KeyError, UnicodeDecodeError) as error:
        raise InputError("cannot make a base of these packages", why=f"none of them has a readable /{path}") from error
