"""Uneven padding: strided layers that use the padding at the top and left, but not all of it at the bottom and right.

Source: Alsallakh et al., "Mind the Pad: CNNs Can Develop Blind Spots" (ICLR 2021), of which we know the abstract; the
rule, (h + 2p - d(k-1) - 1) mod stride = 0 on both axes, is recalled, and a test derives it by brute force.
Deviations: pools in `ceil_mode` and TensorFlow's "same" padding (timm's `Conv2dSame` and pools), whose windows can
reach further at the bottom than at the top, count as uneven too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from whatwhere.errors import InputError
from whatwhere.network import Network, as_module
from whatwhere.site import Site, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied

Pair = tuple[int, int]
WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
SAME_BY_TYPE = ("Conv2dSame", "Conv2dSameExport", "MaxPool2dSame", "AvgPool2dSame")  # timm's: padding by picture size


@dataclass(frozen=True)
class Window:
    """How a convolution or pool slides over a map; (rows, columns) each."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil: bool = False
    same: bool = False

    @property
    def full(self) -> Pair:
        """The padding that lets every weight see every position."""
        return self.reach(0) - 1, self.reach(1) - 1

    @property
    def is_full(self) -> bool:
        """Whether it has that."""
        return self.padding == self.full and not self.same

    def reach(self, axis: int) -> int:
        """From a window's first to its last row or column, both included."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def pads(self, axis: int, size: int) -> Pair:
        """Padding (before, after) a map of some size."""
        if not self.same:
            return self.padding[axis], self.padding[axis]
        total = max((-(-size // self.stride[axis]) - 1) * self.stride[axis] + self.reach(axis) - size, 0)
        return total // 2, total - total // 2

    def count(self, axis: int, size: int) -> int:
        """How many windows there are: the size of the output."""
        before, after = self.pads(axis, size)
        steps, rest = divmod(size + before + after - self.reach(axis), self.stride[axis])
        # In ceil_mode a last window sticks out of the padded map, unless it would begin in the padding at the end.
        extra = self.ceil and rest > 0 and (steps + 1) * self.stride[axis] < size + before
        return steps + 1 + extra

    def remainder(self, axis: int, size: int) -> int:
        """Padding that the windows take in at the start, less what they take in at the end."""
        before, _ = self.pads(axis, size)
        end = (self.count(axis, size) - 1) * self.stride[axis] + self.reach(axis)
        return 2 * before + size - end


def window_of(layer: nn.Module) -> Window | None:
    """The window of a 2-D convolution or pool; None for every other module."""
    if not isinstance(layer, WINDOWED):
        return None
    m: Any = layer
    if isinstance(own := getattr(m, "window", None), Window):  # of ours, which pads before it slides
        return own
    same = m.padding == "same" or type(m).__name__ in SAME_BY_TYPE or bool(getattr(m, "same_pad", False))
    padding = (0, 0) if isinstance(m.padding, str) else _pair(m.padding)
    dilation = _pair(getattr(m, "dilation", 1))
    return Window(_pair(m.kernel_size), _pair(m.stride), padding, dilation, bool(getattr(m, "ceil_mode", False)), same)


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


@dataclass(frozen=True)
class StridedLayer:
    """A convolution or pool with a stride, on the map that it gets.

    Attributes:
        site: its name in the table of sites.
        shape_in: (h, w) of the map that enters it, without padding.
        kernel: (rows, columns).
        stride: (rows, columns).
        padding: (rows, columns) at the top and left.
        dilation: (rows, columns).
        remainder: (rows, columns) at the bottom and right of the padded map that no window reaches. Negative: the
            windows take in so many more there than at the top and left ("same" padding), or stick out (ceil_mode).
    """

    site: str
    shape_in: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    remainder: Pair

    @property
    def even(self) -> bool:
        """Whether the layer treats opposite borders alike."""
        return self.remainder == (0, 0)


def uneven_padding(net: nn.Module | Network, *, input_size: tuple[int, int, int] | None = None) -> list[StridedLayer]:
    """Every strided convolution and pool of a network, in execution order, and whether it uses its padding evenly.

    Left out: layers that pad or stride in a forward of their own (timm's `BlurPool2d`, functional pools), adaptive
    pools, and layers on maps of a single position.

    Args:
        net: the network; it is left alone.
        input_size: (C, H, W) of one picture; None takes the network's own, or 224 x 224.

    Returns:
        One entry for each call of a strided layer; `[s for s in ... if not s.even]` are the uneven ones.

    Raises:
        InputError: if the network does not run on such a picture.
    """
    module = as_module(net)
    table = list_sites(net, input_size=input_size)
    windows = ((s, window_of(module.get_submodule(s.module))) for s in table)
    return [_strided(s, w) for s, w in windows if w is not None and max(w.stride) > 1]


def _strided(site: Site, w: Window) -> StridedLayer:
    h, width = site.shape_in[1:]
    return StridedLayer(
        site.name,
        (h, width),
        w.kernel,
        w.stride,
        (w.pads(0, h)[0], w.pads(1, width)[0]),
        w.dilation,
        (w.remainder(0, h), w.remainder(1, width)),
    )


def even_sizes(net: nn.Module | Network, *, near: int, reach: int = 32) -> list[int]:
    """The sizes of square pictures near a given one at which every strided layer uses its padding evenly.

    Each size is traced once, without arithmetic (on PyTorch's `meta` device) where the network allows that.

    Args:
        net: the network; it is left alone.
        near: height and width in pixels around which to look; the network must run at it.
        reach: how far to look on both sides, in pixels.

    Returns:
        Ascending sizes in pixels; sizes at which the network does not run are left out. May be empty.

    Raises:
        InputError: if `near` or `reach` is out of range, or the network does not run at `near`.
    """
    if near < 1:
        raise InputError(f"near={near}: give a size in pixels of at least 1, such as 224.")
    if reach < 0:
        raise InputError(f"reach={reach}: give a number of pixels of at least 0.")
    channels = expected_input_size(net)[0]
    quick = without_arithmetic(net, (channels, near, near))
    sizes = range(max(1, near - reach), near + reach + 1)
    return [s for s in sizes if _is_even_at(quick, (channels, s, s))]


def without_arithmetic(net: nn.Module | Network, size: tuple[int, int, int]) -> nn.Module:
    """A copy of a network on the meta device, which traces shapes only; the network itself if it cannot run there.

    Raises:
        InputError: if the network does not run on a picture of that size (C, H, W) at all.
    """
    module = as_module(net)
    try:
        quick = copied(module).to("meta")
        list_sites(quick, input_size=size)
        return quick
    except (InputError, RuntimeError, NotImplementedError):
        list_sites(module, input_size=size)
        return module


def _is_even_at(module: nn.Module, size: tuple[int, int, int]) -> bool:
    try:
        return all(layer.even for layer in uneven_padding(module, input_size=size))
    except InputError:  # too small, or a network for one size only
        return False


def format_uneven(layers: Iterable[StridedLayer]) -> str:
    """The strided layers as aligned plain text, one line each."""
    head = ("site", "in (HxW)", "kernel", "stride", "padding", "dilation", "unreached", "even")
    rows = [head, *_rows(layers)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _rows(layers: Iterable[StridedLayer]) -> Iterator[tuple[str, ...]]:
    for s in layers:
        pairs = (s.shape_in, s.kernel, s.stride, s.padding, s.dilation, s.remainder)
        yield (s.site, *(f"{a}x{b}" for a, b in pairs), "yes" if s.even else "NO")


def padding_text(net: nn.Module | Network, input_size: tuple[int, int, int] | None = None) -> str:
    """The table of strided layers, and the square input sizes nearby at which all of them are even."""
    size = input_size or expected_input_size(net)
    even = ", ".join(map(str, even_sizes(net, near=size[1]))) or "none"
    table = format_uneven(uneven_padding(net, input_size=size))
    return f"{table}\ninput sizes from {size[1] - 32} to {size[1] + 32} without uneven padding: {even}"
