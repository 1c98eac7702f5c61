"""What a shell offers for a word that is a path among other things: an image or a lock, an interpreter by path or by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  # click's signature
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def directories(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001  # click's signature
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]
