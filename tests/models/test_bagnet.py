import pytest
import torch
from torch import nn

from whatwhere.layers import is_residual_block
from whatwhere.models.bagnet import BagBlock, BagNet
from whatwhere.models.cifar import make
from whatwhere.models.load import load_model


@pytest.mark.parametrize("window", [4, 8])
def test_a_position_sees_exactly_its_window(window: int) -> None:
    net = BagNet(window, 3, 8, classes=2).eval()
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    maps = net.maps(x)
    side = 32 // window
    assert maps.shape == (1, 8, side, side)
    for row, column in ((0, 0), (side - 1, 1), (2, side - 1)):
        (gradient,) = torch.autograd.grad(maps[0, :, row, column].square().sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(0) > 0
        expected = torch.zeros(32, 32, dtype=torch.bool)
        expected[row * window : (row + 1) * window, column * window : (column + 1) * window] = True
        assert torch.equal(seen, expected)


def test_bagnet4_by_name() -> None:
    net = load_model("cifar/bagnet4", classes=5).module
    assert isinstance(net, BagNet)
    assert sum(is_residual_block(m) for m in net.modules()) == 3
    assert net.maps(torch.rand(2, 3, 32, 32)).shape == (2, 64, 8, 8)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    by_hand = 3 * 64 * 16 + 2 * 64 + 3 * 2 * (64 * 64 + 2 * 64) + 64 * 5 + 5
    assert sum(p.numel() for p in net.parameters()) == by_hand
    assert make("bagnet4", classes=5, width=0.5).fc.in_features == 32
    assert not any(isinstance(m, nn.Conv2d) and any(m.padding) for m in net.modules())


def test_a_block_adds_its_branch_to_its_input() -> None:
    block, x = BagBlock(4).eval(), torch.randn(1, 4, 2, 2)
    first, second = (c.weight[:, :, 0, 0] for c in (block.conv1, block.conv2))
    scale = (1 + block.bn1.eps) ** -0.5
    hidden = (scale * torch.einsum("oi,nihw->nohw", first, x)).relu()
    expected = (scale * torch.einsum("oi,nihw->nohw", second, hidden) + x).relu()
    torch.testing.assert_close(block(x), expected)
