"""How far a command is: a bar with the time left, and for long steps a sentence early on, in logs too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["console", "duration", "image_counter", "progress_bar", "working"]

#: Progress and remarks go to standard error, results to standard output.
console = Console(stderr=True)

_MEASURE = 2.0  # seconds before an estimate is made
_LONG = 20.0  # seconds: what takes no longer needs no announcement
_EVERY = 60.0  # seconds between lines where no bar can be drawn


@contextmanager
def progress_bar(unit: str, what: str = "") -> Iterator[Progress]:
    """Show a progress bar on standard error; each task may set the field ``note``.

    Work that will take long is announced with an estimate as soon as its pace is known. Where standard error is not a
    terminal, a line per minute says how far it is.

    Args:
        unit: What is counted.
        what: Added to the announcement.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn(unit),
        # Time left while running, time taken at the end.
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with _Bar(*columns, console=console) as progress:
        progress.unit, progress.what = unit, what
        yield progress


@contextmanager
def image_counter(name: str) -> Iterator[Callable[[int], None]]:
    """Show how many images are done, and how many per second, where nobody knows how many there are."""
    with progress_bar("images") as bar:
        task, began, done = bar.add_task(name, total=None, note=""), time.monotonic(), 0

        def count(images: int) -> None:
            nonlocal done
            done += images
            bar.update(task, advance=images, note=f"{done / max(time.monotonic() - began, 1e-3):.0f} img/s")

        yield count


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something goes on whose length is not known."""
    with console.status(what):
        yield


def duration(seconds: float) -> str:
    """Say about how long something takes, as people do.

    Args:
        seconds: At least 0.
    """
    if seconds < 90:
        return f"{max(round(seconds / 5) * 5, 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class _Pace:
    began: float
    first: float
    spoke: float | None = None


class _Bar(Progress):
    """A progress bar that also speaks."""

    unit = what = ""

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._paces: dict[TaskID, _Pace] = {}

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Update a task, and speak where it is time to."""
        super().update(task_id, **changes)
        task = self._tasks[task_id]
        if task.total is None:
            return
        now = time.monotonic()
        pace = self._paces.setdefault(task_id, _Pace(now, task.completed))
        done = task.completed - pace.first
        if now - pace.began < _MEASURE or done <= 0 or task.completed >= task.total:
            return
        left = (now - pace.began) / done * (task.total - task.completed)
        if pace.spoke is None:
            pace.spoke = now
            if left >= _LONG:
                self._say(f"{task.description}: about {duration(left)} for {task.total:,.0f} {self.unit}{self.what}.")
        elif now - pace.spoke >= _EVERY and not self.console.is_terminal:
            pace.spoke = now
            where = f"{task.completed:,.0f} of {task.total:,.0f} {self.unit}"
            self._say(f"{task.description}: {where}, about {duration(left)} left.")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
