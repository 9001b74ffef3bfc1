"""Layers that work on one vector a channel, where they used to work on maps."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init  # no draws from the global random state

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", bound=nn.Conv2d)


class OnVectors(nn.Conv2d):
    """A 1 x 1 convolution that is computed as what it is on 1 x 1 maps: a linear map, or a scale for each channel."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, 1, 1) to (N, C', 1, 1); larger maps as any 1 x 1 convolution."""
        if input.shape[-1] * input.shape[-2] != 1 or self.groups not in (1, self.in_channels):
            return super().forward(input)
        if self.groups == 1:
            return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        repeated = input if self.out_channels == self.in_channels else input.repeat_interleave(self._each, 1)
        scaled = repeated * self.weight.view(1, -1, 1, 1)
        return scaled if self.bias is None else scaled + self.bias.view(1, -1, 1, 1)

    @property
    def _each(self) -> int:
        return self.out_channels // self.in_channels


def summed(weight: Tensor, bias: Tensor | None, groups: int) -> OnVectors:
    """What a convolution does to a constant map without borders: its kernels summed over space.

    Args:
        weight: (C', C / groups, k, k).
        bias: (C',), or None.
        groups: of channels.
    """
    return summed_as(OnVectors, weight, bias, groups)


def summed_as(kind: type[C], weight: Tensor, bias: Tensor | None, groups: int, stride: tuple[int, int] = (1, 1)) -> C:
    """Likewise, as a layer that works on maps.

    Args:
        kind: of 1 x 1 convolution.
        weight: as `summed` takes it.
        bias: likewise.
        groups: likewise.
        stride: of rows and columns.
    """
    new = skip_init(
        kind,
        weight.shape[1] * groups,
        weight.shape[0],
        1,
        stride=stride,
        groups=groups,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    with torch.no_grad():
        new.weight.copy_(weight.sum((2, 3), keepdim=True))
        if bias is not None and new.bias is not None:
            new.bias.copy_(bias)
    return new


def folded(linear: nn.Linear, channels: Tensor) -> nn.Linear:
    """A linear layer on one value a channel, in the place of one on a flattened map of equal values.

    Args:
        linear: the layer.
        channels: (inputs,) of which channel each of its inputs is.
    """
    new = skip_init(
        nn.Linear,
        int(channels.max()) + 1,
        linear.out_features,
        bias=linear.bias is not None,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
    )
    with torch.no_grad():
        new.weight.zero_().index_add_(1, channels.to(linear.weight.device), linear.weight)
        if linear.bias is not None:
            new.bias.copy_(linear.bias)
    return like(linear, new)


def like(old: nn.Module, new: M) -> M:
    """A layer as trainable as another, and in the same mode."""
    for name, p in new.named_parameters():
        p.requires_grad_(getattr(old, name).requires_grad)
    return new.train(old.training)
