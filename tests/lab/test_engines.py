import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch

from small_process import TESTS, gone, light_in, wait_for
from whatwhere.errors import InputError
from whatwhere.lab import engines
from whatwhere.lab.cells import Cell, Store
from whatwhere.lab.engines import Engine, _deaf_children, engine_for
from whatwhere.lab.running import run_cells as run_on
from whatwhere.lab.study import Worker
from whatwhere.lab.tasks import Task

# What cells do here; at the top of the module, so that worker processes find it.


class Awkward(Exception):
    """Cannot be unpickled, as some errors of network libraries."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"awkward {code}")


class Work(Worker):
    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return done(config)


work = Work()


class Calling(Work):
    """Calls something else instead; records the cells whose results were stored."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Any]) -> None:
        self.function, self.safe = function, list[str]()

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.function(config)
        return found

    def stored(self, cell: Cell) -> None:
        self.safe.append(cell.label)


def done(config: Mapping[str, Any]) -> dict[str, Any]:
    match config["do"]:
        case "square":
            return {"square": config["x"] ** 2, "deaf": signal.getsignal(signal.SIGINT) is signal.SIG_IGN}
        case "fail":
            raise InputError(f"x={config['x']} is wrong")
        case "awkward":
            raise Awkward(code=config["x"])
        case "unstorable":
            return {"loss": float("nan")}
        case "die":
            wait_for(Path(config["after"]))
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            Path(config["tell"]).write_text(str(os.getpid()))
            time.sleep(120)
    return {}


def run_cells(
    cells: list[Cell],
    worker: Worker,
    store: Store,
    *,
    workers: int = 0,
    engine: Engine | None = None,
    quiet: bool = False,
) -> int:
    """As `run_study` runs a round."""
    with engine_for(workers, engine) as chosen:
        return run_on(cells, worker, store, chosen, quiet=quiet)


def squares(n: int) -> list[Cell]:
    return [Cell({"do": "square", "x": x}, f"square {x}") for x in range(n)]


def loaded(store: Store, cells: list[Cell]) -> list[int | None]:
    return [store.load(c)["square"] if store.has(c) else None for c in cells]


# In this process


def test_results_are_kept_with_what_they_rest_on(tmp_path: Path) -> None:
    store, cells = Store(tmp_path, {}), squares(3)
    assert run_cells(cells, work, store, quiet=True) == 3
    assert loaded(store, cells) == [0, 1, 4]
    text = store.file(cells[2]).read_text()
    assert all(f'"{name}"' in text for name in ("seconds", "hardware", "versions", "threads", "torch"))


def test_finished_cells_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, cells, ran = Store(tmp_path, {}), squares(5), []

    def counting(config: Mapping[str, Any]) -> dict[str, Any]:
        ran.append(config["x"])
        return work(config)

    assert run_cells(cells[:2], Calling(counting), store) == 2
    assert run_cells(cells, Calling(counting), Store(tmp_path, {})) == 3
    assert ran == [0, 1, 2, 3, 4]
    capsys.readouterr()
    assert run_cells(cells, Calling(counting), store) == 0
    assert capsys.readouterr().err == ""


def test_a_cell_that_comes_twice_is_run_once(tmp_path: Path) -> None:
    """Two shares of a grid may mean the same site; two workers must not train it side by side."""
    ran: list[int] = []

    def counting(config: Mapping[str, Any]) -> dict[str, Any]:
        ran.append(config["x"])
        return work(config)

    assert run_cells([*squares(3), *squares(2)], Calling(counting), Store(tmp_path, {}), quiet=True) == 3
    assert ran == [0, 1, 2]


def test_an_error_does_not_lose_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, good = Store(tmp_path, {}), squares(3)
    bad = [Cell({"do": "fail", "x": x}, f"bad {x}") for x in (7, 8)]
    with pytest.raises(InputError, match="x=7 is wrong"):
        run_cells([good[0], bad[0], good[1], bad[1], good[2]], work, store, quiet=True)
    assert loaded(store, good) == [0, 1, 4]
    assert capsys.readouterr().err.splitlines() == [
        "cell bad 7 failed: x=7 is wrong",
        "cell bad 8 failed: x=8 is wrong",
    ]
    assert not any(store.has(c) for c in bad)


def test_a_result_that_is_no_json_does_not_lose_the_others(tmp_path: Path) -> None:
    store, cells = Store(tmp_path, {}), [Cell({"do": "unstorable"}, "odd"), *squares(2)]
    with pytest.raises(ValueError, match="the result of cell odd cannot be stored as JSON"):
        run_cells(cells, work, store, quiet=True)
    assert loaded(store, cells[1:]) == [0, 1]


def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    store, cells = Store(tmp_path, {}), squares(4)

    def interrupted(config: Mapping[str, Any]) -> dict[str, Any]:
        if config["x"] == 2:
            raise KeyboardInterrupt
        return work(config)

    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, Calling(interrupted), store, quiet=True)
    assert loaded(store, cells) == [0, 1, None, None]
    assert run_cells(cells, work, store, quiet=True) == 2


