"""Progress on stderr: a bar in a terminal, nothing where stderr is not one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """What a running task tells its bar."""

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        """Move on by ``steps`` and show ``note`` behind the bar."""


class _Silent:
    def advance(self, steps: float = 1.0, note: str = "") -> None:
        """Do nothing: stderr is not a terminal."""


class _Shown:
    def __init__(self, progress: object, task: object) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: float = 1.0, note: str = "") -> None:
        """Move on by ``steps`` and show ``note`` behind the bar."""
        self._progress.update(self._task, advance=steps, note=note)  # type: ignore[attr-defined]


@contextmanager
def progress_bar(total: float, description: str) -> Iterator[Bar]:
    """Show a bar of ``total`` steps on stderr while the block runs."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, note="")
        yield _Shown(progress, task)


class Parts:
    """Moves a bar within its steps, where one of them takes long."""

    def __init__(self, bar: Bar) -> None:
        """Begin the first step of ``bar``."""
        self._bar = bar
        self._whole = 0
        self._told = 0.0

    def part(self, share: float, note: str = "") -> None:
        """Show that ``share`` (0 to 1) of the step in work is done."""
        moved = self._whole + share - self._told  # so that parts sum to whole numbers of steps
        self._told += moved
        self._bar.advance(moved, note)

    def whole(self, note: str = "") -> None:
        """Show that the step in work is done, and begin the next."""
        self.part(1.0, note)
        self._whole += 1
