import io
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from whatwhere.lab import progress
from whatwhere.lab.progress import EVERY, Meter


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
    # A line when more than EVERY seconds have passed since the one before; a part takes a second.
    between = int(EVERY) + 1
    assert seen[:-1] == [f"job: {i} %, about {progress._clock(100 - i)} left" for i in range(between, 101, between)]
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
    assert seen[0] == "job: 90 %, about 16:10 left"  # 97 parts of 10 seconds
    assert seen[-1].startswith("job: done in 16:")


def test_the_first_line_may_know_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter("job", 4)
    clock.now += 60
    meter.update(0)
    clock.now += 60
    meter.update(1)
    assert lines(capsys) == ["job: 0 %", "job: 25 %, about 3:00 left"]


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


def test_a_meter_inside_another_is_a_line_more(terminal: Streams) -> None:
    terminal()
    with Meter("outer", 2) as outer:
        for _ in range(2):
            with Meter("inner", 1) as inner:
                assert inner._bar is outer._bar
                assert inner._bar is not None
                inner.advance()
                assert [t.description for t in inner._bar.tasks] == ["outer", "inner"]
            outer.advance()
        assert outer._bar is not None
        assert [(t.description, t.completed) for t in outer._bar.tasks] == [("outer", 2)]


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
