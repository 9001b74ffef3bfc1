"""What a node does to its value, beside what is known of each layer and function."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerScale2d
from torch import Tensor, fx, nn

from small_nets import drawn
from whatwhere.graph.flow import flow_of
from whatwhere.graph.trials import Trials, name_of
from whatwhere.site import evaluating

SIZE = (3, 6, 6)


class Called(nn.Module):
    """A function, or a module, on a map that a convolution made."""

    def __init__(self, do: Callable[[Tensor], Tensor] | nn.Module) -> None:
        super().__init__()
        self.first, self.do = nn.Conv2d(3, 4, 1), do

    def forward(self, x: Tensor) -> Tensor:
        return self.do(self.first(x))


def last_of(do: Callable[[Tensor], Tensor] | nn.Module) -> tuple[Trials, fx.Node]:
    flow = flow_of(drawn(lambda: Called(do)), input_size=SIZE)
    return Trials(flow), flow.nodes[-2]


CASES = {  # what is done: is it a layer, does it carry, pass, is it linear?
    "identity": (nn.Identity(), False, True, True, True),
    "drop path": (DropPath(0.3), False, True, True, True),
    "layer scale": (LayerScale2d(4, 0.3), False, True, True, True),
    "dropout": (nn.Dropout(0.5), False, True, True, True),
    "scalar": (lambda x: x * 0.2, False, True, True, True),
    "in place": (lambda x: x.mul_(0.2) * 1.5, False, True, True, True),
    "permute": (lambda x: x.permute(0, 2, 3, 1), False, True, True, True),
    "view": (lambda x: x.reshape(len(x), -1), False, True, True, True),
    "roll": (lambda x: x.roll(1, 2), False, False, False, True),  # elsewhere in a map of the same shape
    "transposed": (lambda x: x.transpose(2, 3), False, False, False, True),
    "shift": (lambda x: x + 1, False, False, False, True),
    "relu": (nn.ReLU(), False, True, False, False),
    "gelu": (F.gelu, False, True, False, False),
    "sigmoid": (torch.sigmoid, False, False, False, False),
    "square": (lambda x: x * x, False, True, False, False),
    "batch norm": (nn.BatchNorm2d(4), False, False, False, True),
    "group norm": (nn.GroupNorm(2, 4), False, False, False, False),
    "softmax": (lambda x: x.softmax(1), False, False, False, False),
    "half": (lambda x: x[:, :2], False, False, False, True),
    "convolution": (nn.Conv2d(4, 4, 1, bias=False), True, False, False, True),
    "depthwise": (nn.Conv2d(4, 4, 1, bias=False, groups=4), False, True, True, True),
    "linear": (nn.Linear(6, 6), True, False, False, True),
    "functional": (lambda x: F.conv2d(x, torch.ones(4, 4, 1, 1)), True, False, False, True),
    "max pool": (nn.MaxPool2d(2), True, False, False, True),
    "functional max pool": (lambda x: F.max_pool2d(x, 2), True, False, False, True),
    "average": (nn.AvgPool2d(3, 1, 1), True, False, False, True),
    "global average": (nn.AdaptiveAvgPool2d(1), False, False, False, True),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), False, False, False, True),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_node_does(name: str) -> None:
    do, *expected = CASES[name]
    trials, node = last_of(do)
    with evaluating(trials.flow.module):
        found = [trials.is_layer(node), trials.carries(node), trials.passes(node), trials.is_linear(node)]
    assert found == expected


@pytest.mark.parametrize(("kernel", "pointwise"), [(1, True), (3, False)])
def test_a_convolution_that_looks_at_one_position(kernel: int, pointwise: bool) -> None:
    trials, node = last_of(nn.Conv2d(4, 4, kernel))
    assert trials.is_pointwise(node) == pointwise
    assert not trials.is_pointwise(trials.flow.picture)


def test_two_values_are_not_tried() -> None:
    trials, node = last_of(lambda x: x * x.mean((2, 3), keepdim=True))
    assert name_of(node) == "mul"
    assert not trials.carries(node)
    assert not trials.is_linear(node)
