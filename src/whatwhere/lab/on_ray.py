"""Cells on a Ray cluster: tasks with resources, run again elsewhere when their node is gone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from whatwhere.errors import InputError
from whatwhere.lab.resources import RAY, Resources
from whatwhere.lab.there import Call, there

RETRIES = 5  # times that a cell is sent again whose process or node died
EVERY = 0.1  # seconds between two looks at a task


class OnRay:
    """A Ray cluster, as an engine.

    Args:
        address: of the cluster; empty: RAY_ADDRESS, or one that runs on this machine, or a new one here.
        resources: for each cell.

    Raises:
        InputError: without Ray, or if no cluster answers.
    """

    def __init__(self, address: str, resources: Resources) -> None:
        self._ray = ray = _imported()
        self._mine, self._tasks = not ray.is_initialized(), list[Any]()
        if self._mine:
            _connect(ray, address)
        self._threads = resources.cpus_per_cell or 1
        wanted = {"CPU": float(self._threads), "GPU": float(resources.gpus_per_cell or 0)}
        memory = {} if resources.memory_per_cell is None else {"memory": int(resources.memory_per_cell * 2**30)}
        _tell_of_missing(ray, wanted)
        options = {"num_cpus": wanted["CPU"], "num_gpus": wanted["GPU"], **memory}
        self._there = ray.remote(max_retries=RETRIES, **options)(there)

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Sent:
        """Call the function on some node."""
        task = self._there.remote(Call(function, os.getcwd(), self._threads), configuration)
        self._tasks.append(task)
        return Sent(self._ray, task)

    def __enter__(self) -> OnRay:
        """It is connected already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        """After an error, what still runs is ended; a connection that was there before stays."""
        if error is not None:
            for task in self._tasks:
                self._ray.cancel(task, force=True)
        if self._mine:
            self._ray.shutdown()


class Sent:
    """A cell on its way.

    Args:
        ray: the package.
        task: Ray's reference.
    """

    def __init__(self, ray: Any, task: Any) -> None:
        self._ray, self._task, self._looked = ray, task, 0.0

    def done(self) -> bool:
        """Whether its result is there; Ray is not asked at every look."""
        if time.monotonic() - self._looked < EVERY:
            return False
        self._looked = time.monotonic()
        return bool(self._ray.wait([self._task], timeout=0)[0])

    def result(self) -> Any:
        """What the function returned; raises what became of the task otherwise."""
        try:
            return self._ray.get(self._task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("engine='ray' needs the package ray: pip install 'whatwhere[ray]', on every node.") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address or None, **quiet)
    except Exception as error:  # of many kinds: ConnectionError, ValueError, RuntimeError, those of grpc
        seen = f"{RAY}:{address}" if address else RAY
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"engine={seen!r}: no Ray cluster answers ({why}). Give the address that `ray start --head` prints, as "
            "ray:HOST:PORT; or ray alone, which starts one on this machine."
        ) from error


def _tell_of_missing(ray: Any, wanted: Mapping[str, float]) -> None:
    """Say if no node has what a cell needs: one that joins later may."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, count in wanted.items():
        most = max((float(node.get(name, 0)) for node in nodes), default=0.0)
        if most < count:
            text = f"Note: a cell needs {count:g} {name}, and no node of this cluster has more than {most:g}"
            print(f"{text}; cells wait until one joins that has.", file=sys.stderr, flush=True)
        if most and not count:
            text = f"Note: this cluster has {name}s, and cells get none"
            print(f"{text}; give gpus_per_cell.", file=sys.stderr, flush=True)
