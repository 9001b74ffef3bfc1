"""Intervals: how sure a number is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Estimate:
    """A mean with what it rests on.

    Attributes:
        mean: the estimate.
        low: lower end of the 95 % interval.
        high: upper end.
        spread: standard deviation over repeats (draws or seeds); 0 for a single one.
        n: pictures it rests on.
        repeats: draws or seeds it rests on.
    """

    mean: float
    low: float
    high: float
    spread: float
    n: int
    repeats: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share."""
    interval = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def over_pictures(hits: NDArray[np.float64], repeats: Sequence[float]) -> Estimate:
    """Mean over pictures of each picture's mean over draws.

    The pictures are the sample; a picture's own mean carries the variance of its draws, divided by how many it had, so
    one standard error holds both. What the draws share across pictures (a draw serves a whole batch) is added from
    the spread of the repeats, beyond what the pictures explain.

    Args:
        hits: (N,) mean over draws, for each picture (a share, or a paired difference).
        repeats: the mean over pictures, for each draw.
    """
    n, r = len(hits), len(repeats)
    mean = float(np.mean(hits))
    half = Z * math.sqrt(float(np.var(hits, ddof=1)) / n) if n > 1 else math.inf
    spread = float(np.std(repeats, ddof=1)) if r > 1 else 0.0
    return Estimate(mean, mean - half, mean + half, spread, n, r)


def over_seeds(values: Sequence[float], n: int) -> Estimate:
    """Mean over independently trained networks, with Student's t interval; of a single one the interval is infinite.

    Args:
        values: one for each seed.
        n: pictures each value rests on.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf, 0.0, n, len(values))
    spread = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, spread, n, len(values))
