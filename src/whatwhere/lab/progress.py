"""Progress: a bar with the time left in a terminal, plain lines now and then in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

FIRST, EVERY = 10.0, 15.0  # seconds before the first line in a pipe, and between two


class Meter:
    """Shows how far one job is, on the standard error stream.

    >>> with Meter("evaluating", total=40) as meter:
    ...     for batch in batches:
    ...         meter.advance()

    The time left follows from the pace so far, so `total` and what is done are best in a unit that takes the same time
    everywhere (operations, say). A meter inside another one moves the step that the outer one has begun, and is named
    in what the outer one shows: there is one bar for the whole job.
    """

    _shown: ClassVar[Progress | None] = None  # the outermost meter's bar in a terminal
    _silent: ClassVar[int] = 0  # how many quiet meters are open: what runs inside of one is quiet too
    _open: ClassVar[list[Meter]] = []  # in this process, the outermost first

    def __init__(self, title: str, total: float, *, quiet: bool = False) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self._quiet, self._task = quiet, TaskID(0)
        self._bar: Progress | None = None  # of the outermost
        self._started = self._told = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._step = self._reached = 0.0  # of the step under way: its size, and how much of it is done

    def __enter__(self) -> Meter:
        """Start the clock, and the bar in a terminal."""
        self._quiet = self._quiet or Meter._silent > 0
        Meter._silent += self._quiet
        Meter._open.append(self)
        if not self._quiet and sys.stderr.isatty() and Meter._shown is None:
            self._bar = Meter._shown = _started_bar()
            self._task = self._bar.add_task(self.title, total=self.total, left="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the bar, or say in one line how long it took."""
        named = self._within()
        Meter._silent -= self._quiet
        Meter._open.remove(self)
        if self._bar:
            self._bar.stop()
            Meter._shown = None
        elif kind is None and not named:
            self._line(f"done in {_clock(time.monotonic() - self._started)}")

    def begin(self, step: float = 1.0) -> None:
        """The next part is under way; a meter inside says how far it is."""
        self._step, self._reached = step, 0.0

    def advance(self, by: float = 1.0, title: str | None = None) -> None:
        """One part more is done."""
        self.update(self.done + by, title)

    def update(self, done: float, title: str | None = None) -> None:
        """So much is done in all."""
        self.done, self.title = done, title or self.title
        self._step = self._reached = 0.0
        self._moved()

    def _moved(self, inside: str = "") -> None:
        self._show(inside)
        if (place := Meter._open.index(self) if self in Meter._open else 0) > 0:
            Meter._open[place - 1]._inside(self, inside or f" ({self.title})")

    def _inside(self, inner: Meter, name: str) -> None:
        """A meter inside has moved; where several follow each other in a step, none moves it back."""
        if self._step or self._bar:
            share = min(1.0, (inner.done + inner._reached) / max(inner.total, 1e-9))
            self._reached = max(self._reached, self._step * share)
            self._moved(name)

    def _show(self, inside: str = "") -> None:
        now, done = time.monotonic(), self.done + self._reached
        self._first = self._first or (now, done)
        if self._bar:
            self._bar.update(self._task, completed=done, description=self.title + inside, left=self._left(now, done))
        elif now - self._told > (EVERY if self._told > self._started else FIRST) and not self._within():
            self._told = now
            left = self._left(now, done)
            self._line(f"{100 * done / max(self.total, 1e-9):.0f} %{left and f', about {left} left'}{inside}")

    def _within(self) -> bool:
        """Whether an outer meter speaks for this one."""
        outer = Meter._open[: Meter._open.index(self)] if self in Meter._open else []
        return any(m._step or m._bar for m in outer)

    def _left(self, now: float, done: float) -> str:
        """The time left at the pace since the first update: a resumed job's first update is a leap."""
        begun, before = self._first or (self._started, 0.0)
        pace = (done - before) / (now - begun) if now > begun else 0.0
        return _clock((self.total - done) / pace) if pace > 0 else ""

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
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("left"),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    bar.start()
    return bar


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
