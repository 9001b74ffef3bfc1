"""What runs a cell of the study: train a network without spatial information from a site on, or test one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from whatwhere.data import Split
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.packed import pack
from whatwhere.lab.sources import place
from whatwhere.lab.trainer import Trainer
from whatwhere.models.load import load_model
from whatwhere.need.shuffling import shuffle
from whatwhere.need.studies.removals import REMOVALS, operated
from whatwhere.need.studies.result import INTACT
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY, TOP5, TopK
from whatwhere.site import Sites
from whatwhere.site_table import list_sites
from whatwhere.surgery import count_parameters
from whatwhere.training.evaluate import evaluate_among

FIXED = "fixed"
STILL = (INTACT, *REMOVALS)  # nothing is drawn when these are tested
TRAINED_WITH, TESTED_WITH = 1_000_003, 2_000_003  # keep the draws apart from those of weights and order


class TrainedWorker(Trainer):
    """Trains the network of a cell and tests it as it was trained, or tests a trained one the other way."""

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        return self._train(config) if config["do"] == "train" else self._test(config)

    def _train(self, config: Mapping[str, Any]) -> dict[str, Any]:
        net, test = build(config), self.data.test
        method, site, seed = config["method"], config["site"], config["seed"]
        draws = trained_with(seed)
        with removed(net, method, site, draws):
            history = self.trained(
                net,
                config,
                f"{method} from {site}, seed {seed}" if site else f"{method}, seed {seed}",
                test=test if config["watch"] else None,
                generators={"shuffle": draws},
            )
        return {
            **tested(net, test, method, site, draws_of(config, seed, own=True), score_in(config)),
            "epochs": history.epochs,
            "best": history.best,
            "parameters": count_parameters(net.module),
            "weights": fingerprint(net.module),
            "flops": list_sites(net).total_flops,
        }

    def _test(self, config: Mapping[str, Any]) -> dict[str, Any]:
        trained = config["trained"]
        net = place(self.load(build(trained), trained), self.device)
        draws = draws_of(config, trained["seed"])
        return tested(net, self.data.test, config["method"], config["site"], draws, score_in(trained))


def build(config: Mapping[str, Any]) -> Network:
    """The network of a training cell before its training."""
    net = load_model(config["model"], seed=config["seed"], fresh=True, **config["options"])
    method = config["method"]
    return operated(net, method, config["site"], config["seed"]) if method in REMOVALS else net


def removed(
    net: Network, method: str, site: str | None, generator: torch.Generator, table: Sites | None = None
) -> AbstractContextManager[Any]:
    """The temporary part of a method: nothing for networks that are intact or were operated on, else a shuffle."""
    if method in STILL:
        return nullcontext()
    return shuffle(net, f"{site}:", mode=method, generator=generator, table=table)  # type: ignore[arg-type]


def trained_with(seed: int) -> torch.Generator:
    """The source of draws of a training."""
    return torch.Generator().manual_seed(seed + TRAINED_WITH)


def draws_of(config: Mapping[str, Any], seed: int, *, own: bool = False) -> list[torch.Generator]:
    """The source of draws for each repeat of a test.

    Args:
        config: of the cell, with the method and the repeats of the test.
        seed: of the network.
        own: the network is tested as it was trained.
    """
    method, repeats = config["method"], config["repeats"]
    if method == FIXED and own:
        return [trained_with(seed)]  # the permutation it has learned
    if method == FIXED:
        return [torch.Generator().manual_seed(seed + TESTED_WITH + r) for r in range(repeats)]
    return [torch.Generator().manual_seed(seed + TESTED_WITH)] * (1 if method in STILL else repeats)


def score_in(config: Mapping[str, Any]) -> TopK:
    """The score of a training cell."""
    return TOP5 if config.get("score") == TOP5.name else ACCURACY


def tested(
    net: Network,
    split: Split,
    method: str,
    site: str | None,
    draws: Sequence[torch.Generator],
    score: TopK,
) -> dict[str, Any]:
    """Accuracy under a method's shuffle, once for each source of draws; one that comes again goes on drawing."""
    table = None if method in STILL else list_sites(net)
    runs = []
    for generator in draws:
        with removed(net, method, site, generator, table):
            runs.append(evaluate_among(net, split, score.k))
    hits = np.sum([r.correct.numpy() for r in runs], axis=0)
    accuracies = [r.accuracy for r in runs]
    return {
        "accuracy": float(np.mean(accuracies)),
        "accuracies": accuracies,
        "loss": float(np.mean([r.loss for r in runs])),
        "n": len(hits),
        "repeats": len(runs),
        "hits": pack(hits),
    }
