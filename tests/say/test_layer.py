"""The layer between two 1 x 1 convolutions."""

import copy

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.layer import Bottleneck, layer_of, overwriting


def encoded(layer, x):
    weight, bias = (
        layer.encode.weight.detach().double().numpy()[:, :, 0, 0],
        layer.encode.bias.detach().double().numpy(),
    )
    return np.einsum("kc,nchw->nkhw", weight, x.double().numpy()) + bias[:, None, None]


@pytest.mark.parametrize("activation", ["sigmoid", "binary", "linear", "softmax"])
def test_maps_by_hand(activation):
    torch.manual_seed(0)
    layer, x = Bottleneck(5, 6, activation, group=3), torch.randn(2, 5, 3, 4)
    layer.temperature.fill_(0.5)
    raw = encoded(layer, x)
    if activation == "softmax":
        powers = np.exp(2 * raw).reshape(2, 2, 3, 3, 4)  # two groups of three
        expected = (powers / powers.sum(2, keepdims=True)).reshape(2, 6, 3, 4)
    else:
        expected = {"sigmoid": 1 / (1 + np.exp(-raw)), "binary": raw > 0, "linear": raw}[activation]
    np.testing.assert_allclose(layer.concept_maps(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_what_follows_sees_the_maps_alone():
    layer, x = Bottleneck(5, 3), torch.randn(2, 5, 4, 4)
    held = torch.rand(2, 3, 4, 4)
    with overwriting(layer, lambda maps: held):
        assert torch.equal(layer(x), layer(100 * torch.randn_like(x)))
        assert torch.equal(layer(x), layer.decode(held))


def test_overwriting_ends_also_by_an_error():
    layer, x = Bottleneck(5, 3), torch.randn(1, 5, 4, 4)
    before, state = layer(x), copy.deepcopy(layer.state_dict())
    with pytest.raises(InputError, match=r"gives maps of shape \(1, 2"), overwriting(layer, lambda maps: maps[:, :2]):
        layer(x)
    with overwriting(layer, torch.zeros_like):
        with overwriting(layer, torch.ones_like):
            assert not torch.equal(layer(x), before)
        assert torch.equal(layer(x), layer.decode(torch.zeros(1, 3, 4, 4)))
    assert torch.equal(layer(x), before)
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())


def test_kept_maps_are_those_that_what_follows_saw():
    layer = Bottleneck(5, 3)
    layer.keep_maps = True
    with overwriting(layer, torch.ones_like):
        layer(torch.randn(1, 5, 4, 4))
    assert torch.equal(layer.maps, torch.ones(1, 3, 4, 4))
    assert not layer.maps.requires_grad


def test_frozen_maps_do_not_learn():
    layer = Bottleneck(5, 3)
    layer.freeze()
    layer(torch.randn(1, 5, 4, 4)).sum().backward()
    assert layer.encode.weight.grad is None
    assert layer.decode.weight.grad is not None


def test_the_temperature_is_kept_with_the_weights():
    warm, cold = (Bottleneck(4, 4, "softmax", group=2) for _ in range(2))
    cold.temperature.fill_(0.1)
    warm.load_state_dict(cold.state_dict())
    x = torch.randn(1, 4, 2, 2)
    assert torch.equal(warm(x), cold(x))
    assert "temperature" not in Bottleneck(4, 4).state_dict()  # where it does nothing


@pytest.mark.parametrize(
    ("concepts", "options", "message"),
    [
        (0, {}, "give at least one"),
        (3, {"names": ["a", "b"]}, "2 names"),
        (3, {"activation": "relu"}, "choose sigmoid"),
        (6, {"activation": "softmax", "group": 4}, "divide concepts=6"),
        (6, {"activation": "softmax"}, "at least 2"),
    ],
)
def test_what_cannot_be_is_refused(concepts, options, message):
    with pytest.raises(InputError, match=message):
        Bottleneck(8, concepts, **options)


def test_a_network_has_one_layer():
    with pytest.raises(InputError, match="0 bottlenecks"):
        layer_of(torch.nn.Identity())
    with pytest.raises(InputError, match="2 bottlenecks"):
        layer_of(torch.nn.Sequential(Bottleneck(4, 2), Bottleneck(4, 2)))
