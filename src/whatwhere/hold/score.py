"""Scores of a predicted map: rank correlation (SPC) and mean absolute error (MAE), picture by picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.errors import InputError

ROUNDING = 1e-5


@dataclass(frozen=True)
class Scores:
    """One read-out on some pictures.

    Attributes:
        spc: (N,) Spearman's rank correlation of predicted and true map, in [-1, 1]; 0 where the prediction is constant.
        mae: (N,) mean absolute error, in the target's units.
        constant: how many predictions were constant (they vary by less than 1e-5 of what the target does, which is
            rounding): their ranks say nothing, and they count as 0.
    """

    spc: NDArray[np.float64]
    mae: NDArray[np.float64]
    constant: int


@dataclass(frozen=True)
class Goal:
    """A true map, or one for each picture, with its ranks, which many predictions are compared with.

    Attributes:
        values: (1, h·w) or (N, h·w), float64.
        size: (h, w).
        ranks: centred ranks of the same shape, of length 1.
        range: (1,) or (N,) largest less smallest value.
    """

    values: Tensor
    size: tuple[int, ...]
    ranks: Tensor
    range: Tensor

    @staticmethod
    def of(target: Tensor) -> Goal:
        """From (h, w), or one for each picture (N, h, w)."""
        from scipy.stats import rankdata  # takes seconds to import

        flat = target.detach().double().cpu().reshape(-1, target.shape[-2] * target.shape[-1])
        ranks = torch.from_numpy(rankdata(flat.numpy(), axis=1))
        return Goal(flat, tuple(target.shape[-2:]), _unit(ranks), _range(flat))


def score(predicted: Tensor, target: Tensor | Goal) -> Scores:
    """Compare predicted maps with a target.

    Args:
        predicted: (N, h, w).
        target: (h, w), or one for each picture (N, h, w); a `Goal` where several predictions have the same.

    Raises:
        InputError: if the shapes differ, or a prediction is not finite.
    """
    goal = target if isinstance(target, Goal) else Goal.of(target)
    if tuple(predicted.shape[-2:]) != goal.size:
        raise InputError(f"predicted maps are {tuple(predicted.shape[-2:])}, the target {goal.size}.")
    flat = predicted.detach().double().cpu().flatten(1)
    if not torch.isfinite(flat).all():
        raise InputError("predicted maps hold values that are not finite; the read-out diverged (a smaller lr helps).")
    constant = _range(flat) <= ROUNDING * goal.range
    rho = (_unit(_ranks(flat)) * goal.ranks).sum(1).masked_fill(constant, 0.0)
    return Scores(rho.numpy(), (flat - goal.values).abs().mean(1).numpy(), int(constant.sum()))


def _ranks(maps: Tensor) -> Tensor:
    """Ranks, map by map, as one map stays in the processor's cache; ties share their mean rank. Exact in float32."""
    return torch.stack([_twice_ranks(_steps(row)).float().div_(2) for row in maps])


def _steps(row: Tensor) -> Tensor:
    """Whole steps of 1e-5 of a map's range, from 0: where a picture is empty, positions differ by rounding alone."""
    low, high = torch.aminmax(row)
    return (row - low).div_((ROUNDING * (high - low)).clamp_min(1e-300)).round_().long()


def _twice_ranks(steps: Tensor) -> Tensor:
    """Ranks by counting, times two, which makes them whole. A map has few steps, so nothing need be sorted."""
    counts = steps.bincount()
    return counts.cumsum(0).mul_(2).sub_(counts).add_(1).index_select(0, steps)


def _range(maps: Tensor) -> Tensor:
    return maps.amax(1) - maps.amin(1)


def _unit(ranks: Tensor) -> Tensor:
    """Centred and of length 1, row by row; 0 where a row is constant."""
    centred = ranks - ranks.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return centred / torch.where(length == 0, 1.0, length)


def best_constant(target: Tensor) -> float:
    """The mean absolute error of the best constant, the target's median: what knowing nothing costs."""
    values = target.double().flatten()
    return float((values - values.median()).abs().mean())
