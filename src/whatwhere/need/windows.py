"""The windows that a convolution looks at: how large they are, where they lie on a map, and where their middles are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whatwhere.errors import InputError
from whatwhere.site import evaluating

CONV2D = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")  # the arguments of F.conv2d
CLOSE = 1e-4  # of the largest value, by rounding
Pair = tuple[int, int]
PADS: Mapping[str, type[nn.Module]] = {
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}


@dataclass(frozen=True)
class Window:
    """The windows of a convolution, rows first.

    Attributes:
        reach: from the first to the last position that a window looks at: dilation x (kernel - 1).
        stride: from one window to the next.
        before: rows and columns that the convolution adds before the map.
        after: likewise, behind it.
        fill: with what: zeros, reflect, replicate or circular.
        same: it adds what gives ceil(size / stride) windows, which depends on the map's size, as TensorFlow does;
            `before` and `after` say nothing then.
    """

    reach: Pair
    stride: Pair
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    fill: str = "zeros"
    same: bool = False

    def middles(self) -> list[nn.Module]:
        """Layers that leave of a map as many positions as there are windows (at stride 1): the middle of each.

        Of an even window the position before the middle. Where a convolution adds more than half of its window, middles
        lie outside of the map; they are what the convolution adds there.
        """
        if self.same:
            return [MiddlesOfSame(self.reach, self.stride)] if any(self.reach) else []
        edges = [e for i in (1, 0) for e in self._edges(i)]  # as F.pad takes them: columns first
        if self.fill == "zeros" or max(edges) <= 0:
            return [nn.ZeroPad2d(_four(edges))] if any(edges) else []
        crop, added = [min(e, 0) for e in edges], [max(e, 0) for e in edges]
        return [*([nn.ZeroPad2d(_four(crop))] if any(crop) else []), PADS[self.fill](_four(added))]

    @property
    def keeps_one(self) -> bool:
        """Whether the window on a map of one position has it in its middle."""
        return self.same or not self.middles()

    def _edges(self, axis: int) -> Pair:
        """How many positions are added before and after an axis; below 0 it is cropped."""
        middle = self.reach[axis] // 2
        return self.before[axis] - middle, self.after[axis] - (self.reach[axis] - middle)


def _four(edges: Sequence[int]) -> tuple[int, int, int, int]:
    left, right, top, bottom = edges
    return left, right, top, bottom


class MiddlesOfSame(nn.Module):
    """Crops a map to the middles of windows that are padded as TensorFlow's "same".

    Args:
        reach: of the windows, as of a `Window`.
        stride: likewise.
    """

    whole = True  # the dataflow does not look into it

    def __init__(self, reach: Pair, stride: Pair) -> None:
        super().__init__()
        self.reach, self.stride = reach, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W'), at stride 1."""
        rows, columns = (self._kept(axis, x.shape[2 + axis]) for axis in (0, 1))
        return x[:, :, rows, columns]

    def _kept(self, axis: int, size: int) -> slice:
        reach = self.reach[axis]
        before, after = same_amounts(size, reach, self.stride[axis])
        return slice(reach // 2 - before, size - (reach - reach // 2 - after))

    def extra_repr(self) -> str:
        """Reach and stride."""
        return f"reach={self.reach}, stride={self.stride}"


def same_amounts(size: int, reach: int, stride: int) -> Pair:
    """What TensorFlow's "same" adds before and after an axis."""
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def window_in(given: Mapping[str, Any]) -> Window:
    """The windows of a call of F.conv2d, by its arguments."""
    stride, dilation = pair(given.get("stride", 1)), pair(given.get("dilation", 1))
    reach = _reach(given["weight"].shape[2:], dilation)
    return Window(reach, stride, *_added(given.get("padding", 0), reach))


def window_of(conv: nn.Conv2d) -> Window:
    """The windows of a convolution of any make.

    Raises:
        InputError: if a forward of its own does more than pad its map and convolve it once.
    """
    if type(conv).forward is not nn.Conv2d.forward:
        return _window_seen(conv)
    reach = _reach(conv.kernel_size, pair(conv.dilation))
    return Window(reach, pair(conv.stride), *_added(conv.padding, reach), conv.padding_mode)


def pair(value: Any) -> Pair:
    """A number for rows and columns, or one for both."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _reach(kernel: Sequence[int], dilation: Pair) -> Pair:
    rows, columns = (d * (int(k) - 1) for k, d in zip(kernel, dilation, strict=True))
    return rows, columns


def _added(padding: Any, reach: Pair) -> tuple[Pair, Pair]:
    """Before and after, rows first."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return (reach[0] // 2, reach[1] // 2), (reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
    return pair(padding), pair(padding)


# ---- of convolutions with a forward of their own, by looking at what they call


class _Convolutions(TorchFunctionMode):
    """Notes every convolution that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("conv2d", "_conv2d"):
            self.seen.append(dict(zip(CONV2D, args, strict=False)) | (kwargs or {}))
        return func(*args, **(kwargs or {}))


def convolution_in(module: nn.Module, x: Tensor) -> dict[str, Any]:
    """What a module gives to the one convolution that it calls, by the names of F.conv2d's arguments.

    Args:
        module: it is not changed.
        x: the map it is called with.

    Raises:
        InputError: if it does not convolve once.
    """
    with evaluating(module), _Convolutions() as convolutions:
        module(x)
    if len(convolutions.seen) != 1:
        raise InputError(f"a {type(module).__name__} convolves {len(convolutions.seen)} times in one call, not once")
    return convolutions.seen[0]


def _window_seen(conv: nn.Conv2d) -> Window:
    side = 4 * max(k * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    seen = {n: _window_at(conv, n) for n in range(side, side + 2 * max(conv.stride) + 1)}
    first = seen[side]
    if all(w == first for w in seen.values()):
        return _checked(conv, first)
    like_same = all(_is_same(w, n) for n, w in seen.items())
    if not like_same:
        raise InputError(f"a {type(conv).__name__} pads its map by a rule of its own that depends on the map's size")
    return Window(first.reach, first.stride, same=True)


def _window_at(conv: nn.Conv2d, side: int) -> Window:
    """The windows on a square map, where the map lies in what is convolved."""
    x = torch.rand(1, conv.in_channels, side, side, generator=torch.Generator().manual_seed(0)).to(conv.weight)
    given = convolution_in(conv, x)
    window, padded = window_in(given), given["input"]
    (top, left), size = _found_in(conv, x, padded), padded.shape[2:]
    before = (window.before[0] + top, window.before[1] + left)
    after = (window.after[0] + size[0] - side - top, window.after[1] + size[1] - side - left)
    return Window(window.reach, window.stride, before, after)


def _found_in(conv: nn.Conv2d, x: Tensor, padded: Tensor) -> Pair:
    """Where a map lies in a larger one."""
    h, w = x.shape[2:]
    for top in range(padded.shape[2] - h + 1):
        for left in range(padded.shape[3] - w + 1):
            if torch.equal(padded[:, :, top : top + h, left : left + w], x):
                return top, left
    raise InputError(f"a {type(conv).__name__} does more to its map than pad it before it convolves")


def _is_same(window: Window, side: int) -> bool:
    added = [same_amounts(side, r, s) for r, s in zip(window.reach, window.stride, strict=True)]
    return [*zip(window.before, window.after, strict=True)] == added


def _checked(conv: nn.Conv2d, window: Window) -> Window:
    """Refuse windows whose middles are what a forward of its own adds: nothing says what that is."""
    if any(2 * max(b, a) > r + 1 for b, a, r in zip(window.before, window.after, window.reach, strict=True)):
        raise InputError(f"a {type(conv).__name__} adds more than half of its window to its map, in its own way")
    return window


def convolves_only(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a convolution does no more than convolve, seen on a constant map, away from borders.

    Args:
        conv: of any make.
        weight: that it works with.
        bias: likewise.
    """
    side = 4 * max(k * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True)) * max(conv.stride)
    drawn = torch.rand(1, conv.in_channels, 1, 1, generator=torch.Generator().manual_seed(0)).to(conv.weight)
    with evaluating(conv):
        given = conv(drawn.expand(-1, -1, side, side).contiguous())
        expected = F.conv2d(drawn, weight.sum((2, 3), keepdim=True), bias, groups=conv.groups)[:, :, 0, 0]
    found = given[:, :, given.shape[2] // 2, given.shape[3] // 2]
    return float((found - expected).abs().max()) <= CLOSE * max(float(expected.abs().max()), 1e-6)
