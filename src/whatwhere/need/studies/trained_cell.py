"""What one cell of the study does: train a network without spatial information from a site on, or test one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whatwhere.data import Data, Split, load_data
from whatwhere.dependency import collapse, shuffle
from whatwhere.errors import InputError
from whatwhere.models.load import load_model, load_weights, save_weights
from whatwhere.network import Network
from whatwhere.runs.cells import Cell
from whatwhere.runs.progress import Meter
from whatwhere.sites import Sites, list_sites
from whatwhere.studies.packed import pack
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe

INTACT = "intact"
GAP_FC = "gap_fc"
FIXED = "fixed"


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
        return (_train if config["do"] == "train" else _test)(config, self)

    def checkpoint(self, cell: Cell) -> Path:
        """Where a train cell stands, until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.pt"

    def forget(self, cell: Cell) -> None:
        """Remove the checkpoint of a cell whose result is stored."""
        self.checkpoint(cell).unlink(missing_ok=True)

    def weights(self, config: Mapping[str, Any]) -> Path:
        """Where a train cell's weights are."""
        return self.folder / "weights" / f"{Cell(config).key}.safetensors"


@lru_cache(maxsize=2)
def _data(source: str) -> Data:
    return load_data(source)


def build(config: Mapping[str, Any]) -> Network:
    """The network of a train cell before its training."""
    net = load_model(config["model"], seed=config["seed"], **config["options"])
    if config["method"] != GAP_FC:
        return net
    # Kernel sums of a fresh He initialisation are a fresh He initialisation of the linear maps.
    small = collapse(net, config["site"])
    assert isinstance(small, Network)
    return small


def removed(
    net: Network, method: str, site: str | None, generator: torch.Generator, table: Sites | None = None
) -> AbstractContextManager[Any]:
    """The temporary part of a method: nothing for the intact network and for GAP+FC, else a shuffle from a site on."""
    if method in (INTACT, GAP_FC):
        return nullcontext()
    return shuffle(net, f"{site}:", mode=method, generator=generator, table=table)  # type: ignore[arg-type]


def _train(config: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    data, net = _data(bench.data), build(config)
    draws = _trained_with(config["seed"])
    checkpoint = bench.checkpoint(Cell(config))
    recipe = _recipe(config["recipe"])
    steps = recipe.epochs * (len(data.train) // recipe.batch_size)
    with Meter(_title(config), steps) as meter, removed(net, config["method"], config["site"], draws):
        history = fit(
            net, data.train, recipe, seed=config["seed"], device=bench.device, file=checkpoint,
            test=data.test if config["watch"] else None, generators={"shuffle": draws},
            on_step=lambda done, total: meter.update(done),
        )  # fmt: skip
    save_weights(net.module, bench.weights(config))
    tested = _tested(net, data.test, config["method"], config["site"], _draws(config, config["seed"], own=True))
    return {
        **tested,
        "epochs": history.epochs,
        "best": history.best,
        "parameters": sum(p.numel() for p in net.module.parameters()),
        "flops": list_sites(net).total_flops,
    }


def _recipe(plain: Mapping[str, Any]) -> Recipe:
    return Recipe(**{**plain, "milestones": tuple(plain["milestones"])})


def _title(config: Mapping[str, Any]) -> str:
    return f"{config['method']} from {config['site'] or 'nowhere'}, seed {config['seed']}"


def _test(config: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    trained = config["trained"]
    weights = bench.weights(trained)
    if not weights.exists():
        raise InputError(
            f"{weights} is missing: the trained network was not kept. Delete cells/{Cell(trained).key}.json and run "
            "the command again to train it anew."
        )
    net = build(trained)
    load_weights(net.module, weights)
    return _tested(net, _data(bench.data).test, config["method"], config["site"], _draws(config, trained["seed"]))


def _trained_with(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 1_000_003)


def _draws(config: Mapping[str, Any], seed: int, *, own: bool = False) -> list[torch.Generator]:
    """The source of draws for each repeat of a test: `own` where a network is tested as it was trained."""
    method, repeats = config["method"], config["repeats"]
    if method == FIXED and own:
        return [_trained_with(seed)]  # the permutation it has learned
    if method == FIXED:
        return [torch.Generator().manual_seed(seed + 2_000_003 + r) for r in range(repeats)]
    return [torch.Generator().manual_seed(seed + 2_000_003)] * (1 if method in (INTACT, GAP_FC) else repeats)


def _tested(
    net: Network, split: Split, method: str, site: str | None, draws: Sequence[torch.Generator]
) -> dict[str, Any]:
    """Accuracy under a method's shuffle, once for each source of draws; one that comes again goes on drawing."""
    table = None if method in (INTACT, GAP_FC) else list_sites(net)
    runs = []
    for generator in draws:
        with removed(net, method, site, generator, table):
            runs.append(evaluate(net, split))
    hits = np.sum([r.correct.numpy() for r in runs], axis=0)
    accuracies = [r.accuracy for r in runs]
    return {
        "accuracy": float(np.mean(accuracies)), "accuracies": accuracies,
        "loss": float(np.mean([r.loss for r in runs])), "n": len(hits), "repeats": len(runs), "hits": pack(hits),
    }  # fmt: skip
