"""Executors: who runs the cells that are missing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import torch

from whatwhere.errors import InputError
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import hardware, versions

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def run_cells(cells: Sequence[Cell], run: Run, store: Store, *, workers: int = 0, quiet: bool = False) -> int:
    """Run the cells that the store does not have yet; each result is written as soon as it is there.

    A cell that fails does not stop the others; its error is raised when they are done.

    Args:
        cells: what to run, in this order.
        run: from a configuration to a result; with workers it must be picklable.
        store: where results go.
        workers: 0 runs in this process; N starts N processes, which share the cores.
        quiet: print no progress.

    Returns:
        How many cells were run.

    Raises:
        InputError: if `workers` is negative.
    """
    if workers < 0:
        raise InputError(f"workers={workers}: give 0 (this process) or a number of processes.")
    missing = [c for c in cells if not store.has(c)]
    if missing and not quiet and len(missing) < len(cells):
        print(f"{len(cells) - len(missing)} of {len(cells)} cells are there already.", file=sys.stderr)
    with Meter("cells", len(missing), quiet=quiet or not missing) as meter:
        finished = _in_processes(missing, run, workers) if workers else _here(missing, run)
        errors = _collect(finished, store, meter)
    if errors:
        raise errors[0]
    return len(missing)


def _collect(finished: Iterable[tuple[Cell, Any, float]], store: Store, meter: Meter) -> list[Exception]:
    errors: list[Exception] = []
    for cell, outcome, seconds in finished:
        if isinstance(outcome, Exception):
            errors.append(outcome)
            print(f"cell {cell.label or cell.key} failed: {outcome}", file=sys.stderr)
        else:
            store.save(cell, outcome, seconds=round(seconds, 1), hardware=hardware(), versions=versions())
        meter.advance(title=f"cells (last: {cell.label})")
    return errors


def _timed(run: Run, config: Mapping[str, Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    try:
        return run(config), time.perf_counter() - started
    except Exception as error:  # handed to the caller, who raises it after the other cells
        return error, time.perf_counter() - started


def _here(cells: Iterable[Cell], run: Run) -> Iterable[tuple[Cell, Any, float]]:
    for cell in cells:
        yield (cell, *_timed(run, cell.config))


def _in_processes(cells: Sequence[Cell], run: Run, workers: int) -> Iterable[tuple[Cell, Any, float]]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    # fork after torch has started threads can hang, hence spawn.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            pending = {pool.submit(_timed, run, cell.config): cell for cell in cells}
            while pending:
                done: set[Future[tuple[Any, float]]] = wait(pending, return_when=FIRST_COMPLETED).done
                for future in done:
                    yield (pending.pop(future), *_outcome(future))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _outcome(future: Future[tuple[Any, float]]) -> tuple[Any, float]:
    """The pool's own failure (a worker that was killed) is an outcome like a cell's own error."""
    error = future.exception()
    if isinstance(error, Exception):
        return error, 0.0
    return future.result()


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
