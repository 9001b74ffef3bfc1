"""The task whose answer is known: pairing inside quadrants, turned round by a context."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.data import Data, surroundings
from whatwhere.models.bagnet import BagNet
from whatwhere.models.cifar import initialise
from whatwhere.recalibration import recalibrate

RECIPE = ww.Recipe(epochs=5, batch_size=32, optimizer="adamw", lr=0.005, crop_padding=0, flip=False)


def settled(net: ww.Network) -> nn.Module:
    """In evaluation, its norms with statistics of their own, so that their layers are no identities."""
    module = net.module.train()
    with torch.no_grad():
        module(torch.randn(64, 3, 32, 32))
    return module.eval()


def rearranged(x: torch.Tensor, window: int = 4) -> torch.Tensor:
    """The same windows at other places."""
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // window, window, w // window, window).permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
    mixed = tiles[torch.randperm(len(tiles))].unflatten(0, (h // window, w // window))
    return mixed.permute(2, 3, 0, 4, 1, 5).reshape(n, c, h, w)


@pytest.mark.parametrize("method", [None, "se", "ms_sar"])
def test_only_surrounding_regions_tell_the_same_windows_apart(method):
    torch.manual_seed(0)
    net = ww.load_model("cifar/bagnet4", classes=5)
    module = settled(net if method is None else recalibrate(net, method))
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        difference = (module(x) - module(rearranged(x))).abs().max() / module(x).std()
    assert (difference > 1e-3) == (method == "ms_sar")
    assert method == "ms_sar" or difference < 1e-5


@pytest.mark.parametrize(("method", "least", "most"), [("ms_sar", 0.9, 1.0), ("se", 0.4, 0.6)])
def test_ms_sar_learns_it_and_squeeze_and_excitation_stays_at_chance(pictures, method, least, most):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = ww.Network(initialise(BagNet(8, 3, 64, classes=2)))  # a position for each patch: quick to train
    net = recalibrate(plain, method, ratio=4, input_size=(3, 32, 32))
    ww.fit(net, pictures.train, RECIPE, device="cpu")
    assert least <= ww.evaluate(net, pictures.test).accuracy <= most


@pytest.fixture(scope="module")
def pictures() -> Data:
    return surroundings(train=3000, test=400)
