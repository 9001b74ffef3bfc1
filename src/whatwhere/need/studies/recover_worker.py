"""What runs a cell: test a network as it was given, collapsed or not; or fine-tune it, and test it then."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whatwhere.data import Data
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack
from whatwhere.lab.sources import GivenNetwork, place
from whatwhere.lab.trainer import Trainer
from whatwhere.need.gap_fc import collapse
from whatwhere.network import Network
from whatwhere.training.evaluate import evaluate

TEST, TUNE = "test", "tune"


@dataclass(frozen=True)
class RecoverWorker(PreparedOnce, Trainer):
    """Tests or fine-tunes the given network, collapsed before a site or intact.

    Attributes:
        network: the given one; copies of it are collapsed and trained.
        pictures: to train on, at most.
        limit: of test pictures.
    """

    network: GivenNetwork = field(kw_only=True)
    pictures: int | None = None
    limit: int | None = None

    @cached_property
    def data(self) -> Data:
        """The pictures, at most as many as were asked for."""
        return fewer(self.source.data, self.pictures, self.limit)

    def weights(self, config: Mapping[str, Any]) -> Path:
        """Where a cell's trained weights are; the name says what they are of."""
        return self.folder / weights_name(config)

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        net = self.network_at(config["site"])
        if config["do"] == TEST:
            return tested(place(net, self.device), self.data)
        net.module.float()  # what the recipe trains in, where a network was given in half precision
        history = self.trained(net, config, f"fine-tuning {net.name}, seed {config['seed']}")
        return {**tested(net, self.data), "epochs": history.epochs, "weights": weights_name(config)}

    def network_at(self, site: str | None) -> Network:
        """A copy of the given network, collapsed before a site; None leaves it intact."""
        net = for_pictures(self.network.net, self.data)
        return collapse(net, site) if site else replace(net, module=copy.deepcopy(net.module))


def tested(net: Network, data: Data) -> dict[str, Any]:
    """Which test pictures a network gets right."""
    found = evaluate(net, data)
    return {"accuracy": found.accuracy, "n": found.n, "hits": pack(found.correct.numpy().astype(np.uint8))}


def fewer(data: Data, pictures: int | None, limit: int | None) -> Data:
    """The two splits, with at most so many pictures to train on and to test, balanced over the classes."""
    most = {"train": (data.train, pictures), "test": (data.test, limit)}
    return Data(data.name, {name: split if n is None else split.take(n) for name, (split, n) in most.items()})


def for_pictures(net: Network, data: Data) -> Network:
    """The same network, which knows the size of these pictures."""
    return replace(net, input_size=data.test.shape(net.preprocessing))


def weights_name(config: Mapping[str, Any]) -> str:
    """The file of a cell's weights in the study's folder, such as weights/layer4.0-seed0-<key>.safetensors."""
    where = re.sub(r"[^\w.#-]+", "_", config["site"] or "intact")
    return f"weights/{where}-seed{config['seed']}-{Cell(config).key}.safetensors"
