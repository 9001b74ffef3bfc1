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


def score(predicted: Tensor, target: Tensor) -> Scores:
    """Compare predicted maps with a target.

    Args:
        predicted: (N, h, w).
        target: (h, w), or one for each picture (N, h, w).

    Raises:
        InputError: if the shapes differ, or a prediction is not finite.
    """
    if predicted.shape[-2:] != target.shape[-2:]:
        raise InputError(f"predicted maps are {tuple(predicted.shape[-2:])}, the target {tuple(target.shape[-2:])}.")
    flat = predicted.detach().double().cpu().flatten(1)
    if not torch.isfinite(flat).all():
        raise InputError("predicted maps hold values that are not finite; the read-out diverged (a smaller lr helps).")
    goal = target.detach().double().cpu().reshape(-1, flat.shape[1]).expand(len(flat), -1)
    constant = (_range(flat) <= ROUNDING * _range(goal)).numpy()
    rho = np.where(constant, 0.0, _spearman(_without_rounding(flat).numpy(), goal.numpy()))
    return Scores(rho, (flat - goal).abs().mean(1).numpy(), int(constant.sum()))


def _without_rounding(maps: Tensor) -> Tensor:
    """Values in steps of 1e-5 of their range: where a picture is empty all positions are alike, but for rounding."""
    return (maps / (ROUNDING * _range(maps)).clamp_min(1e-300)[:, None]).round()


def _range(maps: Tensor) -> Tensor:
    return maps.amax(1) - maps.amin(1)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row; ties share their mean rank; 0 where a row is constant."""
    from scipy.stats import rankdata  # takes seconds to import

    x, y = (_centred(rankdata(v, axis=1)) for v in (a, b))
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return (x * y).sum(1) / np.where(scale == 0, 1.0, scale)


def _centred(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return v - v.mean(1, keepdims=True)


def best_constant(target: Tensor) -> float:
    """The mean absolute error of the best constant, the target's median: what knowing nothing costs."""
    values = target.double().flatten()
    return float((values - values.median()).abs().mean())
