"""What runs a cell: test a network as it was given, collapsed or not; or fine-tune it, and test it then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whatwhere.data import Data
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack
from whatwhere.lab.sources import GivenNetwork, place
from whatwhere.lab.trainer import Trainer
from whatwhere.models.opened import WEIGHTS
from whatwhere.models.saved import save, unsavable
from whatwhere.need.gap_fc import collapse
from whatwhere.need.studies.chunk import measure_plain
from whatwhere.need.studies.recover_course import FROM, SCORE, Course, Kept
from whatwhere.need.studies.tally import Tally
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.named import ALONE
from whatwhere.scores.score import Score
from whatwhere.surgery import copied
from whatwhere.training.evaluate import evaluate
from whatwhere.training.fit import History

TEST, TUNE = "test", "tune"
FILE = ".safetensors"
BATCH = 256  # pictures in a forward pass
RECOVER = "whatwhere need recover"  # who writes


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
        there = self.folder / self.kept(config)
        return there if self._weights_alone else there / WEIGHTS

    def kept(self, config: Mapping[str, Any]) -> str:
        """What is kept of a cell, in the study's folder: a folder that every --model takes, or a file of weights."""
        return weights_name(config) if self._weights_alone else weights_name(config).removesuffix(FILE)

    def keep(self, net: Network, config: Mapping[str, Any]) -> None:
        """Write the fine-tuned network, or its weights alone."""
        if self._weights_alone:
            super().keep(net, config)
        else:  # the study's own folder holds nothing of others
            save(net, self.folder / self.kept(config), classes=self.data.classes, overwrite=True, by=RECOVER)

    @cached_property
    def _values(self) -> Kept:
        """What frozen prefixes and the original gave for the training pictures, the same for all seeds."""
        return {}

    @cached_property
    def _weights_alone(self) -> bool:
        """Whether the given network is a module of the user's, of which no file can say how to make it."""
        return bool(unsavable(self.network.net))

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        net = self.network_at(config["site"])
        score = ALONE[config.get(SCORE, ACCURACY.name)]
        if config["do"] == TEST:
            return self._tested(place(net, self.device), score)
        history = self._tuned(net, config)
        self.keep(net, config)
        return {**self._tested(net, score), "epochs": history.epochs, "weights": self.kept(config)}

    def _tested(self, net: Network, score: Score) -> dict[str, Any]:
        """Which test pictures a network gets right, or agrees on with the network as it was given."""
        if score is ACCURACY:
            return tested(net, self.data)
        original = place(self.network_at(None), self.device) if score.of_intact else None
        return counted(net, self.data, score, original)

    def _tuned(self, net: Network, config: Mapping[str, Any]) -> History:
        """Fine-tune a network in place, or the part of it that is not frozen."""
        original = self.network_at(None)
        for each in (net, original):
            each.module.float()  # what the recipe trains in, where a network was given in half precision
            place(each, self.device).module.to(memory_format=torch.channels_last)  # as `fit` does
        trained, train, options = Course(net, original, self.data.train, config, self._values).given()
        history = self.fitted(trained, train, config, f"fine-tuning {net.name}, seed {config['seed']}", **options)
        net.module.eval()  # what is around the part that was trained
        return history

    def network_at(self, site: str | None) -> Network:
        """A copy of the given network, collapsed before a site; None leaves it intact."""
        net = for_pictures(self.network.net, self.data)
        return collapse(net, site) if site else replace(net, module=copied(net.module))


def tested(net: Network, data: Data) -> dict[str, Any]:
    """Which test pictures a network gets right."""
    found = evaluate(net, data)
    return {"accuracy": found.accuracy, "n": found.n, "hits": pack(found.correct.numpy().astype(np.uint8))}


def counted(net: Network, data: Data, score: Score, original: Network | None) -> dict[str, Any]:
    """The same of another score of right and wrong pictures."""
    found = measure_plain(net, data.test, BATCH, score=score, intact=original)
    assert isinstance(found, Tally)
    return {"score": float(found.rates.mean()), "n": len(found.hits), "hits": pack(found.hits)}


def fewer(data: Data, pictures: int | None, limit: int | None) -> Data:
    """The two splits, with at most so many pictures to train on and to test, balanced over the classes."""
    most = {"train": (data.train, pictures), "test": (data.test, limit)}
    return Data(data.name, {name: split if n is None else split.take(n) for name, (split, n) in most.items()})


def for_pictures(net: Network, data: Data) -> Network:
    """The same network, which knows the size of these pictures."""
    return replace(net, input_size=data.test.shape(net.preprocessing))


def weights_name(config: Mapping[str, Any]) -> str:
    """The file of a cell's weights in the study's folder, such as weights/layer4.0-seed0-<key>.safetensors."""
    intact = f"intact-from-{config[FROM]}" if FROM in config else "intact"
    where = re.sub(r"[^\w.#-]+", "_", config["site"] or intact)
    return f"weights/{where}-seed{config['seed']}-{Cell(config).key}{FILE}"
