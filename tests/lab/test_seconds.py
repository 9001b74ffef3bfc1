import threading
import time
from pathlib import Path

import pytest

from whatwhere.files import read_json
from whatwhere.lab import seconds as module
from whatwhere.lab.seconds import Seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [50.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def noted(folder: Path) -> float:
    return float(read_json(folder / "seconds.json")["seconds"])


def test_runs_add_up(clock: list[float], tmp_path: Path) -> None:
    for _ in range(3):
        with Seconds(tmp_path, clock[0]) as seconds:
            clock[0] += 7
        assert noted(tmp_path) == seconds.total
        clock[0] += 1000  # between the runs
    assert seconds._before + 7 == noted(tmp_path) == 21


def test_a_killed_run_counts_up_to_its_last_note(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.005)
    killed = Seconds(tmp_path, clock[0]).__enter__()
    clock[0] += 30
    deadline = time.monotonic() + 5
    while not ((tmp_path / "seconds.json").exists() and noted(tmp_path) == 30) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed._over.set()  # no more notes, and nothing at the end
    killed._thread.join()
    with Seconds(tmp_path, clock[0]) as seconds:
        clock[0] += 5
        assert seconds.total == 35


def test_runs_of_the_first_version_were_not_noted(clock: list[float], tmp_path: Path) -> None:
    with Seconds(tmp_path, clock[0], before=12.5) as seconds:
        clock[0] += 1
    assert seconds.total == 13.5
    assert Seconds(tmp_path, clock[0], before=99.0).total == 13.5


def test_runs_side_by_side_add_up(clock: list[float], tmp_path: Path) -> None:
    one, two = Seconds(tmp_path, clock[0]), Seconds(tmp_path, clock[0])
    for _ in range(3):
        clock[0] += 10
        one._note()
        two._note()
    assert noted(tmp_path) == two.total == 60
    clock[0] += 5
    one._note()
    assert noted(tmp_path) == one.total == 65


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": "many"}'])
def test_a_damaged_note_stops_nothing(text: str, clock: list[float], tmp_path: Path) -> None:
    (tmp_path / "seconds.json").write_text(text)
    with Seconds(tmp_path, clock[0]):
        clock[0] += 2
    assert noted(tmp_path) == 2


def test_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    with Seconds(tmp_path, time.perf_counter()):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
