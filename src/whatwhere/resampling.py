"""Intervals for grouped data, such as the pixels of a video segment, by leaving groups out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whatwhere.errors import InputError
from whatwhere.intervals import GROUPS, Z, binomial, crossed_half_width, student

SEEDS_AND_GROUPS = "seeds and groups of test pictures"
Statistic = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class Resampled:
    """A statistic with an interval over groups.

    Attributes:
        value: of all groups.
        low: lower end of the 95 % interval.
        high: upper end.
        groups: it rests on.
        undefined: groups without which the statistic is not defined; where there are any, nothing is known of it, and
            the interval is all that is possible.
        covers: what else could have been drawn: groups, or groups and networks.
    """

    value: float
    low: float
    high: float
    groups: int
    undefined: int = 0
    covers: str = GROUPS


def over_groups(
    counts: NDArray[Any], statistic: Statistic, *, low: float = -1.0, high: float = 1.0, networks: bool = False
) -> Resampled:
    """The interval of a statistic by the jackknife: whole groups are left out, one at a time.

    >>> over_groups(counts, lambda total: total[0] / total[1])          # right pixels and pixels of each segment

    Within a group values may depend on each other in any way. The statistic sees sums over groups only, so that
    nothing looks at a pixel. Two methods on the same groups are compared by one statistic of both their counts.

    Tukey's pseudo-values have Student's t interval. A ratio of few groups is biased as well, and the jackknife says by
    how much: the interval reaches from the lower end of the one around the value or around the corrected value, to the
    upper end of either. A quantity that rests on a few of the groups only, such as a rare class, is covered less.

    Args:
        counts: (G, ...) for each group what adds up over groups.
        statistic: of their sum (...), to a number; NaN where it is not defined.
        low: the least the statistic can be.
        high: the most.
        networks: the counts are (S, G, ...), of several networks on the same groups. The value is that of their mean
            counts, and the interval allows for other networks as well.

    Raises:
        InputError: if there are fewer than two groups, or the statistic is not defined.
    """
    each = (counts if networks else counts[None]).astype(np.float64)
    s, n = each.shape[:2]
    if n < 2:
        raise InputError(f"counts: {n} groups have no spread; give at least two.")
    value, without = _left_out(each.mean(0), statistic)
    if math.isnan(value):
        raise InputError(f"statistic: not defined for these {n} groups; give others or more.")
    found = [(value, without)] if s < 2 else [_left_out(e, statistic) for e in each]
    pseudo = np.array([n * v - (n - 1) * w for v, w in found])
    covers = SEEDS_AND_GROUPS if s > 1 else GROUPS
    if missing := int(np.isnan([without, *pseudo]).any(0).sum()):
        return Resampled(value, low, high, n, missing, covers)
    half, bias = crossed_half_width(pseudo), (n - 1) * float(without.mean() - value)
    ends = (value - max(0.0, bias) - half, value - min(0.0, bias) + half)
    return Resampled(value, max(low, ends[0]), min(high, ends[1]), n, 0, covers)


def share_over_groups(some: NDArray[np.integer], of: NDArray[np.integer]) -> tuple[float, float]:
    """The 95 % interval of a share of pixels over groups, which near 0 or 1 is not symmetric.

    As many independent pixels as would have the jackknife's variance have the exact interval of a share, fewer of them
    for the few groups that the variance is known from [Korn and Graubard 1998]. Where the share is 0 or 1 in every
    group, the next group may differ: then the groups are counted.

    Args:
        some: (G,) pixels of each group that are meant.
        of: (G,) out of how many, at least one.
    """
    n, share = len(of), float(some.sum() / of.sum())
    if share in (0.0, 1.0):
        return binomial(share * n, n)
    if n < 2:
        return 0.0, 1.0
    without = (some.sum() - some) / (of.sum() - of)
    variance = (n - 1) / n * float(np.sum((without - without.mean()) ** 2))
    most = float(of.sum())
    alike = min(most, share * (1 - share) / variance * (Z / student(n - 1)) ** 2) if variance else most
    return binomial(share * alike, alike)


def _left_out(counts: NDArray[np.float64], statistic: Statistic) -> tuple[float, NDArray[np.float64]]:
    """The statistic of all groups, and without each in turn."""
    total = counts.sum(0)
    return float(statistic(total)), np.array([statistic(total - c) for c in counts])
