"""`--ca-bundle`, `--registry-mirror`, `--plain-http`: how registries are asked, the same for every command that may ask one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envsnap.cli.parameters import FILE

if TYPE_CHECKING:
    from envsnap.registry.client import Registry

_MIRROR = "--registry-mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """How registries are to be asked.

    Attributes:
        ca_bundle: certificates to trust; None for those that the environment names.
        mirrors: registry -> what is asked before it, in this order.
        plain_http: registries and mirrors that are asked without encryption.
    """

    ca_bundle: Path | None
    mirrors: Mapping[str, tuple[str, ...]]
    plain_http: frozenset[str]

    def environment(self) -> dict[str, str]:
        """For what asks registries and indexes: `ca_bundle` comes before what the environment says of certificates."""
        bundle = {"REQUESTS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle is not None else {}
        return {**os.environ, **bundle}

    def client(self) -> Registry:
        """A client that asks so; whoever wants it closes it."""
        from envsnap.registry.client import Registry

        return Registry(self.environment(), mirrors=self.mirrors, plain_http=self.plain_http)

    def hasty_client(self) -> Registry:
        """One that gives up soon, for what is good to know and is not needed."""
        from envsnap.registry.client import Registry
        from envsnap.registry.patience import Patience

        soon = Patience(attempts=2, first_attempts=1, connect_s=3, read_s=5, total_s=10)
        return Registry(self.environment(), mirrors=self.mirrors, plain_http=self.plain_http, patience=soon)


def registry_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the three options; the command receives them as one value, `registries`."""

    @wraps(function)  # brings what click keeps of the options declared so far, too
    def invoke(*args: Any, ca_bundle: Path | None, registry_mirror: tuple[str, ...], plain_http: tuple[str, ...], **kwargs: Any) -> None:
        asked = Registries(ca_bundle=ca_bundle, mirrors=_by_registry(registry_mirror), plain_http=frozenset(plain_http))
        function(*args, registries=asked, **kwargs)

    options = (
        click.option(
            "--ca-bundle",
            type=FILE,
            metavar="F",
            help="CA certificates to trust, as of a proxy or a registry of your own; never in a layer.",
        ),
        click.option(
            _MIRROR,
            multiple=True,
            metavar="HOST=MIRROR",
            help="Read a registry's images from a mirror first; digests are checked whoever answers.",
        ),
        click.option("--plain-http", multiple=True, metavar="HOST", help="A registry that is reached without encryption."),
    )
    for option in reversed(options):
        invoke = option(invoke)
    return invoke


def _by_registry(texts: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Registry -> its mirrors, of HOST=MIRROR."""
    mirrors: dict[str, tuple[str, ...]] = {}
    for text in texts:
        host, equals, mirror = text.partition("=")
        if not (host and equals and mirror):
            raise click.BadParameter(f"{text!r} is not HOST=MIRROR", param_hint=_MIRROR)
        mirrors[host] = (*mirrors.get(host, ()), mirror)
    return mirrors
