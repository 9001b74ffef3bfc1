import io
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from whatwhere.lab import progress
from whatwhere.lab.cells import Cell, Store, Worker
from whatwhere.lab.progress import EVERY, FIRST, Meter
from whatwhere.lab.running import run_cells


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    seen = capsys.readouterr()
    assert seen.out == ""
    return seen.err.splitlines()


def test_a_pipe_gets_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("job", 100) as meter:
        for _ in range(100):
            clock.now += 1.0
            meter.advance()
    seen = lines(capsys)
    # A line when more than FIRST seconds have passed, then EVERY since the one before; a part takes a second.
    first, between = int(FIRST) + 1, int(EVERY) + 1
    assert seen[:-1] == [f"job: {i} %, about {progress._clock(100 - i)} left" for i in range(first, 101, between)]
    assert seen[-1] == "job: done in 1:40"


def test_quiet_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("job", 3, quiet=True) as meter:
        for _ in range(3):
            clock.now += 1000
            meter.advance()
    assert lines(capsys) == []


def test_a_resumed_job_is_not_taken_for_a_fast_one(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("job", 1000) as meter:
        clock.now += 1
        meter.update(901)  # 900 were done before
        for done in range(902, 1001):
            clock.now += 10
            meter.update(done)
    seen = lines(capsys)
    assert seen[0] == "job: 90 %, about 16:20 left"  # 98 parts of 10 seconds
    assert seen[-1].startswith("job: done in 16:")


def test_the_first_line_may_know_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter("job", 4)
    clock.now += 60
    meter.update(0)
    clock.now += 60
    meter.update(1)
    assert lines(capsys) == ["job: 0 %", "job: 25 %, about 3:00 left"]


def seconds_left(line: str) -> float:
    minutes, seconds = re.findall(r"about (\d+):(\d\d) left", line)[0]
    return 60 * int(minutes) + int(seconds)


class Timed(Worker):
    """Takes a second of the clock for each part of a cell, and tells a meter; beside them, some for what is told late."""

    def __init__(self, clock: Clock, start: float = 0.0) -> None:
        self.clock, self.start = clock, start

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.clock.now += self.start
        with Meter(str(config["name"]), config["parts"]) as meter:
            for _ in range(config["parts"]):
                self.clock.now += 1
                meter.advance()
        return {}


@pytest.mark.parametrize("sizes", [[3, 300, 40], [300, 1, 1, 1], [1, 1, 1, 1, 1, 400], [2] * 50 + [200], [600]])
def test_the_first_time_left_is_right_whatever_the_cells_sizes(
    sizes: list[int], clock: Clock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cells = [Cell({"name": i, "parts": n}, str(i), cost=7.0 * n) for i, n in enumerate(sizes)]
    run_cells(cells, Timed(clock, start=0.2), Store(tmp_path, {}))
    told = [line for line in lines(capsys) if "left" in line]
    passed = 10.0
    for line in told[:3]:
        truth = sum(sizes) + 0.2 * len(sizes) - passed
        assert truth / 2 <= seconds_left(line) <= 2 * truth, (line, truth)
        passed += EVERY
    assert told[0].startswith("cells"), "the cell's own time left is not the study's"


def test_a_cell_without_a_meter_still_counts_for_what_it_costs(
    clock: Clock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Silent(Worker):
        def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
            clock.now += config["seconds"]
            return {}

    seconds = [1, 12, 100]
    run_cells([Cell({"seconds": s}, str(s), cost=s) for s in seconds], Silent(), Store(tmp_path, {}))
    assert lines(capsys)[0] == "cells (last: 12): 12 %, about 1:40 left"


def test_meters_that_follow_each_other_in_a_step_never_move_back(clock: Clock, capsys: Any) -> None:
    reached = []
    with Meter("outer", 2) as outer:
        outer.begin()
        for _ in range(2):
            with Meter("inner", 4) as inner:
                for _ in range(4):
                    inner.advance()
                    reached.append(outer.done + outer._reached)
        outer.advance()
    assert reached == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert outer.done == 1


def test_a_study_inside_a_cell_moves_the_outermost_meter(clock: Clock) -> None:
    with Meter("outer", 10) as outer, Meter("cells", 4, quiet=True) as cells, Meter("inner", 2) as inner:
        outer.begin(5)
        cells.begin(2)
        inner.advance()
        assert (cells.done + cells._reached, outer.done + outer._reached) == (1, 1.25)


def test_an_error_is_not_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Meter("job", 4):
        raise KeyboardInterrupt
    assert lines(capsys) == []


def test_nothing_to_do(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("job", 0) as meter:
        clock.now += 60
        meter.update(0)
    assert lines(capsys) == ["job: 0 %", "job: done in 1:00"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (36061, "10:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert progress._clock(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[Terminal, Terminal]]]:
    """To be called in the test: pytest puts its own streams in place after the fixtures."""

    def streams() -> tuple[Terminal, Terminal]:
        found = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stderr", found[0])
        monkeypatch.setattr(sys, "stdout", found[1])
        return found

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    yield streams
    assert Meter._shown is None  # whatever happened, the next meter starts anew


Streams = Callable[[], tuple[Terminal, Terminal]]


def test_a_terminal_gets_a_bar_on_the_error_stream(terminal: Streams) -> None:
    screen, out = terminal()
    with Meter("a job", 2) as meter:
        meter.advance(title="a [job], [/half] done")  # what looks like rich's markup is text
    assert "a [job], [/half] done" in screen.getvalue()
    assert "50 %" in screen.getvalue()
    assert out.getvalue() == ""


def test_a_meter_inside_another_moves_the_one_bar_and_is_named_in_it(terminal: Streams) -> None:
    screen, _ = terminal()
    with Meter("outer", 2) as outer:
        assert outer._bar is not None
        outer.begin()
        with Meter("cells", 1) as cells, Meter("inner", 4) as inner:
            cells.begin()
            assert (cells._bar, inner._bar) == (None, None)
            inner.advance()
            (task,) = outer._bar.tasks
            assert (task.description, task.completed) == ("outer (inner)", 0.25)
        outer.advance()
        assert [(t.description, t.completed) for t in outer._bar.tasks] == [("outer", 1)]
        with Meter("unannounced", 2) as late:  # no step was begun for it
            late.advance()
            assert [(t.description, t.completed) for t in outer._bar.tasks] == [("outer (unannounced)", 1)]
    assert "done in" not in screen.getvalue()


def test_in_a_pipe_the_outermost_alone_speaks(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("outer", 2) as outer:
        for name in ("one", "two"):
            outer.begin()
            with Meter("cells", 1) as cells:
                cells.begin()
                with Meter(name, 4) as inner:
                    for _ in range(4):
                        clock.now += 10
                        inner.advance()
            outer.advance()
    assert lines(capsys) == [
        "outer: 25 %, about 1:00 left (one)",
        "outer: 50 %, about 0:40 left (one)",
        "outer: 75 %, about 0:20 left (two)",
        "outer: 100 %, about 0:00 left (two)",
        "outer: done in 1:20",
    ]


def test_an_error_closes_the_bar(terminal: Streams) -> None:
    terminal()
    with pytest.raises(ZeroDivisionError), Meter("outer", 2), Meter("inner", 2):
        raise ZeroDivisionError
    assert Meter._shown is None


def test_quiet_in_a_terminal(terminal: Streams) -> None:
    screen, _ = terminal()
    with Meter("outer", 2, quiet=True) as meter:
        meter.advance()
    assert screen.getvalue() == ""
