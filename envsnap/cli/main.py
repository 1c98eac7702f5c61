"""`envsnap`: the group, its shared options, and the one place where an error becomes an exit code."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import click

from envsnap import __version__, redaction, settings
from envsnap.cli.console import Console, guard_streams
from envsnap.errors import EXIT_NO, EXIT_OK, EnvsnapError, InputError, InterruptedByUser, UsageError

COMMANDS = {  # each with its line in `envsnap --help`, which imports none of them
    "capture": "Write the facts of an environment that works into a lock.",
    "relock": "The same environment with packages changed on purpose.",
    "diff": "Every difference of two locks, or of a lock and what is there now.",
    "plan": "What build would do, and why.",
    "render": "Write the build context to images/NAME/.",
    "build": "Build the lock's image, check it, tag it and record it.",
    "verify": "Does the image compute what the environment computed?",
    "run": "Run an image with all that training needs.",
    "export": "A lock in the formats of other tools: its packages, or how its image is run.",
    "check": "Will an image run on this host, and is it its lock's? No layer is pulled.",
    "sign": "Sign an image of a registry, as cosign does.",
    "verify-signature": "Did the owner of a key sign exactly this image?",
    "push": "Send an image to registries.",
    "pull": "Bring an image of a registry here.",
    "save": "Write an image into a file.",
    "load": "Take an image from a file.",
    "bases": "What is known of base images.",
    "doctor": "What this host can do, and how to mend what it cannot.",
    "config": "Show each setting with its value and its source.",
    "cache": "Show what is kept for later builds, or free it.",
}
_AS_IT_IS = "\b\n"
"""Before a paragraph that click is not to wrap: an example is copied, and names have hyphens."""
SETTINGS_FILE = "envsnap.settings.path"
"""In a context's `meta`: the settings file that was read, a `Path`."""
SHARED = frozenset({"json", "quiet", "verbose", "help"})


class Commands(click.Group):
    """The commands, each in a module of its own, imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"envsnap.cli.{cmd_name.replace('-', '_')}").command
        for option in command.params:
            if isinstance(option, click.Option) and option.multiple and option.type is click.STRING:
                option.type = _Texts()
        for option, name in ((option, _long(option)) for option in command.params if isinstance(option, click.Option)):
            if option.name != name and option.envvar is None:  # click asks for the variable of its name in Python
                option.envvar = f"ENVSNAP_{cmd_name}_{name}".upper().replace("-", "_")
        if command.epilog and not command.epilog.startswith(_AS_IT_IS):
            command.epilog = _AS_IT_IS + command.epilog
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not {"-h", "--help"} & set(_own(args)):  # help must not fail for a typo in a settings file
            ctx.default_map = default_map(self, ctx, Path.cwd())
            ctx.ensure_object(Console).json = wants_json(args, ctx.default_map)
        return super().resolve_command(ctx, args)


class _Texts(click.types.StringParamType):
    """Texts of an option that may be given more than once: a variable has them as a shell would, so that one may hold a blank."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        try:
            return shlex.split(rv)
        except ValueError as error:
            raise click.BadParameter(f"{rv!r} is not quoted as in a shell: {error}") from None


def _own(words: Iterable[str]) -> list[str]:
    """The words that are envsnap's: what follows "--" is somebody else's command."""
    return list(takewhile(lambda word: word != "--", words))


