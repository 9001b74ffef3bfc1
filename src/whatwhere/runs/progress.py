"""Progress: a bar with the time left in a terminal, plain lines now and then in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 15.0  # seconds between two lines in a pipe


class Meter:
    """Shows how far one job is, on the standard error stream.

    >>> with Meter("evaluating", total=40) as meter:
    ...     for batch in batches:
    ...         meter.advance()
    """

    def __init__(self, title: str, total: float, *, quiet: bool = False) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self._bar = None if quiet or not sys.stderr.isatty() else _bar()
        self._quiet, self._task = quiet, TaskID(0)
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Meter:
        """Start the clock."""
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the bar, or say in one line how long it took."""
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._line(f"done in {_clock(time.monotonic() - self._started)}")

    def advance(self, by: float = 1.0, title: str | None = None) -> None:
        """One part more is done."""
        self.update(self.done + by, title)

    def update(self, done: float, title: str | None = None) -> None:
        """So much is done in all."""
        self.done, self.title = done, title or self.title
        if self._bar:
            self._bar.update(self._task, completed=done, description=self.title)
        elif time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            self._line(f"{100 * done / max(self.total, 1e-9):.0f} %, about {_clock(self._left())} left")

    def _left(self) -> float:
        spent = time.monotonic() - self._started
        return spent * (self.total - self.done) / max(self.done, 1e-9)

    def _line(self, text: str) -> None:
        if not self._quiet:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), transient=False)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
