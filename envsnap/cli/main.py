"""`envsnap`: the group, its shared options, and the one place where an error becomes an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from envsnap import __version__, settings
from envsnap.cli.console import Console
from envsnap.errors import EXIT_INTERRUPTED, EnvsnapError

COMMANDS = ("capture", "diff", "plan", "render", "build", "verify", "doctor", "config")
SHARED = frozenset({"json", "quiet", "verbose", "help"})


class Commands(click.Group):
    """The commands, each in a module of its own, imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"envsnap.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.default_map = default_map(self, ctx, Path.cwd())
        return super().resolve_command(ctx, args)


def default_map(group: click.Group, ctx: click.Context, start: Path) -> dict[str, dict[str, Any]]:
    """What the settings file says, keyed as click wants it. Raises InputError."""
    known: dict[str, frozenset[str]] = {}
    spelt: dict[str, dict[str, str]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        spelt[name] = {
            word.lstrip("-"): parameter.name
            for parameter in command.params
            for word in (*parameter.opts, *parameter.secondary_opts)
            if isinstance(parameter, click.Option) and word.startswith("--") and parameter.name
        }
        known[name] = frozenset(spelt[name])
    values = settings.read(start, known).values
    return {name: {spelt[name][option]: value for option, value in options.items()} for name, options in values.items()}


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "ENVSNAP", "help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example:  envsnap capture --smoke  &&  envsnap build lockfiles/yolo-train.yaml  &&  envsnap verify lockfiles/yolo-train.yaml",
)
@click.version_option(__version__, prog_name="envsnap")
def group() -> None:
    """Make a GPU training environment that works a fact: capture it, build it as an image, prove that it computes the same."""


def shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--json`, `-q`, `-v`: every command has them; the command receives a `Console`."""

    def invoke(*args: Any, json: bool, quiet: bool, verbose: int, **kwargs: Any) -> None:
        console = Console(json=json, verbosity=-1 if quiet else verbose)
        click.get_current_context().obj = console
        function(console, *args, **kwargs)

    invoke.__name__, invoke.__doc__ = function.__name__, function.__doc__
    invoke.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    options = (
        click.option("--json", is_flag=True, help="Print one JSON document on stdout and nothing else there."),
        click.option("-q", "--quiet", is_flag=True, help="Only errors."),
        click.option("-v", "--verbose", count=True, help="Show foreign programs' logs; twice: tracebacks."),
    )
    for option in reversed(options):
        invoke = option(invoke)
    return invoke


def answer_no() -> NoReturn:
    """The answer is no (contract: exit 7). Not an error."""
    from envsnap.errors import EXIT_NO

    raise click.exceptions.Exit(EXIT_NO)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. Raises SystemExit with a code of the contract."""
    signal.signal(signal.SIGTERM, _interrupt)
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(json="--json" in words, verbosity=_verbosity(words))
    try:
        sys.exit(group.main(words, prog_name="envsnap", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        _usage(error, console)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\ninterrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    except EnvsnapError as error:
        console.error(error)
        if console.verbosity >= 2:
            traceback.print_exc()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has left; not an error of ours
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  # the one place where a bug becomes a sentence
        console.error(_bug(error))
        if console.verbosity >= 2:
            traceback.print_exc()
        sys.exit(1)


def _verbosity(words: Sequence[str]) -> int:
    """Before click has parsed: errors of parsing obey -q and -v too."""
    short = sum(word.count("v") for word in words if word.startswith("-") and not word.startswith("--") and set(word[1:]) <= set("vq"))
    return short + words.count("--verbose")


def _usage(error: click.ClickException, console: Console) -> NoReturn:
    from envsnap.errors import UsageError

    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else "envsnap --help"
    console.error(UsageError(error.format_message(), hint=hint))
    sys.exit(UsageError.exit_code)


def _bug(error: Exception) -> EnvsnapError:
    return EnvsnapError(
        "this is a bug of envsnap",
        why=f"{type(error).__name__}: {error}",
        hint="run it again with -vv and report what it prints",
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
