"""Package URLs: names of packages that scanners and databases of vulnerabilities share (the purl specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from envsnap.errors import UsageError
from envsnap.oci.reference import parse_reference


class PackageFile(Protocol):
    """A .deb that is put on a base. Attributes: path: below its archive; sha256: hex digits, of the file."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def pypi(name: str, version: str, qualifiers: Mapping[str, str] | None = None) -> str:
    """A distribution. Args: name: normalised as PEP 503 says."""
    return _purl(f"pypi/{name}", version, qualifiers)


def generic(name: str, version: str) -> str:
    """What no ecosystem names."""
    return _purl(f"generic/{quote(name, safe='')}", version)


def conda(name: str, version: str, build: str, url: str | None) -> str:
    """A package of conda. Args: url: in its channel, whose last parts are CHANNEL/SUBDIRECTORY/FILE."""
    qualifiers = {"build": build}
    if url is not None:
        place, _, file = url.rpartition("/")
        channel, _, subdirectory = place.rpartition("/")
        kind = "conda" if file.endswith(".conda") else "tar.bz2"
        qualifiers |= {"channel": channel.rpartition("/")[2], "subdir": subdirectory, "type": kind}
    return _purl(f"conda/{quote(name.lower(), safe='')}", version, qualifiers)


def deb(name: str, version: str, arch: str, distribution: str) -> str:
    """A package of dpkg. Args: distribution: "debian 12"."""
    vendor, _, release = distribution.partition(" ")
    distro = f"{vendor}-{release}" if release else vendor
    return _purl(f"deb/{quote(vendor, safe='')}/{quote(name.lower(), safe='')}", version, {"arch": arch, "distro": distro})


def oci(reference: str, digest: str | None) -> str:
    """An image of a registry; of what is no name, its text as a generic name."""
    try:
        name = parse_reference(reference)
    except UsageError:
        return generic(reference, digest or "")
    qualifiers = {"repository_url": f"{name.registry}/{name.repository}", "tag": name.tag}
    return _purl(f"oci/{name.repository.rpartition('/')[2]}", digest or "", qualifiers)


def _purl(path: str, version: str, qualifiers: Mapping[str, str] | None = None) -> str:
    """Put together; empty parts are left out, as the specification asks."""
    given = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    asked = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in given)
    return f"pkg:{path}{'@' + quote(version, safe=':') if version else ''}{'?' + asked if asked else ''}"
