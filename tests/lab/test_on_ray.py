"""Tasks on Ray: what is asked of it (here a stand-in for the package), and, on demand, a cluster that loses a node."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from small_choice import on_demand
from small_process import TESTS, Telling, light_in, squares
from whatwhere.errors import InputError
from whatwhere.lab.cells import Store
from whatwhere.lab.engines import engine_for
from whatwhere.lab.on_ray import OnRay
from whatwhere.lab.resources import Resources
from whatwhere.lab.running import run_cells


class StandIn:
    """As much of the package as is called, in this process; a task runs when its result is asked for."""

    class exceptions:
        class RayTaskError(Exception):
            cause: Exception

    def __init__(self, nodes: list[dict[str, float]]) -> None:
        self.told: list[Any] = []
        self._nodes, self.there = nodes, False

    def is_initialized(self) -> bool:
        return self.there

    def init(self, address: str | None, **_: Any) -> None:
        if address == "far:1":
            raise ConnectionError("Could not find\nany running Ray instance")
        self.told.append(("init", address))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": n} for n in self._nodes] + [{"Alive": False, "Resources": {"GPU": 8.0}}]

    def remote(self, **options: Any) -> Any:
        self.told.append(("remote", options))

        def decorated(function: Any) -> Any:
            return type("Remote", (), {"remote": lambda *given: given and (lambda: function(*given[-2:]))})()

        return decorated

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return tasks, []

    def get(self, task: Any) -> Any:
        try:
            return task()
        except InputError as cause:
            error = self.exceptions.RayTaskError("a long text")
            error.cause = cause
            raise error from cause

    def cancel(self, task: Any, force: bool) -> None:
        self.told.append(("cancel", force))

    def shutdown(self) -> None:
        self.told.append("shutdown")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn([{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}])
    monkeypatch.setitem(__import__("sys").modules, "ray", made)
    return made


def test_cells_are_tasks_with_resources(tmp_path: Path, ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda n: ray.told.append(("threads", n)))
    store, cells = Store(tmp_path, {}), squares(2)
    resources = Resources(cpus_per_cell=2, gpus_per_cell=0.5, memory_per_cell=1.5)
    with engine_for(0, "ray:near:6379", resources) as engine:
        run_cells(cells, Telling(tmp_path / "told", 0), store, engine, quiet=True)
    assert [store.load(c)["square"] for c in cells] == [0, 1]
    asked = {"num_cpus": 2.0, "num_gpus": 0.5, "memory": 3 * 2**29, "max_retries": 5}
    assert ray.told == [("init", "near:6379"), ("remote", asked), ("threads", 2), ("threads", 2), "shutdown"]


def test_a_connection_that_was_there_stays_and_its_tasks_are_cancelled_after_an_error(ray: StandIn) -> None:
    ray.there = True
    engine = OnRay("", Resources())
    engine.submit(int, {})
    engine.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ray.told == [("remote", {"num_cpus": 1.0, "num_gpus": 0.0, "max_retries": 5}), ("cancel", True)]


def test_a_users_mistake_comes_back_as_it_is(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(configuration: Any) -> None:
        raise InputError("x is wrong")

    with OnRay("", Resources()) as engine, pytest.raises(InputError, match=r"^x is wrong$"):
        engine.submit(wrong, {}).result()


def test_what_no_node_has_is_told(ray: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    OnRay("", Resources(gpus_per_cell=1))
    assert capsys.readouterr().err == ""
    OnRay("", Resources())
    assert capsys.readouterr().err == "Note: this cluster has GPUs, and cells get none; give gpus_per_cell.\n"
    OnRay("", Resources(gpus_per_cell=2))
    text = (
        "Note: a cell needs 2 GPU, and no node of this cluster has more than 1; cells wait until one joins that has.\n"
    )
    assert capsys.readouterr().err == text


def test_a_cluster_that_does_not_answer(ray: StandIn) -> None:
    message = (
        r"engine='ray:far:1': no Ray cluster answers \(Could not find any running Ray instance\)\. Give the address"
    )
    with pytest.raises(InputError, match=message):
        OnRay("far:1", Resources())


def test_the_package_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"engine='ray' needs the package ray: pip install 'whatwhere\[ray\]'"):
        OnRay("", Resources())


@on_demand  # a cluster of two nodes starts in half a minute
def test_a_node_that_is_lost_loses_the_step_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(light_in(tmp_path)), str(TESTS)]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr("whatwhere.lab.running.LOOK", 0.1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=1)
        store, cells, telling = Store(tmp_path / "out", {}), squares(6), Telling(tmp_path / "out" / "told", 4.0)
        with engine_for(0, f"ray:{cluster.address}", Resources(cpus_per_cell=1)) as engine:
            submit, running, gone = engine.submit, set[int](), list[int]()

            def looking(function: Any, configuration: Any) -> Any:
                handle = submit(function, configuration)
                done = handle.done

                def looked() -> bool:
                    steps = Counter(telling.told("step"))
                    both = {pid for _, pid in steps}
                    if not gone and len(both) == 2 and all(n >= 1 for n in steps.values()) and len(steps) >= 3:
                        gone.extend(x for x, _ in telling.told("began"))
                        running.update(both)
                        cluster.remove_node(lost, allow_graceful=False)
                    return bool(done())

                handle.done = looked
                return handle

            monkeypatch.setattr(engine, "submit", looking)
            run_cells(cells, telling, store, engine, quiet=True)
    finally:
        cluster.shutdown()
    assert gone
    assert [store.load(c)["square"] for c in cells] == [x**2 for x in range(6)]
    assert sorted(x for x, _ in telling.told("kept")) == list(range(6))
    began, steps = Counter(x for x, _ in telling.told("began")), Counter(x for x, _ in telling.told("step"))
    assert sorted(began.values()) == [1, 1, 1, 1, 1, 2]  # the one that ran on the lost node ran again
    assert all(steps[x] <= 4 + (began[x] - 1) for x in range(6))  # from its checkpoint
    assert sorted(p.suffix for p in (tmp_path / "out" / "cells").iterdir()) == [".json"] * 6
