"""What every test relies on, however pytest was started; and small networks and pictures that several tests share."""

from __future__ import annotations

import os
import signal

# Small networks gain nothing from threads, and two processes with two threads each on two cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import whatwhere as ww
from small_segmenter import small_segmenter
from whatwhere.data import Data
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.load import load_pictures
from whatwhere.data.scenes import Scenes
from whatwhere.training.recipes import SceneRecipe

# A shell that starts pytest in the background lets it and its children ignore Ctrl-C, which some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits() -> Data:
    data = load_pictures("digits")
    return Data("digits", {"train": data.train, "test": data.test.take(150)})


@pytest.fixture(scope="session")
def trained(digits: Data) -> ww.Network:
    net = ww.load_model("cifar/vgg11", classes=10, width=0.125)
    ww.fit(net, digits.train, ww.Recipe(epochs=4, batch_size=64, lr=0.05, crop_padding=0, flip=False, nesterov=True))
    return net


@dataclass(frozen=True)
class Said:
    """A finished study of bottlenecks, and the network's weights before it."""

    net: ww.Network
    scenes: Scenes
    out: Path
    result: Any
    study: Any
    before: dict[str, Tensor]
    concepts: dict[str, object]

    def unchanged(self) -> bool:
        now = self.net.module.state_dict()
        return list(now) == list(self.before) and all(bool((now[k] == v).all()) for k, v in self.before.items())


@pytest.fixture(scope="session")
def streets() -> Scenes:
    return drawn_streets(train=12, validation=6, test=8, size=(32, 48))


@pytest.fixture(scope="session")
def said(streets: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Said:
    net = ww.Network(small_segmenter(len(streets.classes)), name="small")
    ww.fit(net, streets.train, SceneRecipe(epochs=15, batch_size=4, optimizer="adamw", lr=0.01, crop=None))
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    concepts = {"named": ["part"], "positions": True, "only": ["part: w*", "part: crown", "place: *"]}
    out = tmp_path_factory.mktemp("say")
    study = ww.say.Compare(net, streets, sites=("middle",), concepts=concepts, epochs=2, batch_size=4)
    return Said(net, streets, out, study.run(out, quiet=True), study, before, concepts)
