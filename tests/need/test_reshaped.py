from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from whatwhere.need.gap_fc import collapse
from whatwhere.need.reshaped import fit_sizes, keeps_sizes


class SizesFromBefore(nn.Module):
    """Asks a map for its size before a convolution, and reshapes by it after."""

    def __init__(self, function: bool) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.fc, self.function = nn.Linear(6, 5), function

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, _, h, w = x.shape
        y = self.conv(torch.relu(x))
        y = torch.reshape(y, (n, 6, h * w)) if self.function else y.view(n, 6, h * w)
        return self.fc(y.mean(-1))


@pytest.mark.parametrize("function", [True, False])
def test_sizes_from_before_the_cut_become_one_position(function: bool) -> None:
    torch.manual_seed(0)
    net, x = SizesFromBefore(function).eval(), torch.randn(3, 3, 8, 8)
    small = collapse(net, "conv", input_size=(3, 8, 8))
    with torch.no_grad():
        pooled = torch.relu(net.stem(x)).mean((2, 3))
        expected = net.fc(pooled @ net.conv.weight.sum((2, 3)).T + net.conv.bias)
        torch.testing.assert_close(small(x), expected)


class Tokens(nn.Module):
    """Reduced attention on tokens, as PVT's: keys of a coarser map; tokens are a map again by the sizes before the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.q, self.reduce, self.kv, self.fc = (
            nn.Linear(8, 8),
            nn.Conv2d(8, 8, 2, 2),
            nn.Linear(8, 16),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        y = self.norm(x)
        coarse = self.reduce(y.transpose(1, 2).reshape(n, c, h, w)).flatten(2).transpose(1, 2)
        k, v = self.kv(coarse).reshape(n, -1, 2, c).permute(2, 0, 1, 3).unbind(0)
        x = x + torch.nn.functional.scaled_dot_product_attention(self.q(y), k, v)
        return self.fc(x.reshape(n, h, w, -1).permute(0, 3, 1, 2).mean((2, 3)))


def test_tokens_that_become_a_map_by_sizes_from_before_the_cut() -> None:
    torch.manual_seed(0)
    net, x = Tokens().eval(), torch.randn(3, 3, 8, 8)
    small = collapse(net, "norm", move=True, input_size=(3, 8, 8))
    with torch.no_grad():
        mean = net.stem(x).mean((2, 3))
        token = net.reduce.weight.sum((2, 3)) @ net.norm(mean).T + net.reduce.bias[:, None]
        expected = net.fc(mean + net.kv(token.T)[:, 8:])  # equal tokens: attention gives the value of one
        torch.testing.assert_close(small(x), expected)


def test_channels_of_one_position_are_not_spread_over_those_that_there_were() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_method("reshape", (x, 2, 2, 3, -1))
    constant = torch.arange(6.0).expand(2, 2, 3, 6)
    assert keeps_sizes(node, torch.zeros(2, 2, 3, 1), constant)
    assert not keeps_sizes(node, torch.zeros(2, 2, 3, 6), constant)  # all positions are there
    assert not keeps_sizes(node, torch.zeros(2, 1, 1, 6), constant)
    assert not keeps_sizes(graph.call_method("flatten", (x, 1)), torch.zeros(2, 2, 3, 1), constant)


def test_other_operators_and_sizes_that_fit_are_left_alone() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_method("view", (x, 2, 6, 9))
    value: Any = torch.arange(6.0).view(1, 6, 1).expand(2, 6, 9)
    assert not fit_sizes(graph.call_method("flatten", (x, 1)), value)
    assert not fit_sizes(node, None)
    assert fit_sizes(node, value)
    assert node.args == (x, -1, 6, 1)
    assert not fit_sizes(node, value)
