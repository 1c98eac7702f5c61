"""The options that plan, render and build share, and what they mean to the workflows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from envsnap import redaction
from envsnap.cli.parameters import FILE
from envsnap.cli.registry_options import registry_options
from envsnap.errors import UsageError

if TYPE_CHECKING:
    from envsnap.engines.docker import DockerEngine
    from envsnap.progress import Progress
    from envsnap.workflows.plan import PlanRequest
    from envsnap.workflows.system import Packages

F = TypeVar("F", bound=Callable[..., Any])
_TYPED = ParameterSource.COMMANDLINE
_SET = (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)


def apt_options(function: F) -> F:
    """Where a distribution's packages are fetched."""
    options = (
        click.option(
            "--apt-mirror",
            envvar="ENVSNAP_APT_MIRROR",
            metavar="URL",
            help="Where the distribution's packages are fetched.  [default: the host's]",
        ),
        click.option(
            "--apt-keyring",
            type=FILE,
            envvar="ENVSNAP_APT_KEYRING",
            metavar="F",
            help="OpenPGP keys of a mirror that signs with its own.  [default: the distribution's]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def plan_options(function: F) -> F:
    """`--base` and what else changes a plan, collected by `request`; and how registries and mirrors are asked."""
    options = (
        click.argument("lock", type=click.Path(path_type=Path)),
        click.option(
            "--base",
            metavar="REF|ngc|slim",
            help="Base image; debian:bookworm is made here of Debian's own packages.  [default: the last plan's, else ngc]",
        ),
        click.option("--refresh-base", is_flag=True, help="Resolve the base's tag anew; without it the digest of the last plan stays."),
        click.option("--env", multiple=True, metavar="K=V", help="Set a variable in the image."),
        click.option("--no-source", is_flag=True, help="Leave the project's files out of the image."),
        click.option(
            "--allow-unproven",
            multiple=True,
            metavar="NAME|all",
            help="Let a package in although nothing vouches for it, or leave it out if nothing can be installed for it.",
        ),
        click.option("--allow-replace", multiple=True, metavar="NAME", help="Let one of NVIDIA's own builds be replaced in its image."),
        click.option("--pyc/--no-pyc", default=True, show_default=True, help="Compile modules at build time: imports are faster."),
        click.option(
            "--project",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            default=Path(),
            metavar="DIR",
            help="Where the project's repository lies.  [default: this directory]",
        ),
        registry_options,
        click.option("--offline", is_flag=True, help="Ask nobody: what is kept from earlier times must suffice."),
        apt_options,
    )
    for option in reversed(options):
        function = option(function)
    return function


def request(
    *,
    offline: bool,
    base: str | None,
    refresh_base: bool,
    env: tuple[str, ...],
    no_source: bool,
    allow_unproven: tuple[str, ...],
    allow_replace: tuple[str, ...],
    pyc: bool,
    project: Path,
) -> PlanRequest:
    """What the options ask of a plan. Raises UsageError: two that exclude each other."""
    from packaging.utils import canonicalize_name

    from envsnap.workflows.plan import PlanRequest

    if refresh_base and offline:
        raise UsageError("--refresh-base asks the registry, and --offline asks nobody", hint="leave one of the two out")
    return PlanRequest(
        base=base,
        refresh_base=refresh_base,
        env=dict(map(_assignment, env)),
        no_source=no_source,
        allow_unproven=frozenset(canonicalize_name(name) for name in allow_unproven),
        allow_replace=frozenset(canonicalize_name(name) for name in allow_replace),
        pyc=pyc,
        project=project,
    )


def engine_if_any() -> DockerEngine | None:
    """The Docker engine where one answers; planning works without."""
    from envsnap.engines.docker import DockerEngine

    engine = DockerEngine(os.environ)
    return engine if engine.is_there() else None


def packages(
    lock: Path | None,
    cache: Path,
    apt_mirror: str | None,
    apt_keyring: Path | None,
    ca_bundle: Path | None,
    *,
    offline: bool,
    fetch: bool,
    refresh: bool,
    progress: Progress,
) -> Packages:
    """The packages of distributions, as the options say. Args: lock: those that are kept beside it are at hand."""
    from envsnap.debian.archive import Settings
    from envsnap.workflows import places
    from envsnap.workflows.system import Packages

    settings = Settings(mirror=apt_mirror, keyring=apt_keyring, offline=offline, ca_bundle=ca_bundle)
    vendored = places.packages_of(lock) if lock is not None else None
    return Packages(settings, cache, fetch=fetch and not offline, refresh=refresh, progress=progress, vendored=vendored)


def source_options(function: F) -> F:
    """Where what an assembled image is made of comes from."""
    options = (click.option("--pip-conf", type=FILE, metavar="F", help="pip configuration (indexes, credentials); never in a layer."),)
    for option in reversed(options):
        function = option(function)
    return function


def as_build() -> str:
    """The build of what this command planned, as it is typed: with what was said here that build knows, too, and is not told already."""
    from envsnap.cli import main
    from envsnap.cli.build import command as build

    context = click.get_current_context()
    known = {parameter.name for parameter in build.params} - main.SHARED
    words = ["envsnap", "build"]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        said = source is _TYPED or (source in _SET and not parameter.envvar)  # a setting is plan's own, unless its variable is everybody's
        if said and parameter.name in known:
            words += _words(parameter, context.params[parameter.name])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    if isinstance(parameter, click.Argument):
        return [str(value)]
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return (parameter.opts if value else parameter.secondary_opts)[:1]  # a flag without a --no- is left out where it is false
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (parameter.opts[0], redaction.text(str(one)))]


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not (name.isascii() and name.isidentifier()):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    if redaction.is_secret_name(name) or redaction.is_secret_value(value):
        what = f"{name} looks like a secret, and an image shows it to everybody; docker run -e {name} gives it at run time"
        raise click.BadParameter(what, param_hint="--env")
    return name, value