def wants_json(words: Sequence[str], file: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `--json` is set, by flag, variable or file, before the words are parsed: they may not be what a command can take.

    Args:
        words: the whole command line.
        file: what a settings file says, as `default_map` has it.
    """
    own = _own(words)
    command = next((word for word in own if not word.startswith("-")), "")
    variable = os.environ.get(f"ENVSNAP_{command}_JSON".upper().replace("-", "_"))
    try:
        return "--json" in own or bool(click.BOOL.convert(variable or file.get(command, {}).get("json", False), None, None))
    except click.BadParameter:  # which is what parsing will say, to a person
        return False


def _long(option: click.Option) -> str:
    """The option as it is spelt, as a name in Python."""
    return next(word for word in option.opts if word.startswith("--"))[2:].replace("-", "_")


def default_map(group: click.Group, ctx: click.Context, start: Path) -> dict[str, dict[str, Any]]:
    """What the settings file says, keyed as click wants it. Raises InputError."""
    known: dict[str, frozenset[str]] = {}
    spelt: dict[str, dict[str, click.Option]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        spelt[name] = {
            word.lstrip("-"): parameter
            for parameter in command.params
            for word in (*parameter.opts, *parameter.secondary_opts)
            if isinstance(parameter, click.Option) and word.startswith("--") and parameter.name
        }
        known[name] = frozenset(spelt[name])
    found = settings.read(start, known)
    if found.path is not None:
        ctx.meta[SETTINGS_FILE] = found.path
    map_: dict[str, dict[str, Any]] = {name: {} for name in found.values}
    for name, options in found.values.items():
        for word, value in options.items():
            option = spelt[name][word]
            map_[name][str(option.name)] = _setting(option, value, f"{found.path}: {name}.{word}", off=f"--{word}" in option.secondary_opts)
    return map_


def _setting(option: click.Option, value: Any, place: str, *, off: bool) -> Any:
    """A value of a settings file as what would be typed. Args: off: the name is that of a flag's other side. Raises InputError."""
    if off and not isinstance(value, bool):
        raise InputError(f"{place} is true or false, not {value!r}")
    if isinstance(value, bool) and (option.is_flag or option.count):
        return value is not off
    if option.multiple and not isinstance(value, list):
        raise InputError(f"{place} may be given more than once, and so is a list", hint=f'{place.rpartition(".")[2]} = ["…"]')
    values = value if option.multiple else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in values):
        raise InputError(f"{place} has a value that cannot be typed", why="it is a text or a number" + " of a list" * option.multiple)
    return [str(one) for one in values] if option.multiple else str(value)


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "ENVSNAP", "help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"""{_AS_IT_IS}Example:  envsnap capture --smoke
          envsnap build lockfiles/yolo-train.yaml
          envsnap verify lockfiles/yolo-train.yaml""",
)
@click.version_option(__version__, prog_name="envsnap")
def group() -> None:
    """Make a GPU training environment that works a fact: capture it, build it as an image, prove that it computes the same."""


def shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """`--json`, `-q`, `-v`: every command has them; the command receives the invocation's `Console`."""

    def invoke(*args: Any, json: bool, quiet: bool, verbose: int, **kwargs: Any) -> None:
        console = click.get_current_context().ensure_object(Console)
        console.json, console.verbosity = json, -1 if quiet else verbose
        function(console, *args, **kwargs)

    invoke.__name__, invoke.__doc__ = function.__name__, function.__doc__
    invoke.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    options = (
        click.option("--json", is_flag=True, help="Print one JSON document on stdout and nothing else there."),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors."),
        click.option("-v", "--verbose", count=True, help="Show foreign programs' logs; twice: tracebacks."),
    )
    for option in reversed(options):
        invoke = option(invoke)
    return invoke


def answer_no() -> NoReturn:
    """The answer is no (contract: exit 7). Not an error."""
    raise click.exceptions.Exit(EXIT_NO)


def main(arguments: Sequence[str] | None = None, *, held: Iterable[int] = ()) -> NoReturn:
    """The command line. Raises SystemExit with a code of the contract.

    Args:
        held: signals that were blocked while this was imported, to be let through.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    guard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(json=wants_json(words, {}))  # for errors of parsing; a command then says how to talk
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        sys.exit(_run(words, console))
    except click.ClickException as error:
        failure: EnvsnapError = _usage(error)
    except (KeyboardInterrupt, click.Abort):
        failure = InterruptedByUser("interrupted", hint="nothing half-made was left behind; run it again")
    except EnvsnapError as error:
        failure = error
    except Exception as error:  # noqa: BLE001  # the one place where a bug becomes a sentence
        failure = _bug(error)
    console.error(failure)
    if console.verbosity >= 2 and failure.__cause__ is not None:
        sys.stderr.write(redaction.text("".join(traceback.format_exception(failure.__cause__))))
    sys.exit(failure.exit_code)


def _run(words: list[str], console: Console) -> int:
    """The exit code of what was asked for, where it did not fail."""
    try:
        return group.main(words, prog_name="envsnap", standalone_mode=False, obj=console) or EXIT_OK
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_OK


def _usage(error: click.ClickException) -> EnvsnapError:
    context = getattr(error, "ctx", None)
    return UsageError(error.format_message(), hint=f"{context.command_path if context is not None else 'envsnap'} --help")


def _bug(error: Exception) -> EnvsnapError:
    bug = EnvsnapError(
        "this is a bug of envsnap", why=f"{type(error).__name__}: {error}", hint="run it again with -vv and report what it prints"
    )
    bug.__cause__ = error
    return bug


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
