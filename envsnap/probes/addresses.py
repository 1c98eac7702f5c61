"""Where an index has a wheel that is known by its name and hash. Nothing of it is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from envsnap import redaction
from envsnap.model.plan import PinnedWheel
from envsnap.probes.index import PipConfig
from envsnap.probes.pages import ListedFile, Location, NoProject, Pages, Unanswered
from envsnap.progress import Progress

_THREADS = 12

Listed = tuple[Location, ListedFile]


def addresses(
    wheels: Sequence[PinnedWheel], config: PipConfig, *, offline: bool, cache: Path, ca_bundle: Path | None, progress: Progress
) -> Mapping[str, Listed | str]:
    """By package: the place that lists that very file at an address which others can reach, or why none is known.

    A place whose own address may be a secret is not asked; addresses of the others are to be redacted like any.

    Args:
        offline: nobody is asked; what an index answered before must do.

    Raises:
        InputError: the certificates to trust are not there.
    """
    pages = Pages(cache, offline=offline, ca_bundle=ca_bundle, pip_cert=config.certificates_file(cache))
    locations = [location for location in config.locations() if location.directory is None]
    found: dict[str, Listed | str] = {}
    with progress.task("ask the package indexes", total=len(wheels), unit="packages") as task, ThreadPoolExecutor(_THREADS) as pool:
        for wheel, answer in zip(wheels, pool.map(lambda wheel: _find(wheel, pages, locations), wheels), strict=True):
            found[wheel.name] = answer
            task.advance(1)
    return found


def _find(wheel: PinnedWheel, pages: Pages, locations: Sequence[Location]) -> Listed | str:
    """The lock's own index is asked first."""
    reasons = []
    for location in sorted(locations, key=lambda location: location.label != wheel.index):
        if _is_secret(location):
            reasons.append(f"the address of {urlsplit(location.url).hostname}'s index may be a secret itself")
            continue
        try:
            files = pages.listed(location, wheel.name)
        except NoProject:
            continue
        except Unanswered as error:
            reasons.append(str(error))
            continue
        for file in files:
            if file.name == wheel.file and file.sha256 == wheel.sha256 and file.url is not None:
                return location, file
    return "; ".join(dict.fromkeys(reasons)) or "no index that pip is configured to ask lists it at an address that may be written"


def _is_secret(location: Location) -> bool:
    """Whether who knows the address may read what lies there: some hosts put a token into the path, which nothing would take out."""
    return any(map(redaction.is_random, urlsplit(location.url).path.split("/"))) or redaction.is_secret_value(redaction.url(location.url))
