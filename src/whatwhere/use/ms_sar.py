"""MS-SAR: every neuron is weighted by its surrounding regions, at several scales (Wang et al. 2018).

Reconstructed from the abstract and the introduction [paper]; scales, ratio and layout are ours [design], see README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.use.partition import between_centres, cell_means, coarser, scaled_by_cells

Weights = Literal["shared", "per-cell"]
Upsample = Literal["nearest", "bilinear"]


class MSSAR(nn.Module):
    """Multi-scale spatially asymmetric recalibration of a map.

    The map is divided into s x s cells for every scale s. A neuron's descriptor is, for each scale, the mean over the
    cell that contains it, all channels. Two linear layers (ReLU between, sigmoid after) turn it into a weight for
    every channel, which multiplies the neuron. `scales=(1,)` is squeeze-and-excitation.

    The first layer acts on each scale's own cells and the results are added on the finest grid, which equals acting on
    the concatenated descriptors at every cell, with fewer products.

    Args:
        channels: C of the map.
        scales: cells per side, each dividing the largest; 1 is the whole map.
        ratio: the hidden layer has 2C / (ratio · (scales + 1)) channels, so that the two layers have as many weights as
            squeeze-and-excitation of that ratio, for any number of scales; at least `divisor`.
        weights: `shared` by all cells (content decides); `per-cell`, separate weights in the second layer for every
            cell of the finest grid (absolute position decides).
        upsample: `nearest`, a cell's weight at all its positions; `bilinear`, interpolated between cell centres.
        identity_init: start with weights of exactly 1 for any map: the expansion starts at zero, and the weight is
            twice the sigmoid, in (0, 2).
        symmetric: one weight for all positions: the neurons' scores are averaged over positions before the sigmoid,
            where a score of 0 stays 0. Scales, descriptors and number of weights stay the same, so that only the
            asymmetry differs.
        divisor: smallest number of hidden channels.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        gate: the last weights (N, cells, cells, C), kept for inspection while `keep_gate` is set.
    """

    def __init__(
        self,
        channels: int,
        scales: Sequence[int] = (1, 2, 4),
        ratio: float = 16,
        weights: Weights = "shared",
        upsample: Upsample = "nearest",
        identity_init: bool = False,
        *,
        symmetric: bool = False,
        divisor: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.scales, self.ratio = channels, checked_scales(scales), ratio
        self.weights, self.upsample, self.symmetric = weights, upsample, symmetric
        _check(channels, ratio, weights, upsample)
        self.hidden = max(divisor, round(2 * channels / (ratio * (len(self.scales) + 1))))
        where: Any = {"device": device, "dtype": dtype}
        self.reduce = nn.ModuleList(
            nn.Linear(channels, self.hidden, bias=i == 0, **where) for i in range(len(self.scales))
        )  # one bias: the sum is one linear layer
        self.expand: nn.Linear | PerCellLinear = (
            nn.Linear(self.hidden, channels, **where)
            if weights == "shared"
            else PerCellLinear(self.scales[-1], self.hidden, channels, **where)
        )
        self.identity_init = identity_init
        self.keep_gate, self.gate = False, torch.empty(0)
        if identity_init:
            nn.init.zeros_(self.expand.weight)
            nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate = self.weigh(x)
        if self.keep_gate:
            self.gate = gate.detach()
        if self.upsample == "nearest" or gate.shape[1] == 1:
            return scaled_by_cells(x, gate)
        return x * between_centres(gate, (x.shape[-2], x.shape[-1]))

    def weigh(self, x: Tensor) -> Tensor:
        """The weights, (N, cells, cells, C) on the finest grid; (N, 1, 1, C) if symmetric."""
        score = self.expand(functional.relu(self._reduced(x)))
        if self.symmetric:
            score = coarser(score, (x.shape[-2], x.shape[-1]), 1)
        gate = torch.sigmoid(score)
        # Twice a sigmoid is 1 where the sigmoid is a half: a zero expansion is then exactly the identity.
        return 2 * gate if self.identity_init else gate

    def _reduced(self, x: Tensor) -> Tensor:
        """The first layer on the concatenated descriptors, (N, cells, cells, hidden)."""
        fine, shape = self.scales[-1], (x.shape[-2], x.shape[-1])
        means = cell_means(x, fine)
        total = self.reduce[-1](means)
        for scale, layer in zip(self.scales[:-1], self.reduce, strict=False):
            part = layer(coarser(means, shape, scale))
            total = total + (part if scale == 1 else _spread(part, fine // scale))  # a single cell is broadcast
        return total

    def extra_repr(self) -> str:
        """The settings, for reports."""
        return (
            f"{self.channels}, scales={self.scales}, hidden={self.hidden}, weights={self.weights!r}, "
            f"upsample={self.upsample!r}"
        )


class PerCellLinear(nn.Module):
    """A linear layer with separate weights for every cell.

    Args:
        cells: per side.
        inputs: input channels.
        outputs: output channels.
        device: of the weights.
        dtype: of the weights.
    """

    def __init__(self, cells: int, inputs: int, outputs: int, **where: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cells, cells, outputs, inputs, **where))
        self.bias = nn.Parameter(torch.empty(cells, cells, outputs, **where))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both uniformly, as nn.Linear does."""
        bound = self.weight.shape[-1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    @property
    def multiply_adds(self) -> int:
        """For one output value; read by the count of operations."""
        return self.weight.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, cells, cells, inputs) to (N, cells, cells, outputs)."""
        flat = x.flatten(1, 2).transpose(0, 1)  # (cells², N, inputs): one product for each cell
        out = torch.bmm(flat, self.weight.flatten(0, 1).transpose(1, 2)).transpose(0, 1)
        return out.unflatten(1, self.weight.shape[:2]).contiguous() + self.bias  # contiguous: the map is read along it


def _spread(cells: Tensor, step: int) -> Tensor:
    """Coarse cells on a finer grid."""
    return cells[:, :, None, :, None].expand(-1, -1, step, -1, step, -1).flatten(3, 4).flatten(1, 2)


class SE(MSSAR):
    """Squeeze-and-excitation (Hu et al. 2018): the case of one scale, the whole map.

    Args:
        channels: C of the map.
        ratio: the hidden layer has C / ratio channels.
        identity_init: start as the identity.
        **others: divisor, device, dtype of `MSSAR`.
    """

    def __init__(self, channels: int, ratio: float = 16, identity_init: bool = False, **others: Any) -> None:
        super().__init__(channels, (1,), ratio, identity_init=identity_init, **others)


def checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """The scales, ascending.

    Raises:
        InputError: for none, a repeat, one below 1, or one that does not divide the largest.
    """
    ordered = tuple(sorted(scales))
    if not ordered or any(not isinstance(s, int) or s < 1 for s in ordered) or len(set(ordered)) < len(ordered):
        raise InputError(f"scales={tuple(scales)}: give different whole numbers from 1, such as (1, 2, 4).")
    if any(ordered[-1] % s for s in ordered):
        raise InputError(f"scales={tuple(scales)}: every scale must divide the largest, as in (1, 2, 4) or (1, 3, 6).")
    return ordered


def _check(channels: int, ratio: float, weights: str, upsample: str) -> None:
    if channels < 1 or ratio <= 0:
        raise InputError(f"channels={channels}, ratio={ratio}: give both above 0.")
    if weights not in ("shared", "per-cell"):
        raise InputError(f"weights={weights!r}: choose 'shared' or 'per-cell'.")
    if upsample not in ("nearest", "bilinear"):
        raise InputError(f"upsample={upsample!r}: choose 'nearest' or 'bilinear'.")
