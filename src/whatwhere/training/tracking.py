"""Tracking: the epochs of trainings, written to a file or sent to a tracker while they run; no number depends on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from whatwhere.errors import InputError, unknown

Log = Literal["csv", "tensorboard", "wandb", "mlflow", "trackio"]
KINDS: tuple[str, ...] = get_args(Log)
LOGS = "logs"  # in the folder of a study or a training
PROJECT = "whatwhere"
PARAM = 500  # characters of a setting that MLflow takes
Record = Mapping[str, Any]


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
        InputError: if the tracker is unknown or not installed.
    """
    check_log(log)
    token = _tracked.set(Tracked(log, Path(folder), name, about or {}))
    try:
        yield
    finally:
        _tracked.reset(token)


class Epochs:
    """Logs one training, epoch by epoch; a training that goes on goes on in its log."""

    def __init__(self, where: Tracked | None) -> None:
        self._where, self._name = where, where.next_name() if where else ""
        self._run: Any = None
        self._done = 0

    def seen(self, history: Sequence[Record]) -> None:
        """Log what is new.

        Args:
            history: the records of all epochs so far, with those of before an interruption; the last is new.
        """
        if self._where is None:
            return
        if self._run is None:
            kind = _RUNS[self._where.log]
            self._done = 0 if kind.whole else len(history) - 1
            self._run = kind(self._where, self._name, self._done)
        for record in history[self._done :]:
            self._done += 1
            self._run.add(self._done, {k: float(v) for k, v in record.items() if isinstance(v, bool | int | float)})

    def close(self) -> None:
        """The training has ended, or was ended."""
        if self._run is not None:
            self._run.close()


@contextmanager
def logged() -> Iterator[Callable[[Sequence[Record]], None]]:
    """What a training calls with its history after every epoch; it does nothing where nobody tracks."""
    epochs = Epochs(_tracked.get())
    try:
        yield epochs.seen
    finally:
        epochs.close()


class _Csv:
    """Lightning's, written anew from the history when a training goes on."""

    whole = True

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        from lightning_fabric.loggers.csv_logs import CSVLogger  # takes seconds to import

        (where.folder / _plain(name) / "metrics.csv").unlink(missing_ok=True)
        self._logger = CSVLogger(where.folder, _plain(name), version="", flush_logs_every_n_steps=1)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._logger.log_metrics(values, epoch)

    def close(self) -> None:
        self._logger.finalize("success")


class _TensorBoard:
    """Lightning's; epochs that are logged twice show once."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        self._logger = TensorBoardLogger(where.folder, _plain(name), version="", purge_step=done + 1)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._logger.log_metrics(values, epoch)
        self._logger.save()

    def close(self) -> None:
        self._logger.finalize("success")


class _Wandb:
    """Weights & Biases; the same training has the same id, so that it goes on there."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        where.folder.mkdir(parents=True, exist_ok=True)
        how = {"id": _id(where, name), "name": name, "dir": str(where.folder), "config": dict(where.about)}
        self._run = import_module("wandb").init(project=PROJECT, resume="allow", **how)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=epoch)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Trackio, whose runs go on by name."""

    whole = False

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._run = import_module("trackio").init(
            project=PROJECT, name=f"{name} {_id(where, name)[:6]}", config=dict(where.about), resume="allow"
        )

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=epoch)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """MLflow's client, at its tracking URI (MLFLOW_TRACKING_URI); the run of the same training is found by its tag."""

    whole = False
    TAG = "whatwhere.id"

    def __init__(self, where: Tracked, name: str, done: int) -> None:
        self._client: Any = import_module("mlflow").MlflowClient()
        there = self._client.get_experiment_by_name(PROJECT)
        experiment = there.experiment_id if there else self._client.create_experiment(PROJECT)
        key = _id(where, name)
        found = self._client.search_runs([experiment], f"tags.`{self.TAG}` = '{key}'", max_results=1)
        run = found[0] if found else self._client.create_run(experiment, run_name=name, tags={self.TAG: key})
        self._id: str = run.info.run_id
        if not found:
            for key, value in where.about.items():
                self._client.log_param(self._id, key, str(value)[:PARAM])

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self._client.log_metric(self._id, key, value, step=epoch)

    def close(self) -> None:
        self._client.set_terminated(self._id)


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
