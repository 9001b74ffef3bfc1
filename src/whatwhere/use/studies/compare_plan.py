"""What one cell of the study does: train a network with a method inside, and test it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from whatwhere.data import Data, load_data
from whatwhere.models.load import load_model, load_weights, save_weights
from whatwhere.network import Network
from whatwhere.recalibration import recalibrate
from whatwhere.runs.cells import Cell
from whatwhere.runs.progress import Meter
from whatwhere.sites import list_sites
from whatwhere.studies.packed import pack
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe

NONE = "none"


@dataclass(frozen=True)
class Bench:
    """What a cell needs that does not decide its result.

    Attributes:
        data: what `load_data` takes; a path or name where cells run in other processes.
        folder: checkpoints while training, trained weights after.
        device: Fabric's accelerator.
    """

    data: str
    folder: Path
    device: str = "auto"

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        data, net = data_of(self.data), build(config)
        recipe = Recipe(**{**config["recipe"], "milestones": tuple(config["recipe"]["milestones"])})
        steps = recipe.epochs * (len(data.train) // recipe.batch_size)
        with Meter(f"{config['name']}, seed {config['seed']}", steps) as meter:
            history = fit(
                net, data.train, recipe, seed=config["seed"], device=self.device, file=self.checkpoint(Cell(config)),
                on_step=lambda done, total: meter.update(done),
            )  # fmt: skip
        save_weights(net.module, self.weights(Cell(config)))
        tested = evaluate(net, data.test)
        return {
            "accuracy": tested.accuracy, "n": tested.n, "hits": pack(tested.correct.numpy().astype(np.uint8)),
            "epochs": history.epochs, "parameters": sum(p.numel() for p in net.module.parameters()),
            "flops": list_sites(net).total_flops,
        }  # fmt: skip

    def checkpoint(self, cell: Cell) -> Path:
        """Where a cell stands, until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.pt"

    def weights(self, cell: Cell) -> Path:
        """Where a cell's weights are."""
        return self.folder / "weights" / f"{cell.key}.safetensors"

    def trained(self, config: Mapping[str, Any]) -> Network:
        """The network of a cell after its training."""
        net = build(config)
        load_weights(net.module, self.weights(Cell(config)))
        return net


@lru_cache(maxsize=2)
def data_of(source: str) -> Data:
    """The pictures; cells of one process share them."""
    return load_data(source)


def build(config: Mapping[str, Any]) -> Network:
    """The network of a cell before its training: the same initial weights for every method, but for its own."""
    net = load_model(config["model"], seed=config["seed"], **config["options"])
    if config["method"] == NONE:
        return net
    gated = recalibrate(net, config["method"], seed=config["seed"], **config["settings"])
    assert isinstance(gated, Network)
    return gated
