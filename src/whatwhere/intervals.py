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


@dataclass(frozen=True)
class Noise:
    """The parts of a mean's variance: pictures, their own draws, and what a draw does to a whole batch alike.

    Attributes:
        pictures: variance between pictures of the value expected over draws.
        draws: mean variance of a picture's value over draws.
        shared: variance of a batch's mean over draws, beyond what independent pictures explain.
        n: pictures.
        batches: into how many batches they were divided; each has its own draws.
    """

    pictures: float
    draws: float
    shared: float
    n: int
    batches: int

    def half_width(self, repeats: float) -> float:
        """Half the 95 % interval of the mean, had every picture this many draws."""
        once = self.draws / self.n + self.shared / self.batches
        return Z * math.sqrt(max(0.0, self.pictures) / self.n + once / repeats)


def noise_of(values: NDArray[np.float64], rates: NDArray[np.float64], repeats: float, batches: Sequence[Batch]) -> Noise:
    """Take the variance of a mean over pictures apart.

    Args:
        values: (N,) what is averaged: a picture's mean over draws, or its difference from the intact network's.
        rates: (N,) share of its draws in which a picture was right.
        repeats: draws a picture had (the harmonic mean where they differ).
        batches: the draws of each batch.
    """
    n = len(values)
    # Of a share p seen in r draws, p(1 - p) r / (r - 1) is the unbiased variance of one draw.
    draws = float(np.mean(rates * (1 - rates))) * repeats / (repeats - 1) if repeats > 1 else 0.0
    # Where no picture differs, the next one still could: a variance of 1/n is one such picture in n.
    between = max(float(np.var(values, ddof=1)), 1 / n) - draws / repeats if n > 1 else math.inf
    excess = [b.variance - draws / b.n for b in batches if b.repeats > 1]
    return Noise(between, draws, max(0.0, float(np.mean(excess))) if excess else 0.0, n, max(1, len(batches)))


@dataclass(frozen=True)
class Batch:
    """How many of a batch's pictures were right, for each draw.

    Attributes:
        n: pictures.
        totals: right ones, for each draw.
    """

    n: int
    totals: tuple[int, ...]

    @property
    def repeats(self) -> int:
        """How many draws there were."""
        return len(self.totals)

    @property
    def variance(self) -> float:
        """Of the batch's accuracy, over draws."""
        return float(np.var([t / self.n for t in self.totals], ddof=1))


def over_pictures(
    values: NDArray[np.float64], rates: NDArray[np.float64], repeats: NDArray[np.integer], batches: Sequence[Batch]
) -> Estimate:
    """Mean over pictures and draws with a 95 % interval over both.

    Args:
        values: (N,) see `noise_of`; pass `rates` itself for an accuracy.
        rates: (N,) share of its draws in which a picture was right.
        repeats: (N,) draws each picture had.
        batches: the draws of each batch.
    """
    each = 1 / float(np.mean(1 / repeats))
    half = noise_of(values, rates, each, batches).half_width(each)
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, _spread(batches), len(values), int(repeats.max()))


def _spread(batches: Sequence[Batch]) -> float:
    """Standard deviation over draws of the accuracy on all pictures that had the draw."""
    common = min(b.repeats for b in batches)
    if common < 2:
        return 0.0
    n = sum(b.n for b in batches)
    return float(np.std([sum(b.totals[r] for b in batches) / n for r in range(common)], ddof=1))


def over_seeds(values: Sequence[float], n: int) -> Estimate:
    """Mean over at least two independently trained networks, with Student's t interval.

    Args:
        values: one for each seed.
        n: pictures each value rests on.
    """
    spread = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, spread, n, len(values))
