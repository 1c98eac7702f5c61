"""Which files of a base are whose."""

from __future__ import annotations

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.guest.paths import install_prefix
from envsnap.guest.record import installed_path, read_record
from envsnap.model.base import BaseInventory


def files_of_packages(inventory: BaseInventory, blobs: BlobStore) -> dict[str, dict[str, str]]:
    """Package -> path from the root -> SHA-256, hex, of what its RECORD names; "" for a file without one. Nothing where no RECORD is known.

    Raises:
        InputError: a RECORD that the inventory names is missing or was changed.
    """
    found: dict[str, dict[str, str]] = {}
    for package in inventory.packages:
        if package.record is None:
            found[package.name] = {}
            continue
        site = f"/{package.site}"
        prefix = install_prefix(site)
        text = blobs.read(package.record).decode("utf-8", "surrogateescape")
        entries, malformed = read_record(text, site, prefix)
        if malformed:
            raise InputError(f"cannot read the RECORD of the base's {package.name}", why=f"line {malformed[0]} is none")
        found[package.name] = {installed_path(entry.path, site, prefix).lstrip("/"): entry.sha256 for entry in entries}
    return found
