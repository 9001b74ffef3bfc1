"""Several arrays of any shapes as one array of numbers, and back: evidence that is more than a row of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whatwhere.scores.score import Evidence


def joined(arrays: Sequence[ArrayLike]) -> Evidence:
    """One array: how many there are, then of each its number of axes, its shape and its values.

    >>> joined([[[1, 2]], 5.0])                          # 2 arrays: (1, 2) with 1, 2; () with 5
    array([2., 2., 1., 2., 1., 2., 0., 5.])
    """
    parts: list[NDArray[np.float64]] = [np.array([float(len(arrays))])]
    for array in (np.asarray(a, dtype=np.float64) for a in arrays):
        parts += [np.array([array.ndim, *array.shape], dtype=np.float64), array.ravel()]
    return np.concatenate(parts)


def apart(evidence: Evidence) -> list[NDArray[np.float64]]:
    """The arrays that were joined."""
    found, at = [], 1
    for _ in range(int(evidence[0])):
        axes = int(evidence[at])
        shape = tuple(evidence[at + 1 : at + 1 + axes].astype(int))
        at += 1 + axes
        size = int(np.prod(shape))
        found.append(evidence[at : at + size].reshape(shape))
        at += size
    return found
