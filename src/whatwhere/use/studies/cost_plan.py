"""The cost study's only cell: all networks measured in one process, because their latencies are paired by round."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whatwhere.costs import Cost as Measured
from whatwhere.costs import cost
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.provenance import hardware
from whatwhere.lab.rows import checked_counts
from whatwhere.lab.sources import GivenData
from whatwhere.lab.study import Finished, Plan, Run, Worker
from whatwhere.models.load import load_model
from whatwhere.network import Network
from whatwhere.site import blank_picture, evaluating
from whatwhere.use.studies.compare_plan import build, cell_of, checked_methods
from whatwhere.use.studies.compare_result import NONE
from whatwhere.use.studies.cost import Cost
from whatwhere.use.studies.cost_result import CostResult

NOTES = (
    "FLOPs: 2 for each multiply-add of convolutions and linear layers.",
    "Latency: median of interleaved forward passes on the CPU, in evaluation mode, channels last. Its per cent is the "
    "median of ratios within a round, and noisy: repeat it on a quiet machine.",
    "Kept: bytes that a training step keeps of one picture for the backward pass, float32.",
)


class CostPlan(Plan[Cost, CostResult]):
    """One cell: all methods of a call."""

    @cached_property
    def network(self) -> dict[str, Any]:
        """The plain network, and the size of a picture."""
        data = GivenData.of(self.study.data).data
        options = {"classes": len(data.classes), "width": self.study.width}
        plain = load_model(self.study.model, classes=len(data.classes), width=self.study.width)
        return {"model": self.study.model, "options": options, "size": list(data.train.shape(plain.preprocessing))}

    @cached_property
    def cell(self) -> Cell:
        """The cell that measures the methods of this call."""
        names = checked_methods(as_tuple(self.study.methods), self.study.model)
        rounds = {"batch": self.study.batch, "rounds": self.study.rounds}
        return Cell({**self.network, "do": "cost", "methods": list(names), **rounds}, ", ".join(names))

    def shared(self) -> Mapping[str, Any]:
        """The plain network; methods and rounds may change in a folder, and are then measured again."""
        checked_counts(batch=self.study.batch, rounds=self.study.rounds)
        return {name: self.cell.config[name] for name in self.network}

    def cells(self, done: Finished) -> Iterable[Cell]:
        """All methods in one."""
        return [self.cell]

    def check(self, how: Run) -> None:
        """Refuse what would make latencies incomparable: another device, or processes side by side.

        Raises:
            InputError: naming the option.
        """
        if how.engine:
            raise InputError(f"engine={how.engine!r}: latencies are measured in turns, by one process; leave it out.")
        if how.workers > 1:
            raise InputError(f"workers={how.workers}: latencies are measured in turns, by one process; give 0 or 1.")
        if how.device not in ("auto", "cpu"):
            raise InputError(f"device={how.device!r}: latency is measured on the CPU; give 'auto' or 'cpu'.")

    def worker(self, how: Run) -> CostWorker:
        """Measures all networks."""
        return CostWorker()

    def fold(self, done: Finished) -> CostResult:
        """The measurement that was asked for."""
        if self.cell not in done:
            raise InputError("the cost of these methods is not measured yet; run the study without fold_only.")
        found = done[self.cell]
        return CostResult(
            {name: Measured(**plain) for name, plain in found["costs"].items()},
            found["slower"],
            settings={**self.cell.config, "hardware": found["hardware"]},
            notes=NOTES,
        )


class CostWorker(Worker):
    """Measures the networks of a cell, which its configuration describes."""

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        nets = {name: _network(name, config) for name in config["methods"]}
        size, batch = tuple(config["size"]), config["batch"]
        costs = {name: cost(net, input_size=size, batch=batch, seconds=0).to_dict() for name, net in nets.items()}
        took = seconds_of({name: net.module for name, net in nets.items()}, size, batch, config["rounds"])
        for name, plain in costs.items():
            plain["latency_ms"] = 1000 * float(np.median(took[name])) / batch
        slower = {name: float(np.median(seconds / took[NONE])) for name, seconds in took.items()}
        return {"costs": costs, "slower": slower, "hardware": hardware()}


def _network(name: str, config: Mapping[str, Any]) -> Network:
    return build(cell_of(name, 0, {key: config[key] for key in ("model", "options")}).config)


def seconds_of(
    nets: Mapping[str, nn.Module], size: tuple[int, int, int], batch: int, rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds of every forward pass; networks take turns, so that a busy machine slows all of them alike."""
    took: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(rounds):
        for name, module in nets.items():
            pictures = blank_picture(module, size).expand(batch, *size).contiguous(memory_format=torch.channels_last)
            with evaluating(module):
                started = time.perf_counter()
                module(pictures)
                took[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in took.items()}
