"""Engines: who runs the cells that are missing. This process, processes side by side, or anything of the user's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from whatwhere.errors import InputError
from whatwhere.lab.resources import RAY, Resources

DIED = (
    "a worker process died, most often because a script that starts workers has no "
    '`if __name__ == "__main__":` around its call, or because memory ran out: give fewer than workers={workers}. '
    "What was finished is kept, and the same command goes on from there."
)


class Handle(Protocol):
    """One cell on its way."""

    def done(self) -> bool:
        """Whether `result` returns at once."""

    def result(self) -> Any:
        """What the function returned; raises what went wrong on the way."""


class Engine(Protocol):
    """Anything that calls a function on a configuration, here or elsewhere; in one process, one cell at a time."""

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Handle:
        """Call the function on the configuration, now or later; both are picklable."""


@contextmanager
def engine_for(
    workers: int = 0,
    engine: str | Engine | None = None,
    resources: Resources | None = None,
    folder: Path | None = None,
) -> Iterator[Engine]:
    """The engine that runs cells: one that was given, one by name, processes of this machine, or this process.

    Args:
        workers: 0 is this process; N are N processes, which share the cores and stay until the end.
        engine: given instead: an object, or a name that `check_engine` takes.
        resources: of each cell, with an engine by name.
        folder: of the study, where jobs of SLURM are kept.

    Raises:
        InputError: if `workers` is negative, both are given, the engine is not there, or a worker process died.
    """
    if workers < 0 or (workers and engine):
        raise InputError(f"workers={workers}: give 0 (this process), a number of processes, or an engine instead.")
    if isinstance(engine, str):
        with _named(engine, resources or Resources(), folder or Path()) as named:
            yield named
    elif engine or not workers:
        yield engine or Here()
    else:
        with Processes(workers) as processes:
            yield processes


def _named(engine: str, resources: Resources, folder: Path) -> AbstractContextManager[Engine]:
    """Imported only where it is asked for: each needs a package that not everyone has."""
    name, _, address = engine.partition(":")
    if name == RAY:
        from whatwhere.lab.on_ray import OnRay

        return OnRay(address, resources)
    from whatwhere.lab.on_slurm import OnSlurm

    return OnSlurm(name, resources, folder)


class Here:
    """Runs each cell in this process, when its result is asked for."""

    @dataclass(frozen=True)
    class _Later:
        function: Callable[[Mapping[str, Any]], Any]
        configuration: Mapping[str, Any]

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self.function(self.configuration)

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Handle:
        """Call the function later."""
        return self._Later(function, configuration)


class Processes:
    """Processes of this machine, side by side; they end with this one, and leave Ctrl-C to it.

    Args:
        workers: how many; they share the threads that torch may use here.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        threads = max(1, torch.get_num_threads() // workers)  # what OMP_NUM_THREADS allows, shared out
        # fork after torch has started threads can hang, hence spawn.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,))

    def __enter__(self) -> Processes:
        """Nothing starts before the first cell."""
        return self

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Handle:
        """Call the function in the next process that is free."""
        with _deaf_children():
            return self._pool.submit(function, configuration)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        """Wait for the processes; after an error, end them: to wait for their cells could take hours."""
        if isinstance(error, BrokenProcessPool):
            self._pool.shutdown()
            raise InputError(DIED.format(workers=self.workers)) from error
        if error is not None:
            for process in list((self._pool._processes or {}).values()):  # no public way before Python 3.14
                process.terminate()
        self._pool.shutdown(cancel_futures=error is not None)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start meanwhile never see Ctrl-C, not even while they still import."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would otherwise train on, beside those of the next call."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
