"""An image by its name, without its layers: what envsnap's own store has, where nobody else is meant."""

from __future__ import annotations

from pathlib import Path

from envsnap import catalog
from envsnap.errors import EngineError
from envsnap.oci.image import Image
from envsnap.oci.reference import is_id, parse_reference
from envsnap.registry.client import Registry
from envsnap.workflows import local


def here(name: str, registry: Registry, cache: Path) -> Image | None:
    """What envsnap's own store has under a name, or a digest; None where a registry is to be asked.

    A registry that the name names comes first, for a tag may have moved there. One that it only implies has nothing to say of what was made
    here: nobody meant a public image that happens to be called so.

    Raises:
        EngineError: nothing has that digest here, or the registry cannot be reached. UsageError: it is no name.
    """
    found = local.find(name, cache)
    if is_id(name):
        if found is None:
            raise EngineError(f"there is no image {name} here", hint="name it as its registry does: HOST/REPOSITORY@sha256:…")
        return found
    if found is None or found.manifest is None:
        return None
    names_registry = name.startswith(f"{parse_reference(name).registry}/")
    return found if not names_registry or registry.head(name) is None else None


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
