"""Tracking: the epochs of trainings, written to a file or sent to a tracker while they run; no number depends on it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from whatwhere.errors import InputError, unknown
from whatwhere.files import write_text

Log = Literal["csv", "tensorboard", "wandb", "mlflow", "trackio"]
KINDS: tuple[str, ...] = get_args(Log)
LOGS = "logs"  # in the folder of a study or a training
PROJECT = "whatwhere"
PARAM = 500  # characters of a setting that MLflow takes
Record = Mapping[str, Any]
Outcome = Literal["finished", "failed", "killed"]


def check_log(log: str) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        InputError: with what to install.
    """
    if log not in KINDS:
        raise unknown("log", log, KINDS)
    if log != "csv" and find_spec(log) is None:
        raise InputError(f"log={log!r}: {log} is not installed; `pip install {log}` adds it, or give log csv.")


@dataclass
class Tracked:
    """Where trainings are logged.

    Attributes:
        log: csv, tensorboard, wandb, mlflow or trackio.
        folder: for what trackers write on this machine; each training has a folder of its own name there.
        name: of the training; a second one of the same cell gets a number.
        about: settings to record beside it.
    """

    log: str
    folder: Path
    name: str
    about: Record = field(default_factory=dict)
    begun: int = 0

    def next_name(self) -> str:
        """The name of the next training."""
        self.begun += 1
        return self.name if self.begun == 1 else f"{self.name} {self.begun}"


_tracked: ContextVar[Tracked | None] = ContextVar("tracked", default=None)


@contextmanager
def tracked(log: str, folder: Path, name: str, about: Record | None = None) -> Iterator[None]:
    """Log the trainings that run inside.

    >>> with tracked("tensorboard", Path("logs"), "resnet20"):
    ...     fit(net, data.train, recipe)

    Args:
        log: csv, tensorboard, wandb, mlflow or trackio; the last three go where their own settings say.
        folder: for what is written on this machine.
        name: of the training.
        about: settings to record beside it.

    Raises:
        InputError: if the tracker is unknown or not installed; inside, before a first epoch, if it cannot be opened.
            What fails later is a warning, and tried again after the next epoch.
    """
    check_log(log)
    token = _tracked.set(Tracked(log, Path(folder), name, about or {}))
    try:
        yield
    finally:
        _tracked.reset(token)


class Epochs:
    """Logs one training, epoch by epoch; a training that goes on goes on in its log, and none ends for its log."""

    def __init__(self, where: Tracked | None) -> None:
        self._where, self._name = where, where.next_name() if where else ""
        self._run: Any = None
        self._history: list[Record] = []
        self._done = 0
        self._warned = False

    def open(self, done: int = 0) -> None:
        """Begin the log, or go on in it; nothing happens where it is open.

        Args:
            done: epochs from before an interruption, which were logged as they ended.

        Raises:
            InputError: if the tracker cannot be reached, or its files cannot be written.
        """
        if self._where is None or self._run is not None:
            return
        kind = _RUNS[self._where.log]
        try:
            self._run = kind(self._where, self._name, done)
        except Exception as error:  # each tracker has kinds of its own
            raise _unopened(self._where, error) from error
        self._done = 0 if kind.whole else done

    def __call__(self, history: Sequence[Record]) -> None:
        """Log what is new, with what could not be logged before.

        Args:
            history: the records of all epochs so far, with those of before an interruption; the last is new.
        """
        if self._where is not None:
            self.open(len(history) - 1)
            self._history = list(history)
            self._send()

    def close(self, outcome: Outcome) -> None:
        """The training has ended, or was ended."""
        if self._run is None:
            return
        self._send()
        try:
            self._run.close(outcome)
        except Exception as error:
            self._warn(f"the log could not be closed ({_why(error)})")
        if self._done < len(self._history):
            self._warn(f"what follows epoch {self._done} is not in the log", again=True)

    def _send(self) -> None:
        for record in self._history[self._done :]:
            values = {k: float(v) for k, v in record.items() if isinstance(v, bool | int | float)}
            try:
                self._run.add(self._done + 1, values)
            except Exception as error:
                self._warn(f"epoch {self._done + 1} could not be logged ({_why(error)}); it is tried again later")
                return
            self._done += 1

    def _warn(self, what: str, *, again: bool = False) -> None:
        if again or not self._warned:
            warnings.warn(f"log={getattr(self._where, 'log', '')!r}: {what}. The training is as without.", stacklevel=4)
        self._warned = True


