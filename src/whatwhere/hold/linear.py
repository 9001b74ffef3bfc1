"""The linear read-out: one convolution to one map for each target, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from whatwhere.hold.features import Group, joined


@dataclass(frozen=True)
class LinearReadOut:
    """A fitted read-out.

    Attributes:
        group: what it reads.
        kernel: k.
        padding: zeros around the features.
        weight: (T, C, k, k), float64: small features take large weights, which cancel in float32.
        bias: (T,), float64.
        penalty: (T,) the chosen penalties, on standardised columns and a mean squared error.
        loss: (T,) mean squared error of its predictions of the held-out pictures.
        centre_loss: (T,) the same of the best 1 x 1 read-out at the kernel's centre, fitted and tested at the same
            positions; a larger kernel can do whatever that one does.
        spread: (T,) mean squared error of the best constant, on the pictures that were fitted.
    """

    group: Group
    kernel: int
    padding: int
    weight: Tensor
    bias: Tensor
    penalty: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    centre_loss: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def predict(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Maps by tap, (N, C, H, W), to predictions (N, T, h, w), float64."""
        return convolved(joined(maps, self.group.taps), self.weight, self.bias, self.padding)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """A convolution in float64, as one matrix product for all shifts of the kernel, which are then added up.

    Args:
        x: (N, C, H, W).
        weight: (T, C, k, k), float64.
        bias: (T,), float64.
        padding: zeros around the features.

    Returns:
        (N, T, h, w), float64; h = H + 2 · padding - k + 1.
    """
    targets, channels, k, _ = weight.shape
    flat = weight.permute(2, 3, 0, 1).reshape(-1, channels)
    every = (flat @ x.double().flatten(2)).unflatten(2, x.shape[2:])  # (N, k·k·T, H, W)
    every = functional.pad(every, (padding,) * 4).unflatten(1, (k, k, targets))
    h, w = (size - k + 1 for size in every.shape[-2:])
    out = bias.view(1, -1, 1, 1).repeat(len(x), 1, h, w)
    for i in range(k):
        for j in range(k):
            out += every[:, i, j, :, i : i + h, j : j + w]
    return out
