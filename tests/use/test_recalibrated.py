"""A layer with a gate behind it: layouts, saved weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.site_table import list_sites
from whatwhere.use.recalibrated import Recalibrated


class Doubled(nn.Module):
    """Doubles the first channel at the first row: the layout shows."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 4
        y = x.clone()
        y[:, 0, 0] *= 2
        return y


def site(layout: str):
    (first, *_) = list_sites(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()), input_size=(3, 2, 4))
    return replace(first, layout=layout, shape_in=(5, 2, 4))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens+0", "tokens+2"])
def test_the_gate_sees_maps_whatever_the_layout(layout: str) -> None:
    maps = torch.randn(3, 5, 2, 4)
    expected = Doubled()(maps)
    prefix = torch.randn(3, 2, 5)
    laid = {
        "NCHW": lambda m: m,
        "NHWC": lambda m: m.permute(0, 2, 3, 1),
        "tokens+0": lambda m: m.flatten(2).transpose(1, 2),
        "tokens+2": lambda m: torch.cat([prefix, m.flatten(2).transpose(1, 2)], 1),
    }[layout]
    module = Recalibrated(nn.Identity(), Doubled(), site(layout))
    assert torch.equal(module(laid(maps)), laid(expected))
    assert module.extra_repr() == ("" if layout == "NCHW" else layout)


def test_maps_may_be_of_any_size_and_tokens_may_not() -> None:
    assert Recalibrated(nn.Identity(), Doubled(), site("NHWC"))(torch.randn(1, 7, 3, 5)).shape == (1, 7, 3, 5)
    module = Recalibrated(nn.Identity(), Doubled(), site("tokens+1"))
    assert module(torch.randn(1, 9, 5)).shape == (1, 9, 5)
    with pytest.raises(InputError, match=r"2 x 4 positions as tokens, and got 10 tokens; give .*input_size"):
        module(torch.randn(1, 10, 5))


def test_a_layer_is_called_as_it_is_called() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return scale * super().forward(x)

    layer, x = Scaled(5, 5, 1), torch.randn(1, 5, 2, 4)
    assert torch.equal(Recalibrated(layer, nn.Identity())(x=x, scale=0.5), layer(x, 0.5))


def test_weights_saved_before_and_after_load() -> None:
    layer = nn.Conv2d(5, 5, 1)
    module = nn.Sequential(Recalibrated(nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5)))
    missing, unexpected = module.load_state_dict({f"0.{k}": v for k, v in layer.state_dict().items()}, strict=False)
    assert all(k.startswith("0.gate.") for k in missing)
    assert not unexpected
    assert torch.equal(module[0].layer.weight, layer.weight)
    module.load_state_dict(module.state_dict())
