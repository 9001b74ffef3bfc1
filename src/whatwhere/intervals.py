"""Confidence intervals of accuracies and scores, of their differences, and of means over networks.

Whatever could have been drawn otherwise adds to the variance of a mean: test pictures, trained networks, draws of a
shuffle. An interval says which of them it covers; `benchmarks/coverage.py` measures how often each kind holds the
truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes seconds to import

LEVEL = 0.95
Z = float(special.ndtri(0.5 + LEVEL / 2))
PICTURES = "test pictures"
DRAWS = "test pictures and draws"
GROUPS = "groups of test pictures"
GROUPS_AND_DRAWS = "groups of test pictures and draws"
SEEDS = "seeds and test pictures"
SEEDS_ALONE = "seeds, on these test pictures"


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
        covers: what the interval allows for: what else could have been drawn.
        fixed: of several seeds, both ends of the 95 % interval for these very test pictures: other seeds alone.
        level: how often such an interval holds the truth.
    """

    mean: float
    low: float
    high: float
    spread: float
    n: int
    repeats: int
    covers: str = ""
    fixed: tuple[float, float] | None = None
    level: float = LEVEL

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def binomial(successes: float, n: float) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper and Pearson): it never covers less, of few pictures more."""
    tail, failures = (1 - LEVEL) / 2, n - successes
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return low, high


def student(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches to each side, the variance known with so much freedom."""
    return float(special.stdtrit(freedom, 0.5 + LEVEL / 2))


def half_width(pictures: float, repeats: float, both: float, freedom: float, n: int) -> float:
    """Half the 95 % interval of a mean over pictures and a few repeats (seeds, draws), crossed with each other.

    The variance over few repeats is known badly. Welch and Satterthwaite give the sum of variances freedom / share²
    degrees of freedom, share being that of the repeats. Student's t at these bends too late where there are only one
    or two (two seeds would cover 87 %), so the square of the critical value is taken linear in their inverse, from
    that of the pictures alone to that of the repeats alone; and the interval is never narrower than over the repeats
    alone. Together they cover 95 to 99 %, most where two seeds differ by their pictures' noise only.

    Args:
        pictures: variance of the mean as the means of pictures show it.
        repeats: as the means of repeats show it.
        both: what is part of either, as pictures differ from repeat to repeat; counted once, and the least that
            repeats can add.
        freedom: degrees of freedom of `repeats`.
        n: pictures.
    """
    total = max(pictures - both, 0.0) + max(repeats, both)
    share = min(1.0, repeats / total) if total > 0 else 0.0
    many, few = student(max(1, n - 1)) ** 2, student(freedom) ** 2
    return math.sqrt(max((many + (few - many) * share**2) * total, few * repeats))


@dataclass(frozen=True)
class Noise:
    """The parts of a mean's variance: pictures, their own draws, and what a draw does to a whole batch alike.

    Attributes:
        pictures: variance between pictures of the value expected over draws.
        draws: mean variance of a picture's value over draws.
        shared: variance of the mean over one draw for every batch, beyond what independent pictures explain; an
            estimate, which falls below 0 where there is none.
        n: pictures.
        freedom: degrees of freedom that the variance over draws was estimated with.
        groups: of pictures that belong together, where there are any: `pictures` is then n times the variance of the
            mean over groups.
    """

    pictures: float
    draws: float
    shared: float
    n: int
    freedom: float
    groups: int | None = None

    def half_width(self, repeats: float) -> float:
        """Half the 95 % interval of the mean, had every picture this many draws."""
        own, units = self.draws / self.n / repeats, self.groups or self.n
        return half_width(self.pictures / self.n + own, own + self.shared / repeats, own, self.freedom, units)


