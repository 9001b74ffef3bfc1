"""What an engine runs, here or elsewhere: a cell is claimed, run, and its result kept."""

from __future__ import annotations

import pickle
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.lab.cells import Cell, CellFiles, Worker
from whatwhere.lab.progress import silence
from whatwhere.lab.provenance import hardware, versions

Outcome: TypeAlias = tuple[Any, dict[str, Any]]  # a result or an exception, and what is recorded beside it
ONE_AT_A_TIME = (
    threading.RLock()
)  # a cell may run a study of its own; cells seed the process's random state, and share its cached networks


@dataclass(frozen=True)
class Report:
    """How a cell ended, as an engine sends it back.

    Attributes:
        state: "kept": its result is in the folder; "claimed": another process runs it; "failed"; "unwritable": it ran,
            and the folder cannot be written, so that no other cell could be kept either.
        error: what went wrong.
        result: of a cell that ran.
        about: what is recorded beside it.
    """

    state: Literal["kept", "claimed", "failed", "unwritable"]
    error: Exception | None = None
    result: Any = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Runs a cell, and gives back an error instead of raising it.

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


@dataclass(frozen=True)
class Keeping:
    """Runs a cell that no other process runs, and keeps its result before another may ask for it.

    Where it is kept is where it runs: a job outlives the command that has sent it.

    Attributes:
        task: runs the cell.
        files: of the cells.
        label: the cell's.
    """

    task: Task
    files: CellFiles
    label: str = ""

    def __call__(self, config: Mapping[str, Any]) -> Report:
        """Claim, run, keep."""
        cell = Cell(config, self.label)
        try:
            with self.files.claim(cell).held() as mine:
                return self._run(cell) if mine else Report("claimed")
        except InputError as error:
            return Report("unwritable", error)

    def _run(self, cell: Cell) -> Report:
        self.files.check()
        if self.files.has(cell):  # another process has run it since it was asked for
            return Report("kept")
        outcome, about = self.task(cell.config)
        if isinstance(outcome, Exception):
            return Report("failed", outcome)
        return kept(cell, outcome, about, self.files, self.task.worker)


def kept(cell: Cell, result: Any, about: Mapping[str, Any], files: CellFiles, worker: Worker) -> Report:
    """Keep a cell's result, unless it is there.

    Args:
        cell: that has run.
        result: of it.
        about: recorded beside it.
        files: of the cells.
        worker: told when the result is safe.
    """
    try:
        if not files.has(cell):
            files.save(cell, result, **about)
    except InputError as error:
        return Report("unwritable", error)
    except (TypeError, ValueError) as error:
        wrong = ValueError(f"the result of cell {cell.label or cell.key} cannot be stored as JSON ({error}).")
        return Report("failed", wrong)
    worker.stored(cell)
    return Report("kept", result=result, about=about)


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