def test_a_full_disk_stops_and_the_next_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cells, original = Store(tmp_path, {}), squares(4), os.fsync
    writes: list[int] = []

    def filling(handle: int) -> None:
        writes.append(handle)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", filling)
        with pytest.raises(InputError, match=r"No space left on device\. Free some space or choose another folder"):
            run_cells(cells, work, store, quiet=True)
    assert loaded(store, cells) == [0, 1, None, None]
    assert len(writes) == 3  # no further cell was run in vain
    assert [p.name for p in (tmp_path / "cells").iterdir() if p.name.startswith(".")] == []
    assert run_cells(cells, work, store, quiet=True) == 2


def test_workers_must_be_a_number_of_processes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"workers=-1: give 0 \(this process\), a number"):
        run_cells([], work, Store(tmp_path, {}), workers=-1)
    assert run_cells([], work, Store(tmp_path, {}), workers=2) == 0


class BrokenPool:
    """All cells but the first are finished at the moment a worker dies."""

    def __init__(self, *_: object, **__: object) -> None:
        self.submitted = 0

    def submit(self, do: Any, config: Mapping[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if self.submitted:
            future.set_result(do(config))
        else:
            future.set_exception(BrokenProcessPool("died"))
        self.submitted += 1
        return future

    def shutdown(self, **_: object) -> None:
        pass


def test_what_was_finished_when_a_worker_died_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ProcessPoolExecutor", BrokenPool)
    store, cells = Store(tmp_path, {}), squares(10)
    with pytest.raises(InputError, match="a worker process died"):
        run_cells(cells, work, store, workers=2, quiet=True)
    assert loaded(store, cells) == [None, *(x**2 for x in range(1, 10))]


# Any engine


class Slow:
    """Runs each cell when it was asked three times whether it is done, the last one first."""

    def __init__(self) -> None:
        self.order: list[Any] = []

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Any:
        sent: Any = pickle.loads(pickle.dumps((function, configuration)))  # as on its way to another machine
        handle = SlowHandle(self, *sent)
        self.order.insert(0, handle)
        return handle


class SlowHandle:
    def __init__(self, engine: Slow, function: Callable[[Mapping[str, Any]], Any], configuration: Any) -> None:
        self.engine, self.function, self.configuration, self.asked = engine, function, configuration, 0

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 3 and self.engine.order[0] is self

    def result(self) -> Any:
        self.engine.order.remove(self)
        if self.configuration.get("x") == 3:
            raise ConnectionError("the machine is gone")
        return self.function(self.configuration)


def test_any_engine_runs_the_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, cells = Store(tmp_path, {}), squares(5)
    with pytest.raises(ConnectionError, match="the machine is gone"):
        run_cells(cells, work, store, engine=Slow(), quiet=True)
    assert loaded(store, cells) == [0, 1, 4, None, 16]
    assert "failed: the machine is gone" in capsys.readouterr().err
    with pytest.raises(InputError, match="or an engine instead"):
        run_cells(cells, work, store, engine=Slow(), workers=2)


def test_a_stored_cell_is_reported_to_its_worker(tmp_path: Path) -> None:
    cells, worker = squares(3), Calling(lambda config: {"x": 1 / (config["x"] - 1)})
    with pytest.raises(ZeroDivisionError):
        run_cells(cells, worker, Store(tmp_path, {}), quiet=True)
    assert worker.safe == [cells[0].label, cells[2].label]


def test_a_worker_that_cannot_be_sent_is_refused_before_anything_runs(tmp_path: Path) -> None:
    from whatwhere.lab.sources import Held  # not at the top: worker processes import this file with a small torch

    here = Calling(lambda config: {"x": 1})
    with pytest.raises(InputError, match=r"cannot be sent to other processes .*; give workers=0"):
        run_cells(squares(2), here, Store(tmp_path, {}), workers=2, quiet=True)
    held = Calling(Held("model", object()))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"model was given as an object, .* or workers=0"):
        run_cells(squares(2), held, Store(tmp_path, {}), workers=2, quiet=True)
    assert not list((tmp_path / "cells").glob("*"))


def test_an_engine_of_threads_gives_the_numbers_of_one(tmp_path: Path) -> None:
    """Cells seed the process's random state: two at a time would draw from each other's."""

    def drawn(config: Mapping[str, Any]) -> dict[str, Any]:
        torch.manual_seed(config["x"])
        time.sleep(0.002)
        return {"square": float(torch.rand(3).sum())}

    one, many, cells = Store(tmp_path / "one", {}), Store(tmp_path / "many", {}), squares(20)
    run_cells(cells, Calling(drawn), one, quiet=True)
    with ThreadPoolExecutor(4) as engine:
        task = Task(Calling(drawn), quiet=True)
        found = [f.result()[0] for f in [engine.submit(task, c.config) for c in cells]]
    assert found == [one.load(c) for c in cells]
    assert not many.contents()


# In other processes; each takes seconds to start, hence few tests that look at much


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = light_in(tmp_path)
    monkeypatch.syspath_prepend(folder)  # which multiprocessing hands on
    return folder


@pytest.mark.usefixtures("light")
def test_processes_give_the_results_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)  # as with OMP_NUM_THREADS=6
    one, many, cells = Store(tmp_path / "one", {}), Store(tmp_path / "many", {}), squares(5)
    broken = [Cell({"do": do, "x": 5}, do) for do in ("fail", "awkward", "unstorable")]
    run_cells(cells, work, one, quiet=True)
    with pytest.raises((InputError, RuntimeError, ValueError), match=r"x=5 is wrong|awkward 5|cannot be stored"):
        run_cells([*broken, *cells, *cells], work, many, workers=2, quiet=True)
    assert loaded(many, cells) == loaded(one, cells) == [0, 1, 4, 9, 16]
    assert sorted(p.name for p in (tmp_path / "many/cells").iterdir()) == sorted(f"{c.key}.json" for c in cells)
    seen = capsys.readouterr().err
    assert all(f"cell {c.label} failed" in seen for c in broken)
    assert '"threads":3' in many.file(cells[0]).read_text()  # each worker's share of what this process may use
    assert all(many.load(c)["deaf"] for c in cells)  # Ctrl-C is the parent's to handle
    assert not any(one.load(c)["deaf"] for c in cells)


