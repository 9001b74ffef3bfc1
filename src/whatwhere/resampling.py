"""Bootstrap intervals for grouped data, such as the pixels of a video segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whatwhere.errors import InputError
from whatwhere.intervals import LEVEL

AT_ONCE = 64  # draws


@dataclass(frozen=True)
class Resampled:
    """A statistic with an interval over groups.

    Attributes:
        value: of all groups.
        low: lower end of the 95 % interval.
        high: upper end.
        groups: it rests on.
        draws: in which the statistic was defined.
        undefined: draws in which it was not (NaN), left out.
    """

    value: float
    low: float
    high: float
    groups: int
    draws: int
    undefined: int = 0


def over_groups(
    counts: NDArray[Any], statistic: Callable[[NDArray[np.float64]], float], *, draws: int = 1000, seed: int = 0
) -> Resampled:
    """The cluster bootstrap: whole groups drawn with replacement, and the percentile interval of a statistic.

    >>> over_groups(counts, lambda total: total[0] / total[1])          # right pixels and pixels of each segment

    Within a group values may depend on each other in any way. The statistic sees sums over groups only, so that no draw
    looks at a pixel. Two methods on the same groups
    are compared by one statistic of both their counts. With fewer than some 20 groups the interval is too narrow.

    Args:
        counts: (G, ...) for each group what adds up over groups.
        statistic: of their sum (...), to a number; NaN where it is not defined.
        draws: how often groups are drawn.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: if there are fewer than two groups, or the statistic is not defined in any draw.
    """
    n = len(counts)
    if n < 2:
        raise InputError(f"counts: {n} groups have no spread; give at least two.")
    drawn = np.array([statistic(total) for total in _totals(counts, draws, seed)])
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        raise InputError(f"statistic: not defined in any of {draws} draws of {n} groups; give more groups or draws.")
    low, high = np.quantile(defined, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    value = statistic(counts.sum(0, dtype=np.float64))
    return Resampled(float(value), float(low), float(high), n, len(defined), draws - len(defined))


def _totals(counts: NDArray[Any], draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """The sum over the drawn groups, for each draw."""
    n = len(counts)
    rng, flat = np.random.default_rng(seed), counts.reshape(n, -1).astype(np.float64)
    times = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    for some in np.split(times, range(AT_ONCE, draws, AT_ONCE)):
        yield from (some @ flat).reshape(len(some), *counts.shape[1:])
