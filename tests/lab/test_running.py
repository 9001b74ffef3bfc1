"""The same command at once, twice: no cell is run twice, whichever of them is killed."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from small_process import Telling, light_in, squares, started, wait_for
from whatwhere.errors import InputError
from whatwhere.lab.cells import Store, Worker
from whatwhere.lab.engines import Here
from whatwhere.lab.running import UnderWay, run_cells
from whatwhere.lab.tasks import Report

COMMAND = """
import signal
from pathlib import Path
from small_process import Telling, squares
from whatwhere.lab.cells import Store
from whatwhere.lab.running import run_cells
folder = Path({folder!r})
run_cells(squares({count}), Telling(folder / "told", {seconds}), Store(folder, {{}}))
"""


def commands(folder: Path, count: int, seconds: float, many: int = 2) -> list["subprocess.Popen[str]"]:
    light, code = light_in(folder), COMMAND.format(folder=str(folder / "out"), count=count, seconds=seconds)
    return [started(code, light, stderr=subprocess.PIPE) for _ in range(many)]


def results(folder: Path, count: int) -> list[int]:
    store = Store(folder / "out", {})
    return [store.load(c)["square"] for c in squares(count)]


def test_two_commands_share_the_cells_and_wait_for_each_others(tmp_path: Path) -> None:
    both = commands(tmp_path, 8, 0.06)
    assert all(p.communicate(timeout=60) for p in both)
    telling = Telling(tmp_path / "out" / "told")
    assert [p.returncode for p in both] == [0, 0]
    assert sorted(x for x, _ in telling.told("began")) == list(range(8))
    assert Counter(pid for _, pid in telling.told("kept")).keys() == {p.pid for p in both}
    assert results(tmp_path, 8) == [x**2 for x in range(8)]
    assert sorted(p.suffix for p in (tmp_path / "out" / "cells").iterdir()) == [".json"] * 8


def test_the_cell_of_a_killed_command_is_taken_over_from_its_checkpoint(tmp_path: Path) -> None:
    both = commands(tmp_path, 6, 0.2)
    telling = Telling(tmp_path / "out" / "told")
    victim = both[0].pid
    end = time.monotonic() + 60
    while not (steps := [x for x, pid in telling.told("step") if pid == victim]) and time.monotonic() < end:
        time.sleep(0.005)
    while [x for x, pid in telling.told("step") if pid == victim].count(steps[0]) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(victim, signal.SIGKILL)
    assert [p.communicate(timeout=60) and p.returncode for p in both] == [-signal.SIGKILL, 0]
    began = Counter(x for x, _ in telling.told("began"))
    interrupted = {x for x, pid in telling.told("began") if pid == victim} - {
        x for x, pid in telling.told("kept") if pid == victim
    }
    assert began == {x: 1 + (x in interrupted) for x in range(6)}
    assert len(interrupted) == 1
    assert Counter(x for x, _ in telling.told("step"))[interrupted.pop()] <= 5  # at most the step under way again
    assert results(tmp_path, 6) == [x**2 for x in range(6)]
    assert sorted(p.suffix for p in (tmp_path / "out" / "cells").iterdir()) == [".json"] * 6


class Fails(Worker):
    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        raise InputError(f"x={config['x']} is wrong")


def test_a_cell_that_another_finishes_with_an_error_is_tried_here(tmp_path: Path, monkeypatch: Any) -> None:
    """Its own memory may have been too small there; where it is wrong it fails here as well, with its message."""
    monkeypatch.setattr("whatwhere.lab.running.LOOK", 0.0)
    store, (cell,) = Store(tmp_path, {}), squares(1)
    claim = store.claim(cell)
    assert claim.take()
    looked = list[float]()

    def gives_up(under_way: UnderWay, original: Callable[[UnderWay], Any] = UnderWay._ended_elsewhere) -> Any:
        looked.append(0.0)
        if len(looked) == 3:
            claim.release()
        return original(under_way)

    monkeypatch.setattr(UnderWay, "_ended_elsewhere", gives_up)
    with pytest.raises(InputError, match="x=0 is wrong"):
        run_cells([cell], Fails(), store, quiet=True)
    assert len(looked) >= 3
    assert not store.has(cell)


def test_who_is_waited_for_is_said_once(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("whatwhere.lab.running.LOOK", 0.0)
    store, cells = Store(tmp_path, {}), squares(3)
    claims = [store.claim(c) for c in cells]
    assert all(c.take() for c in claims)

    def finish(under_way: UnderWay, original: Callable[[UnderWay], Any] = UnderWay._ended_elsewhere) -> Any:
        for cell, claim in zip(cells, claims, strict=True):
            store.save(cell, {"square": 7})
            claim.release()
        return original(under_way)

    monkeypatch.setattr(UnderWay, "_ended_elsewhere", finish)
    run_cells(cells, Fails(), store)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "waited" in line] == [
        f"cell square 0 is run by process {os.getpid()} of {os.uname().nodename}; its result is waited for."
    ]
    assert [store.load(c)["square"] for c in cells] == [7] * 3


class Unshared(Here):
    """An engine whose machines do not see the folder: what they keep is elsewhere."""

    def submit(self, function: Any, configuration: Any, /) -> Any:
        return Here.submit(
            self, lambda config: Report("kept", result={"square": 5}, about={"seconds": 1}), configuration
        )


def test_a_result_that_was_kept_elsewhere_is_kept_here(tmp_path: Path) -> None:
    store, cells, telling = Store(tmp_path, {}), squares(2), Telling(tmp_path / "told")
    (tmp_path / "told").mkdir()
    run_cells(cells, telling, store, Unshared(), quiet=True)
    assert [store.load(c)["square"] for c in cells] == [5, 5]
    assert [x for x, _ in telling.told("kept")] == [0, 1]


def test_a_folder_whose_first_cell_runs_is_not_reused(tmp_path: Path) -> None:
    store, (cell,) = Store(tmp_path, {"base": 1}), squares(1)
    Store(tmp_path, {"base": 2})
    with store.claim(cell).held(), pytest.raises(InputError, match="base: 2 there, 3 now"):
        Store(tmp_path, {"base": 3})
    Store(tmp_path, {"base": 3})
    wait_for(tmp_path / "study.json")
