"""Running cells: those that are missing go to an engine; those that other processes run are waited for."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell, CellFiles, Store, Worker
from whatwhere.lab.claims import LOOK, Claim
from whatwhere.lab.engines import Engine, Handle, Here
from whatwhere.lab.progress import Meter
from whatwhere.lab.tasks import Keeping, Report, Task, kept

PAUSE = 0.02  # seconds between two looks at cells that run elsewhere


def run_cells(
    cells: Sequence[Cell],
    worker: Worker,
    store: Store,
    engine: Engine | None = None,
    *,
    quiet: bool = False,
    title: str = "cells",
) -> int:
    """Run the cells that the store does not have yet; each result is written as soon as it is there.

    A cell that another process runs, of this command started twice or on another machine, is waited for, and run here
    if that process dies. A cell that fails does not stop the others; its error is raised when they are done. An
    interruption ends the cells that are running; what they write themselves (checkpoints) is kept.

    Args:
        cells: what to run, in this order; one that comes twice is run once.
        worker: from a configuration to a result.
        store: where results go.
        engine: runs the cells, from `engine_for`; None is this process.
        quiet: print no progress.
        title: of the bar.

    Returns:
        How many cells were missing.

    Raises:
        InputError: if the worker cannot be sent to other processes, or the store cannot be written.
    """
    missing = [c for c in {c.key: c for c in cells}.values() if not store.has(c)]
    if not missing:
        return 0
    chosen = engine or Here()
    task = Task(worker, quiet) if isinstance(chosen, Here) else _sendable(Task(worker, quiet, away=True))
    with Meter(title, sum(c.cost for c in missing), quiet=quiet) as meter:
        under_way = UnderWay(chosen, task, CellFiles(store.folder, store.mark), meter, quiet)
        errors = _collect(under_way.finished(missing), store, meter, worker, title)
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
        raise InputError(
            f"the cells' worker cannot be sent to other processes ({error}); give workers=0 and no engine."
        ) from error
    return task


def _collect(
    finished: Iterator[tuple[Cell, Report]], store: Store, meter: Meter, worker: Worker, title: str
) -> list[Exception]:
    errors: list[Exception] = []
    for cell, found in finished:
        report = _seen(cell, found, store, worker)
        if report.error and report.state == "unwritable":
            raise report.error
        if report.error:
            errors.append(report.error)
            print(f"cell {cell.label or cell.key} failed: {report.error}", file=sys.stderr)
        meter.advance(cell.cost, title=f"{title} (last: {cell.label})")
    return errors


def _seen(cell: Cell, report: Report, store: Store, worker: Worker) -> Report:
    """A result that was kept where it cannot be seen from here, or not yet (NFS lags), is written again."""
    if report.state != "kept" or report.result is None or store.has(cell):
        return report
    return kept(cell, report.result, report.about, store, worker)


@dataclass
class UnderWay:
    """The cells of one call: those that the engine has, and those that other processes run.

    Attributes:
        engine: runs them.
        task: what it runs.
        files: of the cells.
        meter: of the call.
        quiet: do not say that cells are waited for.
    """

    engine: Engine
    task: Task
    files: CellFiles
    meter: Meter
    quiet: bool = False
    running: list[tuple[Cell, Handle]] = field(default_factory=list)
    waiting: list[tuple[Cell, Claim]] = field(default_factory=list)
    looked: float = 0.0

    def finished(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Report]]:
        """Run all, and give each as it ends."""
        for cell in cells:
            self._submit(cell)
        while self.running or self.waiting:
            idle = True
            for cell, report in self._ended():
                idle = False
                if report.state == "claimed":
                    self._wait_for(cell)
                else:
                    yield cell, report
            yield from self._ended_elsewhere()
            if idle:
                time.sleep(min(1.0, PAUSE * max(1, len(self.running) // 10)))  # each may be a question to a cluster

    def _submit(self, cell: Cell) -> None:
        keeping = Keeping(self.task, self.files, cell.label)
        self.running.append((cell, self.engine.submit(keeping, cell.config)))

    def _ended(self) -> Iterator[tuple[Cell, Report]]:
        """Those that have ended since the last look; in this process, the next one, which runs when it is asked."""
        ready = [(c, h) for c, h in self.running if h.done()]
        if isinstance(self.engine, Here) and ready:
            ready = ready[:1]
            self.meter.begin(ready[0][0].cost)
        for cell, handle in sorted(ready, key=lambda pair: _is_broken(pair[1])):  # what was finished before comes first
            self.running.remove((cell, handle))
            yield cell, _report(handle)

    def _wait_for(self, cell: Cell) -> None:
        claim = self.files.claim(cell)
        if not self.waiting and not self.quiet:
            who = claim.holder or "another process"
            print(f"cell {cell.label or cell.key} is run by {who}; its result is waited for.", file=sys.stderr)
        self.waiting.append((cell, claim))

    def _ended_elsewhere(self) -> Iterator[tuple[Cell, Report]]:
        """Those that other processes have finished; what they left unfinished is run here."""
        if not self.waiting or time.monotonic() - self.looked < LOOK:
            return
        for cell, claim in list(self.waiting):
            done = self.files.has(cell)
            if done or claim.free():
                self.waiting.remove((cell, claim))
                if done:
                    yield cell, Report("kept")
                else:
                    self._submit(cell)
        self.looked = time.monotonic()


def _is_broken(handle: Handle) -> bool:
    return isinstance(handle, Future) and isinstance(handle.exception(), BrokenProcessPool)


def _report(handle: Handle) -> Report:
    """A result that could not be sent back is a cell's error like its own; a pool that broke is not."""
    try:
        report: Report = handle.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        return Report("failed", error)
    return report
