"""Intervals of scores that are of a whole set, such as mIoU: groups of pictures are drawn again, with replacement."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from whatwhere.intervals import DRAWS, GROUPS, GROUPS_AND_DRAWS, PICTURES, Estimate, half_width

RESAMPLES = 500  # the standard error is then known to some 3 %


def times_drawn(groups: NDArray[np.integer], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """How often each picture is in each resample: as many groups as there are, drawn with replacement.

    >>> times_drawn(np.array([0, 0, 1]), resamples=2)     # (2, 3), such as [[2, 2, 0], [1, 1, 1]]

    Args:
        groups: (N,), equal for pictures that belong together; np.arange(N) where each is alone.
        resamples: how many.
        seed: of the draws; two networks on the same pictures are compared in the same resamples.

    Returns:
        (resamples, N).
    """
    names, index = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return drawn[:, index]


def over_resamples(
    values: NDArray[np.float64],
    resampled: NDArray[np.float64],
    groups: NDArray[np.integer] | None,
    n: int,
    bounds: tuple[float, float],
) -> Estimate:
    """The mean over draws of a score of a set, or of a difference of two, with a 95 % interval over both.

    The variance over groups is that of the mean over draws in the resamples. What draws add to it is known from their
    own variance. The part that is in both, since pictures differ from draw to draw, is (v - w) / (R - 1), v being the
    variance of one draw in the resamples and w that of the mean of R, and is counted once. Of a single group nothing is
    known, and the interval is all that is possible.

    Args:
        values: (R,) of each draw, of all pictures.
        resampled: (R, B) of each draw in each resample (`times_drawn`); NaN where it is not defined there.
        groups: (N,) that were drawn; None: each picture is alone.
        n: pictures.
        bounds: the least and the most.
    """
    r, g = len(values), n if groups is None else len(np.unique(groups))
    names = (PICTURES, DRAWS) if groups is None else (GROUPS, GROUPS_AND_DRAWS)
    mean, spread = float(values.mean()), float(np.std(values, ddof=1)) if r > 1 else 0.0
    half = math.inf
    if g > 1:
        # A resample of g groups varies (g - 1) / g as much as g other groups would.
        of_mean, of_one = (g / (g - 1) * _variance(x) for x in (resampled.mean(0)[None], resampled))
        both = max(0.0, (of_one - of_mean) / (r - 1)) if r > 1 else 0.0
        half = half_width(of_mean, spread**2 / r, both, max(1, r - 1), g)
    ends = (max(mean - half, bounds[0]), min(mean + half, bounds[1]))
    return Estimate(mean, *ends, spread, n, r, names[r > 1])


def _variance(resampled: NDArray[np.float64]) -> float:
    """Over resamples, the mean of those of the draws."""
    return float(np.nanvar(resampled, axis=1, ddof=1).mean())
