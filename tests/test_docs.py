"""The documents: links lead somewhere, commands and options exist, what is listed is there."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import click
import pytest

from envsnap.cli import main

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in main.COMMANDS if f"envsnap {name}" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_that_is_shown_parses(page: Path) -> None:
    for line in re.findall(r"^\$ (envsnap .+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        _, name, *words = shlex.split(line.partition("  #")[0])
        command = main.group.get_command(click.Context(main.group), name)
        assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        ours = takewhile(lambda word: word != "--", words)  # what follows is another program's
        assert {word for word in ours if word.startswith("-")} <= known, line


def test_every_sample_lock_and_record_can_be_read() -> None:
    from envsnap import lockfile
    from envsnap.workflows.records import read_record

    for path in (ROOT / "lockfiles").glob("*.yaml"):
        lockfile.loads(path.read_bytes(), place=path.name)
    for path in (ROOT / "images").glob("*/image.yaml"):
        assert read_record(path.parent) is not None, path