def noise_of(
    values: NDArray[np.float64],
    rates: NDArray[np.float64],
    repeats: float,
    batches: Sequence[Batch],
    varied: NDArray[np.float64] | None = None,
    groups: NDArray[np.integer] | None = None,
) -> Noise:
    """Take the variance of a mean over pictures apart.

    With a single draw, the effect of a draw on a whole batch cannot be estimated, and is left out.

    Args:
        values: (N,) what is averaged: a picture's mean over draws, or its difference from the intact network's.
        rates: (N,) share of its draws in which a picture was right.
        repeats: draws a picture had (the harmonic mean where they differ).
        batches: the draws of each batch.
        varied: (N,) of scores that are not right or wrong, the variance of a picture's over draws.
        groups: (N,) equal for pictures that belong together; None: each is alone.
    """
    n, counted = len(values), varied is None
    if varied is not None:
        draws = float(np.mean(varied))
    else:  # of a share p seen in r draws, p(1 - p) r / (r - 1) is the unbiased variance of one draw
        draws = float(np.mean(rates * (1 - rates))) * repeats / (repeats - 1) if repeats > 1 else 0.0
    seen = _variance(values, counted=counted) if groups is None else grouped_variance(values, groups, counted=counted)
    between = seen - draws / repeats
    drawn = [b for b in batches if b.repeats > 1]
    # Batches have draws of their own, so their parts of the mean vary independently.
    parts = np.array([b.variance * (b.n / n) ** 2 for b in drawn])
    shared = float(parts.sum()) - draws * sum(b.n for b in drawn) / n**2
    # Welch and Satterthwaite; where no batch varies from draw to draw, as if all varied alike.
    weights = parts if parts.any() else np.array([(b.n / n) ** 2 for b in drawn])
    below = float(np.sum(weights**2 / [b.repeats - 1 for b in drawn]))
    freedom = float(weights.sum()) ** 2 / below if drawn else n
    return Noise(between, draws, shared, n, freedom, None if groups is None else len(np.unique(groups)))


def grouped_variance(values: NDArray[np.float64], groups: NDArray[np.integer], *, counted: bool = False) -> float:
    """N times the variance of a mean over n pictures of which those of a group may depend on each other in any way.

    Of groups of one picture it is the variance between pictures. A single group has none that could be known.

    Args:
        values: (N,).
        groups: (N,).
        counted: the values are of right and wrong pictures: where no group differs, the next one still could.
    """
    n, (_, index) = len(values), np.unique(groups, return_inverse=True)
    apart = np.bincount(index, values - values.mean())
    g = len(apart)
    seen = g / (g - 1) * float(apart @ apart) / n if g > 1 else math.nan
    return max(seen, n * Z**2 / g**2) if counted else seen


def _variance(values: NDArray[np.float64], *, counted: bool) -> float:
    """Between pictures. Of right and wrong ones: where none differs, the next one still could.

    The interval is then about as wide as that of a share of which none was seen.
    """
    n = len(values)
    seen = float(np.var(values, ddof=1)) if n > 1 else 0.0
    return max(seen, Z**2 / n) if counted else seen


