"""Where a distribution's archives lie: from a setting, else from the host's own apt configuration (sources.list(5)).

No address of a mirror stands in envsnap. Whatever a mirror sends is held against signatures, so it need not be trusted, nor encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from envsnap.debian.control import stanzas
from envsnap.debian.distributions import COMPONENTS, Distribution
from envsnap.errors import InputError, PlanError, UsageError
from envsnap.model.debian import ArchiveName

_SCHEMES = ("http://", "https://", "file:")
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s*)?(?P<url>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One suite of one archive. Attributes: url: of the archive, without a "/" at its end; may hold credentials: never shown as it is."""

    url: str
    suite: str
    components: tuple[str, ...]
    archive: ArchiveName


def sources(distribution: Distribution, *, mirror: str | None, etc_apt: Path = Path("/etc/apt")) -> tuple[Source, ...]:
    """All suites of a distribution that are configured, in the distribution's order.

    Args:
        mirror: "URL" or "URL,URL-OF-SECURITY-UPDATES"; None for the host's configuration. Debian keeps security updates in an archive of
            their own: with one URL it is the one beside it, "…/debian-security" for "…/debian".

    Raises:
        UsageError: `mirror` is not that.
        PlanError: nothing is configured for this distribution.
    """
    if mirror is not None:
        return _of_mirror(distribution, mirror)
    archives = dict(distribution.suites)
    found: dict[str, Source] = {}
    for url, suite, components in _configured(etc_apt):
        if suite in archives and suite not in found:
            found[suite] = Source(url=url, suite=suite, components=components, archive=archives[suite])
    if distribution.codename not in found:
        raise PlanError(
            f"no mirror of {distribution.name} is known",
            why=f"none is set, and this host's {etc_apt} has none for {distribution.codename}",
            hint="--apt-mirror URL, or ENVSNAP_APT_MIRROR",
        )
    return tuple(found[suite] for suite, _ in distribution.suites if suite in found)


def _of_mirror(distribution: Distribution, mirror: str) -> tuple[Source, ...]:
    urls = [url.strip().rstrip("/") for url in mirror.split(",")]
    if not 1 <= len(urls) <= 2 or not all(map(_is_address, urls)):
        # What is no address is not shown: it may hold the password of one.
        raise UsageError(
            "--apt-mirror is not the address of a mirror", hint="--apt-mirror URL, or --apt-mirror URL,URL-OF-SECURITY-UPDATES"
        )
    security = urls[1] if len(urls) == 2 else urls[0] + ("-security" if distribution.vendor == "debian" else "")
    return tuple(
        Source(
            url=urls[0] if archive == "main" else security,
            suite=suite,
            components=COMPONENTS[distribution.vendor],
            archive=archive,
        )
        for suite, archive in distribution.suites
    )


def _is_address(url: str) -> bool:
    try:
        return url.startswith(_SCHEMES) and (url.startswith("file:") or bool(urlsplit(url).hostname))
    except ValueError:  # half an IPv6 address
        return False


def _configured(etc_apt: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """URL, suite and components of each binary source that apt itself would read and that can be read here."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.suffix not in (".list", ".sources"):
            continue
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue  # unreadable for this user, or not there: then it configures nothing
        entries = _one_line(text) if file.suffix == ".list" else _deb822(text)
        yield from ((url.rstrip("/"), suite, components) for url, suite, components in entries if _is_address(url))


def _one_line(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for line in text.splitlines():
        found = _ONE_LINE.match(line.strip())
        if found is not None:
            yield found["url"], found["suite"], tuple(found["components"].split())


def _deb822(text: str) -> Sequence[tuple[str, str, tuple[str, ...]]]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[tuple[str, str, tuple[str, ...]]] = []
    try:
        for fields in stanzas(without_comments, what="cannot read apt's sources"):
            named = {name.lower(): value.split() for name, value in fields.items()}
            if "deb" not in named.get("types", ()) or named.get("enabled") == ["no"]:
                continue
            found += [
                (url, suite, tuple(named.get("components", ()))) for url in named.get("uris", ()) for suite in named.get("suites", ())
            ]
    except InputError:
        return ()  # apt does not read it either
    return found