@contextmanager
def logged() -> Iterator[Epochs]:
    """What a training calls with its history after every epoch; it does nothing where nobody tracks."""
    epochs = Epochs(_tracked.get())
    try:
        yield epochs
    except BaseException as error:
        epochs.close("failed" if isinstance(error, Exception) else "killed")
        raise
    epochs.close("finished")


def _why(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")


def _unopened(where: Tracked, error: Exception) -> InputError:
    """Nothing is trained yet, so that this may end the training."""
    here = where.log in ("csv", "tensorboard")
    remedy = f"see that {where.folder} can be written" if here else "see that it can be reached, and how it is set up"
    return InputError(f"log={where.log!r} cannot be opened ({_why(error)}); {remedy}, or leave log out.")


class _Csv:
    """A line for each epoch; the file is written anew each time, from the history when a training goes on."""

    whole = True

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._file = where.folder / _plain(name) / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] = {}
        write_text(self._file, self._file.read_text("utf-8") if self._file.exists() else "")  # an error now, not later

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._rows[epoch] = {**values, "step": epoch}
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, sorted({key for row in self._rows.values() for key in row}))
        writer.writeheader()
        writer.writerows(self._rows.values())
        write_text(self._file, text.getvalue())

    def close(self, outcome: Outcome) -> None:
        """Nothing is open."""


class _TensorBoard:
    """Lightning's; epochs that are logged twice show once."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._where, self._name = where, name
        self._logger = self._opened(done + 1)

    def _opened(self, first: int) -> Any:
        """A file in which what others hold from an epoch on is void."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        logger = TensorBoardLogger(self._where.folder, _plain(self._name), version="", purge_step=first)
        logger.experiment.flush()  # an error now, rather than after an epoch
        return logger

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._logger = self._logger or self._opened(epoch)
        try:
            self._logger.log_metrics(values, epoch)
            self._logger.save()
        except Exception:
            self._logger = None  # it cannot write any more
            raise

    def close(self, outcome: Outcome) -> None:
        if self._logger is not None:
            self._logger.finalize("success" if outcome == "finished" else outcome)


class _Wandb:
    """Weights & Biases; the same training has the same id, so that it goes on there."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        where.folder.mkdir(parents=True, exist_ok=True)
        how = {"id": _id(where, name), "name": name, "dir": str(where.folder), "config": dict(where.about)}
        self._run = import_module("wandb").init(project=PROJECT, resume="allow", **how)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=epoch)

    def close(self, outcome: Outcome) -> None:
        self._run.finish(**({} if outcome == "finished" else {"exit_code": 1}))


class _Trackio:
    """Trackio, whose runs go on by name; it knows none that failed."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._run = import_module("trackio").init(
            project=PROJECT, name=f"{name} {_id(where, name)[:6]}", config=dict(where.about), resume="allow"
        )

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=epoch)

    def close(self, outcome: Outcome) -> None:
        self._run.finish()


class _Mlflow:
    """MLflow's client, at its tracking URI (MLFLOW_TRACKING_URI); the run of the same training is found by its tag."""

    whole = False
    TAG = "whatwhere.id"

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._client: Any = import_module("mlflow").MlflowClient()
        experiment = self._experiment()
        key = _id(where, name)
        found = self._client.search_runs([experiment], f"tags.`{self.TAG}` = '{key}'", max_results=1)
        run = found[0] if found else self._client.create_run(experiment, run_name=name, tags={self.TAG: key})
        self._id: str = run.info.run_id
        if found:  # it ended once, or was killed
            self._client.update_run(self._id, status="RUNNING")
        for key, value in () if found else where.about.items():
            self._client.log_param(self._id, key, str(value)[:PARAM])

    def _experiment(self) -> str:
        """The one of all trainings; of several that begin at once, one makes it."""
        there = self._client.get_experiment_by_name(PROJECT)
        try:
            made = there or self._client.create_experiment(PROJECT)
        except Exception:
            if (there := self._client.get_experiment_by_name(PROJECT)) is None:
                raise
        return str(there.experiment_id if there else made)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self._client.log_metric(self._id, key, value, step=epoch)

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._id, status=outcome.upper())


_RUNS: Mapping[str, Any] = {
    "csv": _Csv,
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
    "trackio": _Trackio,
}


def _plain(name: str) -> str:
    """A name as a folder."""
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_.") or "training"


def _id(where: Tracked, name: str) -> str:
    """The same for the same training in the same folder."""
    return hashlib.sha256(f"{where.folder.resolve()}\n{name}".encode()).hexdigest()[:16]
