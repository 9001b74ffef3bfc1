"""What a type checker says of a user's calls; `make lint` runs mypy on it, and nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import torch
from torch.utils.data import DataLoader, TensorDataset

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.data.scenes import Scenes
from whatwhere.training.evaluate import Evaluation
from whatwhere.training.evaluate_scenes import SceneEvaluation


def pictures_are_known_without_looking(net: ww.Network, folder: Path) -> None:
    assert_type(ww.load_data("digits"), Data)
    assert_type(ww.load_data("known/where"), Data)
    assert_type(ww.load_data("drawn/streets"), Scenes)
    assert_type(ww.load_data("hf/uoft-cs/cifar100"), Data | Any)
    assert_type(ww.load_data(folder), Data | Any)
    dataset = TensorDataset(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))
    assert_type(ww.load_data(DataLoader(dataset)), Data)
    assert_type(ww.load_data({"train": dataset, "test": dataset}), Data)
    assert_type(ww.load_data(ww.load_data("digits")), Data)
    assert_type(ww.load_data(ww.load_data("drawn/streets")), Scenes)


def what_is_measured_is_known(net: ww.Network) -> None:
    assert_type(ww.evaluate(net, ww.load_data("digits")), Evaluation)
    assert_type(ww.evaluate(net, ww.load_data("drawn/streets")), SceneEvaluation)


def no_isinstance_is_needed(net: ww.Network, folder: Path) -> None:
    data = ww.load_data("hf/uoft-cs/cifar100")
    ww.fit(net, data.train, ww.recipes["fast"], test=data.test.take(100))
    ww.need.curve(net, data, quiet=True)
    print(ww.evaluate(net, ww.load_data(folder)).accuracy)


def a_network_is_kept_and_opened(net: ww.Network, folder: Path) -> None:
    assert_type(ww.load_model(ww.save(ww.need.collapse(net, "last 30%"), folder)), ww.Network)
    print(ww.export(net.module, folder / "net.onnx").difference)
