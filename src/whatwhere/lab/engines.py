"""Executors: who runs the cells that are missing."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import Any, TypeAlias

import torch

from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import hardware, versions

Run: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Outcome: TypeAlias = tuple[Any, dict[str, Any]]  # a result or an exception, and what is recorded beside it
Finished: TypeAlias = Generator[tuple[Cell, Any, dict[str, Any]], None, None]


def run_cells(
    cells: Sequence[Cell],
    run: Run,
    store: Store,
    *,
    workers: int = 0,
    quiet: bool = False,
    stored: Callable[[Cell], None] = lambda cell: None,
) -> int:
    """Run the cells that the store does not have yet; each result is written as soon as it is there.

    A cell that fails does not stop the others; its error is raised when they are done. An interruption ends the cells
    that are running; what they write themselves (checkpoints) is kept.

    Args:
        cells: what to run, in this order; one that comes twice is run once.
        run: from a configuration to a result; with workers it must be picklable.
        store: where results go.
        workers: 0 runs in this process; N starts N processes, which share the cores.
        quiet: print no progress.
        stored: called when a cell's result is safe (to remove its checkpoint, say).

    Returns:
        How many cells were run.

    Raises:
        InputError: if `workers` is negative, or a worker process died.
    """
    if workers < 0:
        raise InputError(f"workers={workers}: give 0 (this process) or a number of processes.")
    planned = list({c.key: c for c in cells}.values())
    missing = [c for c in planned if not store.has(c)]
    if missing and not quiet and len(missing) < len(planned):
        print(f"{len(planned) - len(missing)} of {len(planned)} cells are there already.", file=sys.stderr)
    finished = _in_processes(missing, run, workers) if workers else _here(missing, run)
    with Meter("cells", len(missing), quiet=quiet or not missing) as meter, closing(finished):
        errors = _collect(finished, store, meter, stored)
    if errors:
        raise errors[0]
    return len(missing)


def _collect(
    finished: Iterable[tuple[Cell, Any, dict[str, Any]]], store: Store, meter: Meter, stored: Callable[[Cell], None]
) -> list[Exception]:
    errors: list[Exception] = []
    for cell, outcome, about in finished:
        error = outcome if isinstance(outcome, Exception) else _saved(store, cell, outcome, about)
        if error:
            errors.append(error)
            print(f"cell {cell.label or cell.key} failed: {error}", file=sys.stderr)
        else:
            stored(cell)
        meter.advance(title=f"cells (last: {cell.label})")
    return errors


def _saved(store: Store, cell: Cell, result: Any, about: Mapping[str, Any]) -> Exception | None:
    try:
        store.save(cell, result, **about)
    except InputError:  # the folder cannot be written: no other cell could be kept either
        raise
    except (TypeError, ValueError) as error:
        return ValueError(f"the result of cell {cell.label or cell.key} cannot be stored as JSON ({error}).")
    return None


def _timed(run: Run, config: Mapping[str, Any]) -> Outcome:
    started = time.perf_counter()
    outcome: Any
    try:
        outcome = run(config)
    except Exception as error:  # handed to the caller, who raises it after the other cells
        outcome = error
    seconds = round(time.perf_counter() - started, 1)
    return outcome, {"seconds": seconds, "hardware": hardware(), "versions": versions()}


def _here(cells: Iterable[Cell], run: Run) -> Finished:
    for cell in cells:
        yield (cell, *_timed(run, cell.config))


def _in_processes(cells: Sequence[Cell], run: Run, workers: int) -> Finished:
    threads = max(1, torch.get_num_threads() // workers)  # what OMP_NUM_THREADS allows, shared out
    # fork after torch has started threads can hang, hence spawn.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,))
    try:
        with _deaf_children():
            pending = {pool.submit(_in_worker, run, cell.config): cell for cell in cells}
        while pending:
            done = wait(pending, return_when=FIRST_COMPLETED).done
            for future in sorted(done, key=_is_broken):  # what was finished before a worker died comes first
                yield (pending.pop(future), *_outcome(future))
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, most often because a script that starts workers has no "
            f'`if __name__ == "__main__":` around its call, or for want of memory: give fewer than workers={workers}. '
            "What was finished is kept, and the same command goes on from there."
        ) from error
    except BaseException:
        _stop(pool)
        raise
    finally:
        pool.shutdown()


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


def _is_broken(future: Future[Outcome]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _outcome(future: Future[Outcome]) -> Outcome:
    """A result that could not be sent back is an outcome like a cell's own error; a pool that broke is not."""
    error = future.exception()
    if isinstance(error, Exception) and not _is_broken(future):
        return error, {}
    return future.result()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the running cells: to wait for them could take hours."""
    for process in list((pool._processes or {}).values()):  # no public way before Python 3.14
        process.terminate()
    pool.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would otherwise train on, beside those of the next call."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _in_worker(run: Run, config: Mapping[str, Any]) -> Outcome:
    outcome, about = _timed(run, config)
    return (_portable(outcome) if isinstance(outcome, Exception) else outcome), about


def _portable(error: Exception) -> Exception:
    """An error that survives the way to the parent; one that is no user's mistake takes its traceback along."""
    where = "".join(traceback.format_exception(error))
    if not isinstance(error, InputError | TrainingDiverged):
        error.add_note(f"In the worker:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own class makes of it
        return RuntimeError(where)
    return error