@dataclass(frozen=True)
class Batch:
    """How many of a batch's pictures were right, for each draw.

    Attributes:
        n: pictures.
        totals: right ones, for each draw; of scores that are not right or wrong, their sum.
    """

    n: int
    totals: tuple[float, ...]

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
    varied: NDArray[np.float64] | None = None,
    groups: NDArray[np.integer] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean over pictures and draws with a 95 % interval over both.

    Args:
        values: (N,) see `noise_of`; None for an accuracy, whose values are the rates.
        rates: (N,) share of its draws in which a picture was right.
        repeats: (N,) draws each picture had.
        batches: the draws of each batch.
        varied: see `noise_of`.
        groups: see `noise_of`; of a single group nothing is known, and the interval is all that is possible.
        bounds: the least and the most; if not given, those of an accuracy or of a difference of two.
    """
    each = 1 / float(np.mean(1 / repeats))
    averaged = rates if values is None else values
    mean, noise = float(np.mean(averaged)), noise_of(averaged, rates, each, batches, varied, groups)
    least, most = bounds or (0.0 if values is None else -1.0, 1.0)
    half = noise.half_width(each) if noise.groups != 1 else math.inf
    names = (PICTURES, DRAWS) if groups is None else (GROUPS, GROUPS_AND_DRAWS)
    covers = names[any(b.repeats > 1 for b in batches)]
    ends = (max(mean - half, least), min(mean + half, most))
    return Estimate(mean, *ends, _spread(batches), len(rates), int(repeats.max()), covers)


def over_scores(scores: NDArray[np.float64], *, low: float = -1.0, high: float = 1.0) -> Estimate:
    """Mean over pictures of a score, with Student's t interval; a single picture has no interval (both ends the mean).

    Args:
        scores: (N,) one for each picture.
        low: the least a score can be.
        high: the most.
    """
    n, mean = len(scores), float(np.mean(scores))
    if n < 2:
        return Estimate(mean, mean, mean, 0.0, n, 1, PICTURES)
    spread = float(np.std(scores, ddof=1))
    half = student(n - 1) * spread / math.sqrt(n)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), spread, n, 1, PICTURES)


def _spread(batches: Sequence[Batch]) -> float:
    """Standard deviation over draws of the accuracy on all pictures that had the draw."""
    common = min((b.repeats for b in batches), default=0)
    if common < 2:
        return 0.0
    n = sum(b.n for b in batches)
    return float(np.std([sum(b.totals[r] for b in batches) / n for r in range(common)], ddof=1))


def over_networks(
    values: NDArray[np.float64], *, counted: bool, low: float = -1.0, high: float = 1.0, covers: str = SEEDS
) -> Estimate:
    """Mean over networks that are tested on the same pictures, the interval over both.

    Networks and pictures are drawn independently of each other and crossed (the two-way random model): the variance
    of the mean has a part of each, and one of what a picture is to a single network. A single network has an
    interval over pictures.

    Args:
        values: (S, N), of each network and picture; paired differences where two kinds of networks are compared.
        counted: whether the values are of right and wrong pictures, of which rare ones may not have been seen.
        low: the least a value can be.
        high: the most.
        covers: what the interval over networks and pictures is called.
    """
    s, n = values.shape
    each = values.mean(1)
    mean, half = float(each.mean()), crossed_half_width(values, counted=counted)
    ends = (max(mean - half, low), min(mean + half, high))
    if s < 2:
        return Estimate(mean, *ends, 0.0, n, 1, PICTURES)
    alone = over_seeds(each.tolist(), n, step=1 / n if counted else 0.0, low=low, high=high)
    return Estimate(mean, *ends, alone.spread, n, s, covers, (alone.low, alone.high))


def crossed_half_width(values: NDArray[np.float64], *, counted: bool = False) -> float:
    """Half the 95 % interval of the mean of values (S, N): S networks on the same N pictures, or groups of them."""
    s, n = values.shape
    each, of_pictures = values.mean(1), values.mean(0)
    pictures = _variance(of_pictures, counted=counted) / n
    if s < 2:
        return half_width(pictures, 0.0, 0.0, 1, n)
    rest = values - each[:, None] - of_pictures + values.mean()
    both = float(np.sum(rest**2)) / max(1, (s - 1) * (n - 1)) / (s * n)
    return half_width(pictures, float(np.var(each, ddof=1)) / s, both, s - 1, n)


def over_counts(
    values: Sequence[float],
    variances: Sequence[float],
    n: int,
    *,
    same: bool = False,
    low: float = -1.0,
    high: float = 1.0,
) -> Estimate:
    """Mean over networks of which it is only known how many pictures were right; the interval over both.

    What networks with pictures of their own differ by contains these, and is not taken for less than these alone
    explain. Where all have the same ones, the variance is taken as if all were right on the same, which is the most.

    Args:
        values: one for each network.
        variances: between the pictures of each.
        n: pictures of each.
        same: all networks have the same pictures.
        low: the least a value can be.
        high: the most.
    """
    s, mean = len(values), float(np.mean(values))
    pictures = n if same else s * n
    own = max(float(np.mean(variances)), Z**2 / pictures) / pictures
    spread = float(np.std(values, ddof=1)) if s > 1 else 0.0
    half = half_width(own, spread**2 / s, 0.0 if same else own, max(1, s - 1), pictures)
    ends = (max(mean - half, low), min(mean + half, high))
    return Estimate(mean, *ends, spread, n, s, SEEDS if s > 1 else PICTURES)


def over_seeds(values: Sequence[float], n: int, *, step: float = 0.0, low: float = -1.0, high: float = 1.0) -> Estimate:
    """Mean over at least two networks with Student's t interval, which holds for the very test pictures they have.

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
    return Estimate(mean, max(mean - half, low), min(mean + half, high), spread, n, len(values), SEEDS_ALONE)
