"""Jobs: what is asked of SLURM, and that a cell outlives its job."""

import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from small_process import Telling, light_in, squares, wait_for
from small_slurm import slurm_in
from whatwhere.errors import InputError
from whatwhere.lab import on_slurm
from whatwhere.lab.cells import Store
from whatwhere.lab.engines import engine_for
from whatwhere.lab.on_slurm import Job, OnSlurm, parameters
from whatwhere.lab.resources import Resources
from whatwhere.lab.running import run_cells

FULL = Resources(
    cpus_per_cell=2, gpus_per_cell=1, memory_per_cell=1.5, hours=0.5, partition="gpu", slurm=("account=lab", "qos=long")
)


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs that start in a moment, and are looked at often."""
    folder = light_in(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path(__file__).parent.parent}")
    monkeypatch.setattr(on_slurm, "EVERY", 0.05)
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0.2)
    monkeypatch.setattr("whatwhere.lab.running.LOOK", 0.1)
    return folder


@pytest.fixture
def slurm(tmp_path: Path, light: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = slurm_in(tmp_path)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "state"


class Meanwhile:
    """An engine's handles, with something that happens while they are looked at."""

    def __init__(self, engine: Any, happens: Callable[[], None]) -> None:
        self.engine, self.happens = engine, happens

    def submit(self, function: Any, configuration: Mapping[str, Any], /) -> Any:
        self.handle = self.engine.submit(function, configuration)
        return self

    def done(self) -> bool:
        self.happens()
        return bool(self.handle.done())

    def result(self) -> Any:
        return self.handle.result()


def test_parameters_are_those_of_sbatch() -> None:
    assert parameters(FULL) == {
        "name": "whatwhere",
        "timeout_min": 30,
        "cpus_per_task": 2,
        "gpus_per_node": 1,
        "mem_gb": 1.5,
        "slurm_partition": "gpu",
        "slurm_additional_parameters": {"account": "lab", "qos": "long"},
    }
    assert parameters(Resources()) == {"name": "whatwhere", "timeout_min": 240}


@pytest.mark.parametrize("sooner", [False, True])
def test_a_job_that_is_ended_is_queued_again_and_the_cell_goes_on(tmp_path: Path, slurm: Path, sooner: bool) -> None:
    """SLURM signals before the hours are over; nothing but the step under way is done twice.

    Of a real cluster: the job may be ended before the command in it that queued it again has returned.
    """
    if sooner:
        with (slurm.parent / "scontrol").open("a") as script:
            script.write("kill -TERM $$\n")
    store, (cell,), telling = Store(tmp_path / "out", {}), squares(1), Telling(tmp_path / "out" / "told", 1.0)
    signalled = list[int]()

    def preempt() -> None:
        if not signalled and len(telling.told("step")) > 1:
            signalled.append(int((slurm / "1.pid").read_text()))
            os.kill(signalled[0], signal.SIGUSR2)

    with engine_for(0, "slurm", FULL, tmp_path / "out") as engine:
        run_cells([cell], telling, store, Meanwhile(engine, preempt), quiet=True)
    assert store.load(cell)["square"] == 0
    assert (slurm / "scontrol").read_text() == "requeue 1\n"
    assert [pid for _, pid in telling.told("began")] == [signalled[0], int((slurm / "1.pid").read_text())]
    assert len(telling.told("step")) <= 5
    sent = (slurm / "1.sh").read_text()
    asked = ("partition=gpu", "account=lab", "qos=long", "time=30", "mem=1536MB", "cpus-per-task=2", "gpus-per-node=1")
    assert all(f"#SBATCH --{option}\n" in sent for option in asked)
    assert "#SBATCH --signal=USR2@90\n" in sent
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cells", "study.json", "told"]


def test_a_killed_job_is_sent_again(tmp_path: Path, slurm: Path) -> None:
    store, (cell,), telling = Store(tmp_path / "out", {}), squares(1), Telling(tmp_path / "out" / "told", 0.4)
    killed = list[int]()

    def kill() -> None:
        if not killed and telling.told("step"):
            killed.append(telling.told("began")[0][1])
            os.kill(killed[0], signal.SIGKILL)

    with engine_for(0, "slurm", Resources(), tmp_path / "out") as engine:
        run_cells([cell], telling, store, Meanwhile(engine, kill), quiet=True)
    assert store.has(cell)
    assert len(telling.told("began")) == 2
    assert {p.name for p in slurm.glob("*.sh")} == {"1.sh", "2.sh"}


def test_jobs_are_cancelled_when_the_command_is_stopped(tmp_path: Path, slurm: Path) -> None:
    store, (cell,), telling = Store(tmp_path / "out", {}), squares(1), Telling(tmp_path / "out" / "told", 60)

    def stop() -> None:
        if telling.told("step"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), engine_for(0, "slurm", Resources(), tmp_path / "out") as engine:
        run_cells([cell], telling, store, Meanwhile(engine, stop), quiet=True)
    assert (slurm / "scancel").read_text() == "1\n"
    wait_for(slurm / "1.ended")
    assert store.claim(cell).free()
    assert list((tmp_path / "out" / "jobs").glob("*/1_0_log.err"))  # the logs are kept


