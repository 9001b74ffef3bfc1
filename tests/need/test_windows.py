"""Middles of windows against a slow count of where each window lies."""

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.hold.padded import PaddedConv
from whatwhere.need.windows import (
    MiddlesOfSame,
    Window,
    convolution_in,
    convolves_only,
    pair,
    same_amounts,
    window_in,
    window_of,
)


def numbered(h: int, w: int) -> Tensor:
    return torch.arange(1.0, h * w + 1).view(1, 1, h, w)


def middles(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What the layers of a convolution's windows leave of a map, at its stride."""
    for layer in window_of(conv).middles():
        x = layer(x)
    rows, columns = pair(conv.stride)
    return x[:, :, ::rows, ::columns]


def counted(conv: nn.Conv2d, padded: Tensor, size: tuple[int, int]) -> Tensor:
    """Likewise, window by window, on a map that is padded already."""
    out = torch.empty(1, 1, *size)
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
    for i in range(size[0]):
        for j in range(size[1]):
            rows, columns = (
                [i * sh + n for n in range(dh * (kh - 1) + 1)],
                [j * sw + n for n in range(dw * (kw - 1) + 1)],
            )
            out[0, 0, i, j] = padded[0, 0, rows[(len(rows) - 1) // 2], columns[(len(columns) - 1) // 2]]
    return out


@pytest.mark.parametrize("fill", ["zeros", "reflect", "replicate", "circular"])
def test_middles_of_plain_convolutions_of_every_shape(fill: str) -> None:
    draw = random.Random(fill)
    tried = 0
    while tried < 60:
        kernel, dilation = (draw.randint(1, 5), draw.randint(1, 5)), (draw.randint(1, 3), draw.randint(1, 3))
        added = (draw.randint(0, 5), draw.randint(0, 5))
        h, w = draw.randint(6, 14), draw.randint(6, 14)
        if any(d * (k - 1) >= n + 2 * p for k, d, n, p in zip(kernel, dilation, (h, w), added, strict=True)):
            continue
        tried += 1
        stride = (draw.randint(1, 3), draw.randint(1, 3))
        conv = nn.Conv2d(1, 1, kernel, stride, added, dilation, padding_mode=fill)
        x, (rows, columns) = numbered(h, w), added
        padded = F.pad(x, (columns, columns, rows, rows), mode="constant" if fill == "zeros" else fill)
        expected = counted(conv, padded, conv(x).shape[2:])  # type: ignore[arg-type]
        assert torch.equal(middles(conv, x), expected), conv


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 5), (4, 1)])
def test_padding_that_has_a_name(padding: Any, kernel: tuple[int, int]) -> None:
    conv, x = nn.Conv2d(1, 1, kernel, padding=padding, dilation=2), numbered(10, 11)
    total = [2 * (k - 1) if padding == "same" else 0 for k in kernel]
    padded = F.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
    assert torch.equal(middles(conv, x), counted(conv, padded, conv(x).shape[2:]))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Conv2dSame, ScaledStdConv2dSame])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (3, 1, 1), (5, 3, 1), (4, 2, 1), (3, 2, 2), (2, 3, 1)]
)
def test_convolutions_that_pad_by_the_size_of_the_map(kind: Any, kernel: int, stride: int, dilation: int) -> None:
    conv = kind(1, 1, kernel, stride=stride, dilation=dilation)
    for h, w in ((11, 12), (12, 13), (13, 11), (7, 16)):
        x = numbered(h, w)
        with torch.no_grad():
            padded, size = convolution_in(conv, x)["input"], conv(x).shape[2:]
        if kind is Conv2dSame:
            assert torch.equal(middles(conv, x), counted(conv, padded, size))
        assert middles(conv, x).shape[2:] == size


def test_what_same_padding_adds_and_what_is_left_of_a_map() -> None:
    for size in range(1, 20):
        for reach in range(6):
            for stride in (1, 2, 3):
                before, after = same_amounts(size, reach, stride)
                windows = (size + before + after - reach - 1) // stride + 1
                assert windows == -(-size // stride)
                assert after - before in (0, 1)
                left = MiddlesOfSame((reach, 0), (stride, 1))(numbered(size, 3))
                assert -(-left.shape[2] // stride) == windows
    assert "reach=(2, 2), stride=(1, 1)" in repr(MiddlesOfSame((2, 2), (1, 1)))


def test_convolutions_with_a_forward_of_their_own_are_looked_at() -> None:
    for own in (ScaledStdConv2d(2, 2, 3, padding=1), StdConv2d(2, 2, 3, padding=1)):
        assert window_of(own) == Window((2, 2), (1, 1), (1, 1), (1, 1))
    padded = PaddedConv.of(Conv2dSame(2, 2, 3, stride=1), "reflect")
    assert window_of(padded) == Window((2, 2), (1, 1), (1, 1), (1, 1))


def test_the_windows_of_a_call() -> None:
    given = {"weight": torch.empty(4, 2, 3, 5), "stride": [2, 1], "padding": 1, "dilation": (2, 1)}
    assert window_in(given) == Window((4, 4), (2, 1), (1, 1), (1, 1))
    assert window_in({"weight": torch.empty(1, 1, 1, 1)}) == Window((0, 0), (1, 1))


class Grows(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(F.pad(input, (input.shape[-1] % 3, 0, 0, 0)), self.weight, self.bias)


class Scaled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(2 * input, self.weight, self.bias)


class Full(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight, self.bias, padding=2)


class Twice(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(super().forward(input))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Grows, "a Grows pads its map by a rule of its own"),
        (Scaled, "a Scaled does more to its map than pad it"),
        (Full, "a Full adds more than half of its window"),
        (Twice, "a Twice convolves 2 times in one call"),
    ],
)
def test_what_does_more_than_convolve_is_refused(kind: type[nn.Conv2d], why: str) -> None:
    with pytest.raises(InputError, match=why):
        window_of(kind(2, 2, 3))


class Rectified(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu() + 1


def test_what_becomes_of_a_constant_map_is_seen() -> None:
    plain, more = nn.Conv2d(3, 4, 3, stride=2, dilation=2, padding=1), Rectified(3, 4, 3)
    assert convolves_only(plain, plain.weight, plain.bias)
    assert not convolves_only(plain, plain.weight + 0.1, plain.bias)
    assert not convolves_only(more, more.weight, more.bias)
