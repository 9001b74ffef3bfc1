"""Reparametrised layers: what they compute is what they are given, by torch's own formulas."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from whatwhere.dressings import computed, give, hooks_of, parametrised, plain_twin, recompute
from whatwhere.surgery import copied

DRESSED = {
    "weight norm": lambda: weight_norm(nn.Linear(3, 4)),
    "weight norm, parametrised": lambda: parametrizations.weight_norm(nn.Linear(3, 4)),
    "spectral norm": lambda: spectral_norm(nn.Linear(3, 4)),
    "spectral norm, parametrised": lambda: parametrizations.spectral_norm(nn.Linear(3, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(3, 4), "weight", 0.5),
}


@pytest.mark.parametrize("dress", DRESSED.values(), ids=DRESSED)
def test_its_weight_is_computed(dress) -> None:
    layer = dress()
    assert computed(layer) == ["weight"]
    assert bool(parametrised(layer)) != bool(hooks_of(layer))
    assert computed(nn.Linear(3, 4)) == []


@pytest.mark.parametrize("dress", DRESSED.values(), ids=DRESSED)
def test_an_undressed_copy_has_the_weight_as_a_parameter_and_the_layer_stays(dress) -> None:
    layer = dress()
    twin = plain_twin(layer, copied)
    assert isinstance(twin.weight, nn.Parameter)
    assert type(twin) is nn.Linear
    assert computed(twin) == []
    assert computed(layer) == ["weight"]


@pytest.mark.parametrize("name", ["weight norm", "weight norm, parametrised"])
def test_a_normed_weight_that_is_given_is_the_weight_that_is_computed(name: str) -> None:
    layer, value = DRESSED[name](), torch.randn(4, 3)
    with torch.no_grad():
        give(layer, "weight", value)
        recompute(layer)
    torch.testing.assert_close(layer.weight.detach(), value)


@pytest.mark.parametrize("name", ["spectral norm", "spectral norm, parametrised"])
def test_a_spectral_norm_divides_what_is_given_by_its_largest_singular_value(name: str) -> None:
    layer, value = DRESSED[name]().eval(), torch.diag(torch.tensor([3.0, 1.0, 0.5]))
    value = torch.cat([value, torch.zeros(1, 3)])
    with torch.no_grad():
        give(layer, "weight", value)
        recompute(layer)
    torch.testing.assert_close(layer.weight.detach(), value / 3, atol=1e-4, rtol=1e-4)


def test_a_pruned_layer_keeps_how_much_is_cut() -> None:
    layer = DRESSED["pruned"]()
    with torch.no_grad():
        give(layer, "weight", torch.ones(4, 3))
        recompute(layer)
    assert int(layer.weight_mask.sum()) == 6
    assert torch.equal(layer.weight.detach(), layer.weight_mask)


def test_a_tensor_that_is_not_computed_is_set_in_place() -> None:
    layer = DRESSED["weight norm"]()
    before = layer.bias.data_ptr()
    with torch.no_grad():
        give(layer, "bias", torch.full((4,), 2.5))
    assert layer.bias.tolist() == [2.5] * 4
    assert layer.bias.data_ptr() == before
