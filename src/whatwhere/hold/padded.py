"""Layers that pad a map in a mode of one's choice, in the place of those that cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from whatwhere.hold.uneven import SAME_BY_TYPE, Pair, Window, window_of

Pairs = tuple[Pair, Pair]  # before and after, of rows and of columns
# timm's convolutions that pad, or make their weights, in a forward of their own.
OWN_CONVS = ("Conv2dSame", "StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")
OWN_POOLS = {"AvgPool2dSame": nn.AvgPool2d, "MaxPool2dSame": nn.MaxPool2d}


def filled(x: Tensor, amounts: Pairs, mode: str, *, channels: int = 1) -> Tensor:
    """Pad the rows and columns of a map.

    Args:
        x: (N, C, H, W), or (N, H, W, C).
        amounts: (before, after) of rows and of columns, none of them negative.
        mode: zeros, reflect, replicate or circular; none adds nothing.
        channels: the axis of the channels, 1 or 3.

    Returns:
        The padded map, in the layout of `x`; a new tensor, as F.pad gives.
    """
    (top, bottom), (left, right) = amounts
    if mode == "none" or not any((top, bottom, left, right)):
        return x.clone()
    if channels == 3:
        return filled(x.permute(0, 3, 1, 2), amounts, mode).permute(0, 2, 3, 1)
    return F.pad(x, (left, right, top, bottom), mode="constant" if mode == "zeros" else mode)


def window_amounts(window: Window, x: Tensor) -> Pairs:
    """What a window adds to a map (N, C, H, W)."""
    return window.pads(0, x.shape[2]), window.pads(1, x.shape[3])


def without_padding(pool: Any) -> nn.Module:
    """The same pool with padding 0; one of timm's, which pads in its forward, becomes torch's, which does not."""
    pool.padding = 0
    if is_own_pool(pool):
        pool.__class__ = OWN_POOLS[type(pool).__name__]
    bare: nn.Module = pool
    return bare


class PaddedPool(nn.Module):
    """Pad in some mode, then pool without padding.

    Args:
        pool: an `nn.MaxPool2d` or `nn.AvgPool2d` with padding; it becomes a part of this, with padding 0.
        mode: reflect, replicate or circular.
    """

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, mode: str) -> None:
        super().__init__()
        window = window_of(pool)
        assert window
        self.window, self.padding, self.mode, self.training = window, window.padding, mode, pool.training
        self.own = type(pool)
        self.pool: Any = without_padding(pool)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the pool's (N, C, H', W')."""
        return self.pool(filled(x, window_amounts(self.window, x), self.mode))

    def restored(self) -> nn.Module:
        """The pool with the padding it had."""
        self.pool.padding = self.padding
        self.pool.__class__ = self.own
        return self.pool

    def extra_repr(self) -> str:
        """The padding, for reports."""
        return f"padding={'same' if self.window.same else self.padding}, mode={self.mode}"


class PaddedMap(nn.Module):
    """Pad in some mode: in the place of a module that adds zeros.

    Args:
        padding: (left, right, top, bottom).
        mode: reflect, replicate or circular; none adds nothing.
    """

    def __init__(self, padding: tuple[int, int, int, int], mode: str) -> None:
        super().__init__()
        self.padding, self.mode = padding, mode

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        left, right, top, bottom = self.padding
        return filled(x, ((top, bottom), (left, right)), self.mode)

    def extra_repr(self) -> str:
        """The padding, for reports."""
        return f"{self.padding}, mode={self.mode}"


class PaddedConv(nn.Conv2d):
    """Pad in some mode, then convolve without padding, with the weights that the convolution really uses.

    Made by `PaddedConv.of`, which takes over parameters, and their names, from one of timm's.

    Attributes:
        window: how it slides, and what it adds.
        mode: zeros, reflect, replicate or circular.
        own: the class that it had.
    """

    window: Window
    mode: str
    own: Any
    _given: Window
    _before: dict[str, Any]

    @classmethod
    def of(cls, conv: nn.Conv2d, mode: str) -> PaddedConv:
        """A convolution of `OWN_CONVS` in another mode; the old one is used up."""
        new = cls.__new__(cls)
        new.__dict__ = dict(conv.__dict__)
        window = window_of(conv)
        assert window
        new.window, new.mode, new.own, new._given = window, mode, type(conv), window
        new._before = {k: conv.__dict__[k] for k in ("padding", "same_pad") if k in conv.__dict__}
        new.padding = (0, 0)
        if "same_pad" in new._before:
            new.__dict__["same_pad"] = False
        return new

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        # Without its padding `Conv2dSame` is torch's; the others convolve with standardised weights.
        plain = nn.Conv2d if self.own.__name__ == "Conv2dSame" else self.own
        return plain.forward(self, filled(x, window_amounts(self.window, x), self.mode))

    def in_mode(self, mode: str) -> nn.Module:
        """Itself in another mode; with zeros in the amounts that it had, or without padding, what it was.

        Args:
            mode: one of `PADDINGS`.
        """
        if mode == "none":
            return self._bare()
        if mode == "zeros" and self.window == self._given:
            return self.restored()
        if mode == "f-conv":
            self.window = replace(self.window, padding=self.window.full, same=False)
        self.mode = "zeros" if mode == "f-conv" else mode
        return self

    def _bare(self) -> Any:
        """The convolution that it was, but that it adds nothing."""
        old = self.restored()
        old.padding = (0, 0)
        if "same_pad" in self._before:
            old.same_pad = False
        if type(old).__name__ == "Conv2dSame":  # always pads; it is torch's but for that
            plain: Any = nn.Conv2d.__new__(nn.Conv2d)
            plain.__dict__ = old.__dict__
            return plain
        return old

    def restored(self) -> Any:
        """The convolution that it was."""
        old: Any = self.own.__new__(self.own)
        old.__dict__ = {k: v for k, v in self.__dict__.items() if k not in PaddedConv.__annotations__}
        old.__dict__.update(self._before)
        return old

    def extra_repr(self) -> str:
        """The convolution and its padding, for reports."""
        amount = "same" if self.window.same else self.window.padding
        return f"{super().extra_repr()}, padding={amount}, mode={self.mode}, own={self.own.__name__}"


def is_own_conv(m: nn.Module) -> bool:
    """Whether this is one of timm's convolutions that a `PaddedConv` can stand for."""
    return type(m).__name__ in OWN_CONVS and type(m).__module__.startswith("timm.")


def is_own_pool(m: nn.Module) -> bool:
    """Whether this is one of timm's pools that a `PaddedPool` can stand for."""
    return type(m).__name__ in OWN_POOLS and type(m).__name__ in SAME_BY_TYPE and type(m).__module__.startswith("timm.")
