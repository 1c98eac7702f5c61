"""An image by its name, without its layers: what envsnap's own store has, where no registry has the word."""

from __future__ import annotations

from pathlib import Path

from envsnap import catalog
from envsnap.errors import EngineError
from envsnap.oci.image import Image
from envsnap.oci.reference import is_id
from envsnap.registry.client import Registry
from envsnap.workflows import local


def here(name: str, registry: Registry, cache: Path) -> Image | None:
    """What envsnap's own store has under a name, or a digest; None where a registry is to be asked.

    What is in the store alone is what was meant: no registry is asked, where it may be called the same by chance. Else the registry comes
    first, for a tag may have moved there; one that does not answer has no word about an image that it was never sent.

    Raises:
        EngineError: nothing has that digest here, or the registry cannot be reached. UsageError: it is no name.
    """
    found = local.named(name, cache)
    if is_id(name):
        if found is None:
            raise EngineError(f"there is no image {name} here", hint="name it as its registry does: HOST/REPOSITORY@sha256:…")
        return found.image
    if found is None or found.image.manifest is None:
        return None
    return found.image if found.place == "here" or not _has(registry, name, found.place) else None


def _has(registry: Registry, name: str, place: local.Place) -> bool:
    try:
        return registry.head(name) is not None
    except EngineError:
        if place == "engine":  # as a public registry denies access to what it does not have
            return False
        raise


def base_made_here(name: str, cache: Path) -> Image | None:
    """The base of that name that was last made of its distribution's packages; None where no such base is called so ("debian:bookworm" is).

    Raises:
        EngineError: it was never made here.
    """
    if name not in catalog.load().assembled:
        return None
    found = local.latest(f"envsnap/{name}-", cache)  # as `system.Packages` names them
    if found is None:
        raise EngineError(
            f"the base {name} was never made here",
            why="it is put together of its distribution's packages: no registry is asked for it",
            hint=f"envsnap plan LOCK --base {name} --fetch   makes it",
        )
    return found
