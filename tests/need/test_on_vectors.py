import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whatwhere.need.on_vectors import OnVectors, folded, like, summed


@pytest.mark.parametrize(("taken", "left", "groups"), [(6, 8, 1), (6, 6, 6), (6, 12, 6), (6, 4, 2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("side", [1, 3])
def test_it_is_a_one_by_one_convolution(taken: int, left: int, groups: int, bias: bool, side: int) -> None:
    layer = OnVectors(taken, left, 1, groups=groups, bias=bias)
    x = torch.randn(3, taken, side, side)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, groups=groups))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernels_are_summed(groups: int) -> None:
    conv = nn.Conv2d(4, 8, 3, groups=groups)
    v = torch.randn(2, 4)
    expected = conv(v[:, :, None, None].expand(-1, -1, 3, 3))
    torch.testing.assert_close(summed(conv.weight, conv.bias, groups)(v[:, :, None, None]), expected)


def test_columns_are_added_by_channel() -> None:
    linear, v = nn.Linear(6, 2), torch.randn(3, 2)
    channels = torch.tensor([0, 1, 1, 0, 0, 1])
    torch.testing.assert_close(folded(linear, channels)(v), linear(v[:, channels]))


def test_a_layer_is_as_trainable_as_the_other() -> None:
    old = nn.Linear(2, 2).eval()
    old.bias.requires_grad_(False)
    new = like(old, nn.Linear(2, 2))
    assert (new.weight.requires_grad, new.bias.requires_grad, new.training) == (True, False, False)
