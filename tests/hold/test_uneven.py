import copy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from whatwhere.errors import InputError
from whatwhere.hold import uneven
from whatwhere.hold.padded import PaddedConv
from whatwhere.hold.uneven import StridedLayer, even_sizes, format_uneven, uneven_padding, window_of, without_arithmetic
from whatwhere.models.cifar import make
from whatwhere.network import Network


def untouched_at_the_end(n: int, k: int, s: int, p: int, d: int) -> int:
    """By simulation: slide the window over the padded line while it fits, and cross off what it touches."""
    line = [False] * (n + 2 * p)
    start = 0
    while start + d * (k - 1) < len(line):
        for tap in range(k):
            line[start + d * tap] = True
        start += s
    count = 0
    while not line[-1 - count]:
        count += 1
    return count


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize(("p", "d"), [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (2, 2), (3, 3)])
def test_convolutions_against_a_simulation(k: int, s: int, p: int, d: int) -> None:
    conv = nn.Conv2d(1, 1, k, s, p, dilation=d)
    extent = d * (k - 1) + 1
    for h in range(max(2, extent), extent + 9):
        w = h + 4
        (layer,) = uneven_padding(nn.Sequential(conv), input_size=(1, h, w))
        assert layer.remainder == (untouched_at_the_end(h, k, s, p, d), untouched_at_the_end(w, k, s, p, d))
        assert layer.even == (layer.remainder == (0, 0))
        rule = [(n + 2 * p - d * (k - 1) - 1) % s == 0 for n in (h, w)]  # as recalled from the paper
        assert layer.even == all(rule)


def test_a_convolution_against_gradients() -> None:
    """Rows of an explicitly padded map that the output does not depend on."""
    conv = nn.Conv2d(2, 3, (5, 3), stride=(3, 2), padding=(2, 1))
    for h in range(5, 14):
        (layer,) = uneven_padding(nn.Sequential(conv), input_size=(2, h, 9))
        x = torch.ones(1, 2, h + 4, 9 + 2, requires_grad=True)
        F.conv2d(x, torch.ones_like(conv.weight), stride=conv.stride).sum().backward()
        assert x.grad is not None
        unread = x.grad[0, 0].sum(1).flip(0).eq(0)
        assert layer.remainder[0] == int(unread.cumprod(0).sum())


def ends(n: int, k: int, s: int, first: int, count: int) -> int:
    """Padding touched at the start less padding touched at the end, for a known number of windows."""
    return first - (count * s - s + k - first - n)


@pytest.mark.parametrize("options", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (5, 3, 2), (2, 3, 0)])
def test_pools_that_stick_out(options: tuple[int, int, int]) -> None:
    k, s, p = options
    for ceil in (False, True):
        pool = nn.MaxPool2d(k, s, p, ceil_mode=ceil)
        for h in range(k, k + 12):
            count = pool(torch.zeros(1, 1, h, h)).shape[2]
            if h == 1:
                continue
            (layer,) = uneven_padding(nn.Sequential(pool), input_size=(1, h, h))
            assert layer.remainder == (ends(h, k, s, p, count),) * 2
    assert layer.kernel == (k, k)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_tensorflows_same(k: int) -> None:
    conv = timm.layers.Conv2dSame(1, 1, k, stride=2)
    nn.init.ones_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    for h in range(4, 12):
        (layer,) = uneven_padding(nn.Sequential(conv), input_size=(1, h, h))
        y: Tensor = conv(torch.ones(1, 1, h, 1000))[0, 0, :, 100]  # taps inside the map, k for each column
        first, last = (k - round(float(y[i].detach()) / k) for i in (0, -1))
        unread = max(0, h - 1 - 2 * (len(y) - 1) - (k - 1 - first)) if last == 0 else 0
        assert layer.remainder == (first - last + unread,) * 2
        assert layer.padding == (first, first)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(3, 2, 1)
        self.down = nn.Conv2d(4, 4, 2, stride=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.pool(self.pool(self.stem(x))))


