"""Cells whose trainings are logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whatwhere.lab.cells import Cell, Worker
from whatwhere.training.tracking import LOGS, tracked


@dataclass(frozen=True)
class Logging(Worker):
    """Runs cells as another worker does, and logs what they train.

    Attributes:
        worker: runs a cell.
        log: csv, tensorboard, wandb, mlflow or trackio.
        folder: of the study.
        labels: of cells, by key.
    """

    worker: Worker
    log: str
    folder: Path
    labels: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one cell."""
        key = Cell(config).key
        name = " ".join(filter(None, [self.labels.get(key), key[:6]]))
        with tracked(self.log, self.folder / LOGS, name, config):
            return self.worker(config)

    def stored(self, cell: Cell) -> None:
        """As of the worker."""
        self.worker.stored(cell)
