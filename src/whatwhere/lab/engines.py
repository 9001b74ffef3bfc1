"""Engines: who runs the cells that are missing. This process, processes side by side, or anything of the user's."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.lab.cells import Cell, Store, Worker
from whatwhere.lab.progress import Meter, silence
from whatwhere.lab.provenance import hardware, versions

Outcome: TypeAlias = tuple[Any, dict[str, Any]]  # a result or an exception, and what is recorded beside it
ONE_AT_A_TIME = (
    threading.RLock()
)  # a cell may run a study of its own; cells seed the process's random state, and share its cached networks
PAUSE = 0.02  # seconds between two looks at cells that run elsewhere
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
def engine_for(workers: int = 0, engine: Engine | None = None) -> Iterator[Engine]:
    """The engine that runs cells: one that was given, processes of this machine, or this process.

    Args:
        workers: 0 is this process; N are N processes, which share the cores and stay until the end.
        engine: given instead.

    Raises:
        InputError: if `workers` is negative, both are given, or a worker process died.
    """
    if workers < 0 or (workers and engine):
        raise InputError(f"workers={workers}: give 0 (this process), a number of processes, or an engine instead.")
    if engine or not workers:
        yield engine or Here()
        return
    with Processes(workers) as processes:
        yield processes


def run_cells(
    cells: Sequence[Cell], worker: Worker, store: Store, engine: Engine | None = None, *, quiet: bool = False
) -> int:
    """Run the cells that the store does not have yet; each result is written as soon as it is there.

    A cell that fails does not stop the others; its error is raised when they are done. An interruption ends the cells
    that are running; what they write themselves (checkpoints) is kept.

    Args:
        cells: what to run, in this order; one that comes twice is run once.
        worker: from a configuration to a result.
        store: where results go.
        engine: runs the cells, from `engine_for`; None is this process.
        quiet: print no progress.

    Returns:
        How many cells were run.

    Raises:
        InputError: if the worker cannot be sent to other processes.
    """
    missing = [c for c in {c.key: c for c in cells}.values() if not store.has(c)]
    if not missing:
        return 0
    chosen = engine or Here()
    task = Task(worker, quiet) if isinstance(chosen, Here) else _sendable(Task(worker, quiet, away=True))
    with Meter("cells", sum(c.cost for c in missing), quiet=quiet) as meter:
        errors = _collect(_finished(missing, task, chosen, meter), store, meter, worker)
    if errors:
        raise errors[0]
    return len(missing)


def _sendable(task: Task) -> Task:
    """The task, if it can be sent to other processes; refused before anything is sent otherwise."""
    try:
        pickle.dumps(task)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the cells' worker cannot be sent to other processes ({error}); give workers=0.") from error
    return task


def _finished(cells: Sequence[Cell], task: Task, engine: Engine, meter: Meter) -> Iterator[tuple[Cell, Outcome]]:
    pending = [(cell, engine.submit(task, cell.config)) for cell in cells]
    while pending:
        ready = [(c, h) for c, h in pending if h.done()]
        if isinstance(engine, Here):
            ready = ready[:1]  # runs when it is asked
            meter.begin(ready[0][0].cost)
        for cell, handle in sorted(ready, key=lambda pair: _is_broken(pair[1])):  # what was finished before comes first
            pending.remove((cell, handle))
            yield cell, _outcome(handle)
        if not ready:
            time.sleep(PAUSE)


def _collect(finished: Iterator[tuple[Cell, Outcome]], store: Store, meter: Meter, worker: Worker) -> list[Exception]:
    errors: list[Exception] = []
    for cell, (outcome, about) in finished:
        error = outcome if isinstance(outcome, Exception) else _saved(store, cell, outcome, about)
        if error:
            errors.append(error)
            print(f"cell {cell.label or cell.key} failed: {error}", file=sys.stderr)
        else:
            worker.stored(cell)
        meter.advance(cell.cost, title=f"cells (last: {cell.label})")
    return errors


def _saved(store: Store, cell: Cell, result: Any, about: Mapping[str, Any]) -> Exception | None:
    try:
        store.save(cell, result, **about)
    except InputError:  # the folder cannot be written: no other cell could be kept either
        raise
    except (TypeError, ValueError) as error:
        return ValueError(f"the result of cell {cell.label or cell.key} cannot be stored as JSON ({error}).")
    return None


def _is_broken(handle: Handle) -> bool:
    return isinstance(handle, Future) and isinstance(handle.exception(), BrokenProcessPool)


def _outcome(handle: Handle) -> Outcome:
    """A result that could not be sent back is an outcome like a cell's own error; a pool that broke is not."""
    try:
        outcome: Outcome = handle.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        return error, {}
    return outcome


@dataclass(frozen=True)
class Task:
    """What an engine calls: runs a cell, and gives back an error instead of raising it.

    Attributes:
        worker: runs the cell.
        quiet: without progress, which workers show as well.
        away: in another process, to which errors must be sent.
    """

    worker: Worker
    quiet: bool = False
    away: bool = False

    def __call__(self, config: Mapping[str, Any]) -> Outcome:
        """Run one cell."""
        started = time.perf_counter()
        outcome: Any
        try:
            with ONE_AT_A_TIME, silence(self.quiet):
                outcome = self.worker(config)
        except Exception as error:  # handed to the caller, who raises it after the other cells
            outcome = _portable(error) if self.away else error
        seconds = round(time.perf_counter() - started, 1)
        return outcome, {"seconds": seconds, "hardware": hardware(), "versions": versions()}


def _portable(error: Exception) -> Exception:
    """An error that survives pickling; one that is not a user's mistake takes its traceback along."""
    where = "".join(traceback.format_exception(error))
    if not isinstance(error, InputError | TrainingDiverged):
        error.add_note(f"In the worker:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own class makes of it
        return RuntimeError(where)
    return error


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
