from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from whatwhere.need.gap_fc import collapse
from whatwhere.need.reshaped import fit_sizes


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
