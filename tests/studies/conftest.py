"""A small trained network and pictures that every study test shares."""

import pytest

import whatwhere as ww
from whatwhere.data import Data


@pytest.fixture(scope="session")
def digits() -> Data:
    data = ww.load_data("digits")
    return Data("digits", {"train": data.train, "test": data.test.take(150)})


@pytest.fixture(scope="session")
def trained(digits: Data) -> ww.Network:
    net = ww.load_model("cifar/vgg11", classes=10, width=0.125)
    ww.fit(net, digits.train, ww.Recipe(epochs=4, batch_size=64, lr=0.05, crop_padding=0, flip=False, nesterov=True))
    return net