def test_every_call_in_execution_order() -> None:
    layers = uneven_padding(Twice(), input_size=(3, 13, 16))
    assert layers == [
        StridedLayer("pool#1", (13, 16), (3, 3), (2, 2), (1, 1), (1, 1), (0, 1)),
        StridedLayer("pool#2", (7, 8), (3, 3), (2, 2), (1, 1), (1, 1), (0, 1)),
        StridedLayer("down", (4, 4), (2, 2), (1, 2), (0, 0), (1, 1), (0, 0)),
    ]
    assert [s.even for s in layers] == [False, False, True]
    assert format_uneven(layers).split("\n") == [
        "site    in (HxW)  kernel  stride  padding  dilation  unreached  even",
        "pool#1  13x16     3x3     2x2     1x1      1x1       0x1        NO",
        "pool#2  7x8       3x3     2x2     1x1      1x1       0x1        NO",
        "down    4x4       2x2     1x2     0x0      1x1       0x0        yes",
    ]


def test_a_resnet_is_even_at_225_not_at_224() -> None:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    state, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    strided = uneven_padding(without_arithmetic(net, (3, 224, 224)))
    assert len(strided) == 8
    assert not any(s.even for s in strided)
    assert even_sizes(net, near=224, reach=2) == [225]
    assert even_sizes(net, near=193, reach=0) == [193]
    assert even_sizes(net, near=195, reach=1) == []
    assert [m.training for m in net.modules()] == flags
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_even_sizes_of_a_small_network_are_those_of_the_rule() -> None:
    net = Network(nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 5, 3)), input_size=(1, 28, 28))
    by_rule = [n for n in range(1, 46) if (n - 1) % 2 == 0 and (n + 1) // 2 >= 5 and ((n + 1) // 2 - 5) % 3 == 0]
    assert even_sizes(net, near=20, reach=25) == by_rule


def test_vggs_pools_need_multiples() -> None:
    assert even_sizes(make("vgg11", classes=4, width=1 / 16), near=34, reach=3) == [32]


class NotOnMeta(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shift = nn.Conv2d(1, 2, 3, 2, 1), [torch.ones(1)]  # not a buffer: stays where it is

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + float(x.sum())


def test_a_network_that_must_compute_is_traced_as_it_is() -> None:
    net = NotOnMeta()
    assert without_arithmetic(net, (1, 8, 8)) is net
    assert even_sizes(net, near=8, reach=3) == [5, 7, 9, 11]


def test_a_network_for_one_size_only() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 4, 4), nn.Flatten(), nn.Linear(2 * 16, 3))
    assert even_sizes(net, near=16, reach=12) == [16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"near": 0}, "near=0: give a size"),
        ({"near": 8, "reach": -1}, "reach=-1"),
        ({"near": 2, "reach": 1}, r"does not run on a picture of shape \(3, 2, 2\)"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        even_sizes(nn.Sequential(nn.Conv2d(3, 4, 5)), **arguments)


def test_layers_without_a_window_and_without_a_stride_are_left_out() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.AdaptiveAvgPool2d(3), nn.MaxPool2d(2, 1))
    assert uneven_padding(net, input_size=(1, 8, 8)) == []
    assert uneven.window_of(nn.ReLU()) is None


def test_standardised_same_convolutions_are_seen_for_what_they_are():
    conv = timm.layers.std_conv.StdConv2dSame(3, 4, 3, stride=2)
    window = window_of(conv)
    assert window is not None
    assert window.same
    assert (window.pads(0, 16), window.full, window.is_full) == ((0, 1), (2, 2), False)
    full = window_of(nn.Conv2d(3, 4, (3, 5), dilation=2, padding=(4, 8)))
    assert full is not None
    assert full.is_full
    assert window_of(PaddedConv.of(conv, "reflect")) == window
