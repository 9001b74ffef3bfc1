"""The difference of two networks: picture by picture where both saw the same ones, else of two independent numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whatwhere.bootstrap import over_resamples, times_drawn
from whatwhere.intervals import (
    DRAWS,
    GROUPS,
    GROUPS_AND_DRAWS,
    PICTURES,
    Estimate,
    grouped_variance,
    half_width,
    noise_of,
    over_scores,
)
from whatwhere.need.studies.set_tally import Groups, SetTally
from whatwhere.need.studies.tally import AnyTally, Tally
from whatwhere.scores.score import Score

ITSELF = "nothing: it is the same network"
Rows = NDArray[np.integer]


@dataclass(frozen=True)
class Side:
    """What one network gave for the pictures that both saw.

    Attributes:
        values: (n,) of each picture, the mean over draws.
        own: variance of their mean that comes from each picture's own draws.
        over: variance as the means of draws show it: of the pictures' own draws, and what a draw does to all alike.
        freedom: degrees of freedom of both.
        drawn: whether any batch had more than one draw.
    """

    values: NDArray[np.float64]
    own: float = 0.0
    over: float = 0.0
    freedom: float = math.inf
    drawn: bool = False


def side_of(tally: Tally, rows: Rows, intact: Tally | None = None, direction: int = 1) -> Side:
    """A network's values on some of the pictures of a tally.

    What a draw does to whole batches is known of all the pictures of the tally, and taken from these.

    Args:
        tally: of a place.
        rows: (n,) which of its pictures.
        intact: of the intact network on the same pictures; given, the values are what was lost against it.
        direction: 1 if more is better, else -1.
    """
    rates = tally.rates
    values = rates if intact is None else direction * (intact.rates - rates)
    each = 1 / float(np.mean(1 / tally.repeats))
    whole = noise_of(values, rates, each, tally.batches, tally.varied)
    part = None if tally.varied is None else tally.varied[rows]
    own = noise_of(values[rows], rates[rows], each, (), part).draws / len(rows) / each
    many = any(b.repeats > 1 for b in tally.batches)
    return Side(values[rows], own, max(0.0, own + whole.shared / each), whole.freedom, many)


@dataclass(frozen=True)
class Pair:
    """Two networks on the same pictures.

    Attributes:
        first: of the network that is compared with, on these pictures.
        second: of the other.
        difference: second minus first.
    """

    first: Estimate
    second: Estimate
    difference: Estimate


def paired(
    first: Side, second: Side, bounds: tuple[float, float], *, counted: bool = False, groups: Groups = None
) -> Pair:
    """Second minus first on the same pictures, with a 95 % interval over pictures and the draws of both.

    The draws of two networks are taken as independent: where they had the same ones, the interval is too wide rather
    than too narrow.

    Args:
        first: of the network that is compared with.
        second: of the other one, the same pictures in the same order.
        bounds: the least and the most that either can be.
        counted: of right and wrong pictures: where none differs, the next one still could.
        groups: (n,) equal for pictures that belong together; None: each is alone.
    """
    apart = Side(
        second.values - first.values,
        first.own + second.own,
        first.over + second.over,
        _freedom((first, second)),
        first.drawn or second.drawn,
    )
    each = [(first, bounds), (second, bounds), (apart, _apart(bounds))]
    return Pair(*(_over(side, ends, counted, groups) for side, ends in each))


def _apart(bounds: tuple[float, float]) -> tuple[float, float]:
    """The least and the most of a difference of two that have these."""
    widest = bounds[1] - bounds[0]
    return -widest, widest


def _over(side: Side, bounds: tuple[float, float], counted: bool, groups: Groups) -> Estimate:
    """The mean over pictures and draws, as `over_pictures` has it of a whole tally."""
    n, mean = len(side.values), float(np.mean(side.values))
    alone = np.arange(n) if groups is None else groups
    g, half = len(np.unique(alone)), math.inf
    if g > 1:
        pictures = grouped_variance(side.values, alone, counted=counted) / n
        half = half_width(pictures, side.over, side.own, side.freedom, g)
    names = (PICTURES, DRAWS) if groups is None else (GROUPS, GROUPS_AND_DRAWS)
    ends = (max(mean - half, bounds[0]), min(mean + half, bounds[1]))
    return Estimate(mean, *ends, 0.0, n, 1, names[side.drawn])


def _freedom(sides: Sequence[Side]) -> float:
    """Of the sum of two variances (Welch and Satterthwaite)."""
    parts = [(s.over, s.freedom) for s in sides]
    below = sum(v**2 / f for v, f in parts if v)
    return sum(v for v, _ in parts) ** 2 / below if below else max(1.0, min(f for _, f in parts))


def paired_sets(
    first: Sequence[AnyTally], second: Sequence[AnyTally], rows: tuple[Rows, Rows], score: Score, groups: Groups = None
) -> Pair:
    """The same of a score of whole sets, such as mIoU: both are taken of the same resamples of the pictures.

    Args:
        first: the tally of a place of the first network, and of the intact one, if a loss is compared.
        second: likewise.
        rows: which pictures of either, the same in the same order.
        score: of them.
        groups: see `paired`.
    """
    times = times_drawn(np.arange(len(rows[0])) if groups is None else groups)
    (a, again), (b, anew) = (_sets(t, r, score, times) for t, r in zip((first, second), rows, strict=True))
    r, n = min(len(a), len(b)), len(rows[0])
    bounds = score.losses if len(first) > 1 else (score.low, score.high)
    each = [(a, again, bounds), (b, anew, bounds), (b[:r] - a[:r], anew[:r] - again[:r], _apart(bounds))]
    return Pair(*(over_resamples(values, resampled, groups, n, ends) for values, resampled, ends in each))


def paired_scores(first: NDArray[np.float64], second: NDArray[np.float64]) -> Pair:
    """The same of one number for each picture in [-1, 1], with Student's t intervals.

    Args:
        first: (n,).
        second: (n,), of the same pictures in the same order.
    """
    return Pair(over_scores(first), over_scores(second), over_scores(second - first, low=-2.0, high=2.0))


def _sets(
    tallies: Sequence[AnyTally], rows: Rows, score: Score, times: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R,) of all pictures and (R, B) of the resamples: the score, or what was lost of it."""
    found = []
    for tally in tallies:
        assert isinstance(tally, SetTally)
        draws = [[draw[i] for i in rows] for draw in tally.evidence]
        values = np.array([score.value(draw) for draw in draws])
        found.append((values, np.stack([score.resampled(draw, times) for draw in draws])))
    if len(found) == 1:
        return found[0]
    (place, each), (intact, of_intact) = found
    return score.direction * (intact - place), score.direction * (of_intact - each)


def unpaired(first: Estimate, second: Estimate) -> Estimate:
    """Second minus first of two independent numbers, from their own intervals (Newcombe 1998; Zou and Donner 2008).

    Its variance is the sum of both; where the pictures are partly the same after all, that is too much rather than too
    little.
    """
    mean = second.mean - first.mean
    low = mean - math.hypot(second.mean - second.low, first.high - first.mean)
    high = mean + math.hypot(second.high - second.mean, first.mean - first.low)
    covers = first.covers if first.covers == second.covers else f"{first.covers}; {second.covers}"
    return Estimate(mean, low, high, 0.0, min(first.n, second.n), 1, covers)


def of_itself(difference: Estimate) -> Estimate:
    """Of a network against itself: there is nothing else that could have been drawn."""
    exact = difference.mean == 0
    return replace(difference, low=0.0, high=0.0, covers=ITSELF) if exact else difference