def test_what_sbatch_refuses_is_told(tmp_path: Path, slurm: Path) -> None:
    (slurm.parent / "sbatch").write_text("#!/bin/bash\necho 'invalid partition specified: gpv' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"sbatch refused the job \(.*invalid partition specified: gpv.*see partition"):
        OnSlurm("slurm", FULL, tmp_path).submit(int, {})


def test_a_local_job_is_a_process_of_its_own(tmp_path: Path, light: Path) -> None:
    store, cells, telling = Store(tmp_path / "out", {}), squares(1), Telling(tmp_path / "out" / "told", 0.1)
    with engine_for(0, "submitit-local", Resources(), tmp_path / "out") as engine:
        run_cells(cells, telling, store, engine, quiet=True)
    assert store.load(cells[0])["square"] == 0
    assert {pid for _, pid in telling.told("began")} != {os.getpid()}


class Counted:
    """A job that ends at the second look; how many there are at once."""

    now, most = 0, 0

    def __init__(self) -> None:
        Counted.now += 1
        Counted.most = max(Counted.most, Counted.now)
        self.looks = 0

    def done(self) -> bool:
        self.looks += 1
        Counted.now -= self.looks == 2
        return self.looks >= 2

    def exception(self) -> None:
        return None

    def result(self) -> int:
        return 7


@pytest.mark.parametrize(("name", "most"), [("submitit-local", 2), ("slurm", 5)])
def test_this_machine_runs_no_more_jobs_than_it_has_cores_and_slurm_queues_all(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(on_slurm, "usable_cores", lambda: 5)
    monkeypatch.setattr(on_slurm, "EVERY", 0.001)
    monkeypatch.setattr(on_slurm, "_submitted", lambda *_: Counted())
    Counted.now = Counted.most = 0
    engine = OnSlurm(name, Resources(cpus_per_cell=2), tmp_path)
    handles = [engine.submit(int, {}) for _ in range(5)]
    assert [h.result() for h in handles] == [7] * 5
    assert (Counted.most, Counted.now) == (most, 0)


def test_jobs_of_this_machine_get_gpus_of_their_own(
    tmp_path: Path, light: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit shows the first GPU to each."""
    sent = list[Any]()

    def submitted(executor: Any, job: Job, configuration: Any) -> Counted:
        sent.append((job.gpus, job.threads))
        return Counted()

    monkeypatch.setattr(on_slurm, "usable_cores", lambda: 64)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,4,6,7")
    monkeypatch.setattr(on_slurm, "EVERY", 0.001)
    monkeypatch.setattr(on_slurm, "_submitted", submitted)
    Counted.now = Counted.most = 0
    engine = OnSlurm("submitit-local", Resources(gpus_per_cell=2), tmp_path)
    handles = [engine.submit(int, {}) for _ in range(4)]
    assert sent == [(("2", "3"), 1), (("4", "6"), 1)]
    ended, until = set[int](), time.monotonic() + 30
    while len(ended) < 4 and time.monotonic() < until:  # each look begins what there is room for
        ended |= {i for i, h in enumerate(handles) if h.done()}
    assert sorted(sent[2:]) == [(("2", "3"), 1), (("4", "6"), 1)]
    assert Counted.most == 2
    with pytest.raises(InputError, match="gpus_per_cell=6: this machine has 5 GPUs that PyTorch finds; give fewer"):
        OnSlurm("submitit-local", Resources(gpus_per_cell=6), tmp_path)


def test_debug_jobs_run_in_this_process(tmp_path: Path) -> None:
    store, cells, telling = Store(tmp_path / "out", {}), squares(2), Telling(tmp_path / "out" / "told", 0)
    with engine_for(0, "submitit-debug", Resources(), tmp_path / "out") as engine:
        run_cells(cells, telling, store, engine, quiet=True)
    assert Counter(telling.told("began")) == {(0, os.getpid()): 1, (1, os.getpid()): 1}


def test_the_package_and_slurm_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"engine='slurm': SLURM is not here \(no srun\)\..*engine='submitit-local'"):
        OnSlurm("slurm", Resources(), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'whatwhere\[slurm\]'"):
        OnSlurm("slurm", Resources(), tmp_path)


def test_what_is_queued_again_is_the_same_call(tmp_path: Path) -> None:
    job = Job(dict, str(tmp_path), 3)
    again = pickle.loads(pickle.dumps(job)).checkpoint({"x": 1})
    assert (again.function, again.args, again.kwargs) == (job, ({"x": 1},), {})
