"""Progress on a terminal: one display for all that runs at the same time, gone when it is over."""

from __future__ import annotations

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from envsnap.cli.amounts import amount, duration, part
from envsnap.progress import Unit

WIDTH = 20  # of a bar, in columns


class Bars:
    """The display. It is open while there is a bar in it; whatever is written meanwhile comes above it."""

    def __init__(self) -> None:
        fixed = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=fixed),
            BarColumn(bar_width=WIDTH, style="dim", complete_style="cyan", finished_style="cyan", pulse_style="cyan", table_column=fixed),
            _Amounts(table_column=fixed),
            _Status(),
            console=RichConsole(stderr=True),
            transient=True,
        )

    def add(self, title: str, unit: Unit) -> int:
        if not self._progress.tasks:
            self._progress.start()
        return self._progress.add_task(title, total=None, unit=unit, text="")

    def update(self, bar: int, *, done: int, limit: int | None, text: str) -> None:
        self._progress.update(bar, completed=done, total=limit, text=text)  # type: ignore[arg-type]

    def remove(self, bar: int) -> None:
        self._progress.remove_task(bar)  # type: ignore[arg-type]
        if not self._progress.tasks:
            self._progress.stop()


class _Amounts(ProgressColumn):
    """What is done of what, how fast, and how long that takes: 28.6 MB of 47.8 MB · 3.6 MB/s · 5 s left."""

    def render(self, task: RichTask) -> Text:
        unit: Unit = task.fields["unit"]
        done = int(task.completed)
        if not task.total and (not done or unit == "steps"):
            return Text()
        parts = [part(done, int(task.total or 0), unit)]
        if unit == "bytes" and task.speed:
            parts.append(f"{amount(task.speed, unit)}/s")
        if unit != "steps" and task.time_remaining:
            parts.append(f"{duration(task.time_remaining)} left")
        return Text(" · ".join(parts))


class _Status(ProgressColumn):
    """What is being worked on, cut where the line ends: it alone gives way."""

    def render(self, task: RichTask) -> Text:
        return Text(task.fields["text"], style="dim", no_wrap=True, overflow="ellipsis")