@pytest.mark.usefixtures("light")
def test_a_killed_worker_is_told_and_finished_cells_are_kept(tmp_path: Path) -> None:
    store, cells = Store(tmp_path, {}), squares(3)
    last = str(store.file(cells[-1]))
    killed = Cell({"do": "die", "after": last}, "killed")
    message = (
        r"a worker process died, .* fewer than workers=2\. What was finished is kept, and the same command goes on"
    )
    with pytest.raises(InputError, match=message):
        run_cells(
            [killed, *cells, Cell({"do": "wait", "tell": str(tmp_path / "pid")})], work, store, workers=2, quiet=True
        )
    assert loaded(store, cells) == [0, 1, 4]
    assert not store.has(killed)
    pid = tmp_path / "pid"
    assert not pid.exists() or gone(int(pid.read_text()))


SCRIPT = """
import sys
sys.path[:0] = [{light!r}, {tests!r}, {shared!r}]
from pathlib import Path
from test_engines import run_cells, squares, work
from whatwhere.lab.cells import Cell, Store

if __name__ == "__main__":
    folder = Path({folder!r})
    waiting = [Cell({{"do": "wait", "tell": str(folder / f"pid{{i}}")}}) for i in range(2)]
    try:
        run_cells([*squares(3), *waiting], work, Store(folder, {{}}), workers=3, quiet=True)  # one will be idle
    except KeyboardInterrupt:
        sys.exit(130)
"""


UNGUARDED = """
import sys
sys.path[:0] = [{light!r}, {tests!r}, {shared!r}]
from pathlib import Path
from test_engines import run_cells, squares, work
from whatwhere.lab.cells import Store

run_cells(squares(1), work, Store(Path({folder!r}), {{}}), workers=1, quiet=True)
"""


def test_a_script_that_starts_workers_unguarded_is_told_how_to(tmp_path: Path, light: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        UNGUARDED.format(light=str(light), tests=str(Path(__file__).parent), shared=str(TESTS), folder=str(tmp_path))
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "a worker process died, most often because a script" in last
    assert '`if __name__ == "__main__":`' in last
    assert "fewer than workers=1" in last


def test_ctrl_c_does_not_reach_processes_that_still_start() -> None:
    sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1)"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with _deaf_children():
        child = subprocess.Popen(sleeper, stdout=subprocess.PIPE)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert child.stdout
    assert child.stdout.readline() == b"up\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0
    child.stdout.close()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_the_parent_is_stopped(tmp_path: Path, light: Path, sent: signal.Signals) -> None:
    """By Ctrl-C or a kill: finished cells are kept, and no worker trains on for hours."""
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(light=str(light), tests=str(Path(__file__).parent), shared=str(TESTS), folder=str(tmp_path))
    )
    errors = (tmp_path / "errors.txt").open("w")
    parent = subprocess.Popen([sys.executable, str(script)], stderr=errors, start_new_session=True)
    try:
        workers = [int(wait_for(tmp_path / f"pid{i}")) for i in range(2)]
        store, cells = Store(tmp_path, {}), squares(3)
        for cell in cells:
            wait_for(store.file(cell))
        if sent == signal.SIGINT:
            os.killpg(parent.pid, sent)  # a terminal sends Ctrl-C to the workers too
        else:
            parent.send_signal(sent)
        assert parent.wait(30) == (130 if sent == signal.SIGINT else -signal.SIGKILL)
        assert all(gone(pid) for pid in workers)
        assert loaded(store, cells) == [0, 1, 4]
        assert "KeyboardInterrupt" not in (tmp_path / "errors.txt").read_text()
    finally:
        errors.close()
        parent.kill()
        parent.wait()
