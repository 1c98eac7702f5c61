"""conda's `environment.yml` of a lock: each package of conda by version and build, and what pip installs beside them.

Not conda's explicit list of addresses and hashes (`@EXPLICIT`), exact as that is: it has no place for what pip installed, which in an
environment for training is most of it, nor for an environment that conda did not make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from envsnap.model.lock import EnvLock, LockedConda, LockedCondaPackage
from envsnap.render.exchange import OF_CONDA, Parts, comments, heading, missing, parts, wheels_directory

_CHANNEL = "conda-forge"
"""Where the interpreter comes from that conda did not install at the capture."""


def text(lock: EnvLock, repositories: Mapping[str, str], *, file: str) -> str:
    """The file.

    Args:
        repositories: as for `exchange.requirements`. file: its name, for the reader.
    """
    found = beside_conda(lock)
    head = [*heading(lock, f"conda env create -f {file}"), *_lost(lock, found), *missing(lock, found)]
    document = {
        "name": lock.name,
        "channels": [*_channels(lock.python.conda), "nodefaults"],
        "dependencies": _dependencies(lock, found, repositories),
    }
    body = yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=False)
    return "".join((*(f"{comments(sentence)}\n" for sentence in head), body))


def beside_conda(lock: EnvLock) -> Parts:
    """The packages of a lock without conda's distributions, which come with its packages."""
    found = parts(lock)
    if lock.python.conda is None:
        return found
    return found._replace(left_out=tuple(one for one in found.left_out if one.why != OF_CONDA))


def unlike(lock: EnvLock, shown: Callable[[Sequence[str]], str] = ", ".join) -> Iterator[str]:
    """What of conda's packages is not what its channels have, a sentence for each reason. Args: shown: how names are listed."""
    packages = lock.python.conda.packages if lock.python.conda is not None else ()
    edited = [package.name for package in packages if package.modified]
    nowhere = [package.name for package in packages if package.url is None]
    if edited:
        yield f"edited in place, and a channel's {'are' if len(edited) > 1 else 'is'} not: {shown(edited)}"
    if nowhere:
        yield f"of no channel that others can reach: {shown(nowhere)}"


def _lost(lock: EnvLock, found: Parts) -> Iterator[str]:
    yield (
        "This format has no hashes: conda is told versions and builds, pip versions alone. Exact are the image, and for pip's packages "
        "--format requirements or pylock."
    )
    yield from (f"{sentence[0].upper()}{sentence[1:]}" for sentence in unlike(lock))
    if lock.python.conda is None:
        yield f"conda did not make this environment; the interpreter comes from {_CHANNEL}."
    elsewhere = sorted({wheel.index for wheel in found.wheels if wheel.index})
    if elsewhere:
        yield f"pip must be told the addresses of these indexes (pip.conf): {', '.join(elsewhere)}."


def _channels(conda: LockedConda | None) -> list[str]:
    """By address, those first that more packages are of."""
    counts: dict[str, int] = {}
    for package in conda.packages if conda is not None else ():
        if package.url is not None:
            channel = package.url.rpartition("/")[0].rpartition("/")[0]
            counts[channel] = counts.get(channel, 0) + 1
    return sorted(counts, key=lambda channel: (-counts[channel], channel)) or [_CHANNEL]


def _dependencies(lock: EnvLock, found: Parts, repositories: Mapping[str, str]) -> list[Any]:
    conda = lock.python.conda
    packages = [_pinned(package) for package in conda.packages] if conda is not None else [f"python={lock.python.version}"]
    lines = [f"{wheel.name}=={wheel.version}" for wheel in found.wheels]
    folder = wheels_directory(lock)
    for package in found.packed:
        repository = repositories.get(package.name)
        lines.append(f"{package.name} @ {repository}" if repository is not None else f"./{folder}/{package.file}")
    if not lines:
        return packages
    has_pip = conda is not None and any(package.name == "pip" for package in conda.packages)
    return [*packages, *([] if has_pip else ["pip"]), {"pip": sorted(lines)}]


def _pinned(package: LockedCondaPackage) -> str:
    return f"{package.name}={package.version}={package.build}"
