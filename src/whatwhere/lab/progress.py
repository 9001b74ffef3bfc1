"""Progress: a bar with the time left in a terminal, plain lines now and then in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 15.0  # seconds between two lines in a pipe


class Meter:
    """Shows how far one job is, on the standard error stream; inside another meter it adds a line below that one's.

    >>> with Meter("evaluating", total=40) as meter:
    ...     for batch in batches:
    ...         meter.advance()
    """

    _shown: ClassVar[Progress | None] = None  # a terminal shows one set of bars at a time
    _silent: ClassVar[int] = 0  # how many quiet meters are open: what runs inside of one is quiet too

    def __init__(self, title: str, total: float, *, quiet: bool = False) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self._quiet, self._task = quiet, TaskID(0)
        self._bar: Progress | None = None
        self._outermost = False
        self._started = self._told = time.monotonic()
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> Meter:
        """Start the clock, and the bar in a terminal."""
        self._quiet = self._quiet or Meter._silent > 0
        Meter._silent += self._quiet
        if not self._quiet and sys.stderr.isatty():
            self._outermost = Meter._shown is None
            self._bar = Meter._shown = Meter._shown or _started_bar()
            self._task = self._bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the bar, or say in one line how long it took."""
        Meter._silent -= self._quiet
        if self._bar and self._outermost:
            self._bar.stop()
            Meter._shown = None
        elif self._bar:
            self._bar.remove_task(self._task)
        elif kind is None:
            self._line(f"done in {_clock(time.monotonic() - self._started)}")

    def advance(self, by: float = 1.0, title: str | None = None) -> None:
        """One part more is done."""
        self.update(self.done + by, title)

    def update(self, done: float, title: str | None = None) -> None:
        """So much is done in all."""
        self.done, self.title = done, title or self.title
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, description=self.title)
        elif now - self._told > EVERY:
            self._told = now
            self._line(f"{100 * done / max(self.total, 1e-9):.0f} %{self._left(now)}")
        self._first = self._first or (now, done)

    def _left(self, now: float) -> str:
        """The time left at the pace since the first update: a resumed job's first update is a leap."""
        begun, before = self._first or (self._started, 0.0)
        pace = (self.done - before) / (now - begun) if now > begun else 0.0
        return f", about {_clock((self.total - self.done) / pace)} left" if pace > 0 else ""

    def _line(self, text: str) -> None:
        if not self._quiet:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)


@contextmanager
def silence(quiet: bool = True) -> Iterator[None]:
    """Meters that are opened inside are quiet."""
    Meter._silent += quiet
    try:
        yield
    finally:
        Meter._silent -= quiet


def _started_bar() -> Progress:
    # No markup: names may hold brackets.
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    bar.start()
    return bar


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
