"""A small trained network and pictures that every study test shares."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from torch import Tensor

import whatwhere as ww
from small_segmenter import small_segmenter
from whatwhere.data import Data
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes
from whatwhere.studies.bottleneck.study import TUNING
from whatwhere.training.recipes import SceneRecipe


@pytest.fixture(scope="session")
def digits() -> Data:
    data = ww.load_data("digits")
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
    result: ww.BottleneckResult
    before: dict[str, Tensor]
    concepts: dict[str, object]
    recipe: SceneRecipe

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
    out, recipe = tmp_path_factory.mktemp("say"), replace(TUNING, epochs=2, batch_size=4)
    result = ww.bottleneck_study(net, streets, sites=["middle"], out=out, concepts=concepts, recipe=recipe, quiet=True)
    return Said(net, streets, out, result, before, concepts, recipe)
