"""Confidence intervals of accuracies, of their differences, and of means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes seconds to import

LEVEL = 0.95
Z = float(special.ndtri(0.5 + LEVEL / 2))


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
    p, scale = successes / n, 1 + Z**2 / n
    centre, half = (p + Z**2 / (2 * n)) / scale, Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def student(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches to each side, the variance known with so much freedom."""
    return float(special.stdtrit(freedom, 0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Noise:
    """The parts of a mean's variance: pictures, their own draws, and what a draw does to a whole batch alike.

    Attributes:
        pictures: variance between pictures of the value expected over draws.
        draws: mean variance of a picture's value over draws.
        shared: variance of the mean over one draw for every batch, beyond what independent pictures explain.
        n: pictures.
        freedom: degrees of freedom that the variance over draws was estimated with.
    """

    pictures: float
    draws: float
    shared: float
    n: int
    freedom: float

    def half_width(self, repeats: float) -> float:
        """Half the 95 % interval of the mean, had every picture this many draws.

        Student's t with Welch and Satterthwaite's degrees of freedom: of few batches and draws, the variance over draws
        is known badly.
        """
        pictures, once = max(0.0, self.pictures) / self.n, (self.draws / self.n + self.shared) / repeats
        freedom = (pictures + once) ** 2 / (pictures**2 / max(1, self.n - 1) + once**2 / self.freedom)
        return student(freedom) * math.sqrt(pictures + once)


def noise_of(
    values: NDArray[np.float64], rates: NDArray[np.float64], repeats: float, batches: Sequence[Batch]
) -> Noise:
    """Take the variance of a mean over pictures apart.

    With a single draw, the effect of a draw on a whole batch cannot be estimated, and is left out.

    Args:
        values: (N,) what is averaged: a picture's mean over draws, or its difference from the intact network's.
        rates: (N,) share of its draws in which a picture was right.
        repeats: draws a picture had (the harmonic mean where they differ).
        batches: the draws of each batch.
    """
    n = len(values)
    # Of a share p seen in r draws, p(1 - p) r / (r - 1) is the unbiased variance of one draw.
    draws = float(np.mean(rates * (1 - rates))) * repeats / (repeats - 1) if repeats > 1 else 0.0
    # Where no picture differs, the next one still could: this is as wide as Wilson's interval of none in n.
    between = max(float(np.var(values, ddof=1)) if n > 1 else 0.0, Z**2 / n) - draws / repeats
    drawn = [b for b in batches if b.repeats > 1]
    # Batches have draws of their own, so their parts of the mean vary independently.
    parts = np.array([b.variance * (b.n / n) ** 2 for b in drawn])
    shared = float(parts.sum()) - draws * sum(b.n for b in drawn) / n**2
    if shared <= 0:
        return Noise(between, draws, 0.0, n, n)
    freedom = parts.sum() ** 2 / float(np.sum(parts**2 / [b.repeats - 1 for b in drawn]))
    return Noise(between, draws, shared, n, float(freedom))


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
    values: NDArray[np.float64] | None,
    rates: NDArray[np.float64],
    repeats: NDArray[np.integer],
    batches: Sequence[Batch],
) -> Estimate:
    """Mean over pictures and draws with a 95 % interval over both.

    Args:
        values: (N,) see `noise_of`; None for an accuracy, whose values are the rates.
        rates: (N,) share of its draws in which a picture was right.
        repeats: (N,) draws each picture had.
        batches: the draws of each batch.
    """
    each = 1 / float(np.mean(1 / repeats))
    averaged = rates if values is None else values
    half = noise_of(averaged, rates, each, batches).half_width(each)
    return _estimate(
        float(np.mean(averaged)), half, _spread(batches), len(rates), int(repeats.max()), accuracy=values is None
    )


def over_scores(scores: NDArray[np.float64], *, low: float = -1.0, high: float = 1.0) -> Estimate:
    """Mean over pictures of a score, with Student's t interval; a single picture has no interval (both ends the mean).

    Args:
        scores: (N,) one for each picture.
        low: the least a score can be.
        high: the most.
    """
    n, mean = len(scores), float(np.mean(scores))
    if n < 2:
        return Estimate(mean, mean, mean, 0.0, n, 1)
    spread = float(np.std(scores, ddof=1))
    half = student(n - 1) * spread / math.sqrt(n)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), spread, n, 1)


def _estimate(mean: float, half: float, spread: float, n: int, repeats: int, *, accuracy: bool = False) -> Estimate:
    """An interval that goes no further than the values can: [0, 1] of an accuracy, [-1, 1] of a difference."""
    return Estimate(mean, max(mean - half, 0.0 if accuracy else -1.0), min(mean + half, 1.0), spread, n, repeats)


def _spread(batches: Sequence[Batch]) -> float:
    """Standard deviation over draws of the accuracy on all pictures that had the draw."""
    common = min((b.repeats for b in batches), default=0)
    if common < 2:
        return 0.0
    n = sum(b.n for b in batches)
    return float(np.std([sum(b.totals[r] for b in batches) / n for r in range(common)], ddof=1))


def over_seeds(values: Sequence[float], n: int, *, step: float = 0.0, low: float = -1.0, high: float = 1.0) -> Estimate:
    """Mean over at least two independent networks, with Student's t interval.

    Args:
        values: one for each seed.
        n: pictures each value rests on.
        step: what counted values are multiples of. Two that fall on the same one may differ by as much as rounding
            hides, a standard deviation of step / sqrt(12); the interval is not narrower than that allows.
        low: the least a value can be.
        high: the most.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} seeds have no spread; take `over_pictures` of a single one.")
    spread = float(np.std(values, ddof=1))
    widest = max(spread, step / math.sqrt(12))
    half, mean = student(len(values) - 1) * widest / math.sqrt(len(values)), float(np.mean(values))
    return Estimate(mean, max(mean - half, low), min(mean + half, high), spread, n, len(values))
