"""Average precision of detections, from what became of them in each picture, for any choice of pictures at once.

Sort the detections of a class by falling score. After each of them precision is the share of right ones so far, and
recall the share of objects found so far. Average precision is the mean, over recalls, of the highest precision at that
recall or a higher one: over 101 recalls as in COCO, over 11 as in Pascal VOC 2007, or the whole area under the curve as
in VOC from 2010 on. mAP is its mean over classes that have objects, and over thresholds of overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from whatwhere.training.matching import LEFT_OUT, RIGHT, WRONG

Floats: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]
Points: TypeAlias = Literal["101", "11", "all"]


def packed(counts: Whole, classes: Whole, scores: Floats, outcomes: Whole) -> Floats:
    """All that average precision needs of a picture, as one row of numbers.

    Args:
        counts: (K,) objects to find of each class.
        classes: (D,) of the detections.
        scores: (D,).
        outcomes: (D, T), of `matching.matched`.

    Returns:
        (K + 3 D,): the counts, then of each detection class, score and outcomes, in the bits of one number: bit t says
        right, bit T + t left out.
    """
    powers = 2 ** np.arange(outcomes.shape[1])
    bits = (outcomes == RIGHT) @ powers + ((outcomes == LEFT_OUT) @ powers) * 2 ** outcomes.shape[1]
    return np.concatenate([counts, np.stack([classes, scores, bits], 1).ravel()]).astype(np.float64)


@dataclass(frozen=True)
class _Detections:
    """The detections of a class in all pictures, by falling score."""

    pictures: Whole  # (D,)
    outcomes: Whole  # (D, T)


def mean_average_precision(
    evidence: Sequence[Floats], times: NDArray[np.integer], *, classes: int, thresholds: int, points: Points
) -> Floats:
    """The mean average precision of sets that hold each picture so many times.

    Args:
        evidence: of N pictures, by `packed`.
        times: (B, N) of B sets.
        classes: how many there are.
        thresholds: of overlap, how many there are.
        points: which recalls the mean is over.

    Returns:
        (B,) in [0, 1]; NaN of a set without objects.
    """
    objects = times.astype(np.float64) @ np.stack([e[:classes] for e in evidence])  # (B, K)
    weights = times.T.astype(np.float64)
    total = np.zeros(len(times))
    for label, of_class in enumerate(_by_class(evidence, classes, thresholds)):
        for t in range(thresholds if len(of_class.pictures) else 0):
            total += _area(of_class.pictures, of_class.outcomes[:, t], weights, objects[:, label], AREAS[points])
    there = (objects > 0).sum(1) * thresholds
    return np.divide(total, there, out=np.full(len(times), np.nan), where=there > 0)


def _by_class(evidence: Sequence[Floats], classes: int, thresholds: int) -> Iterator[_Detections]:
    rows = [e[classes:].reshape(-1, 3) for e in evidence]
    pictures = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    labels, scores, bits = np.concatenate(rows).T
    codes = bits.astype(np.int64)[:, None] >> np.arange(2 * thresholds) & 1
    outcomes = np.where(codes[:, :thresholds], RIGHT, np.where(codes[:, thresholds:], LEFT_OUT, WRONG))
    for label in range(classes):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(-scores[own], kind="stable")]
        yield _Detections(pictures[own], outcomes[own])


def _area(pictures: Whole, outcomes: Whole, weights: Floats, objects: Floats, area: Area) -> Floats:
    """(B,) average precision of one class at one threshold; 0 where it has no objects.

    Precision is highest right after a detection that is right, so that only these are looked at; the wrong ones between
    them are counted, picture by picture, by one sparse product for all sets.
    """
    right = np.flatnonzero(outcomes == RIGHT)
    if not len(right):
        return np.zeros(weights.shape[1])
    wrong = np.flatnonzero(outcomes == WRONG)
    before = np.searchsorted(right, wrong)  # the right one that comes next
    ones, shape = np.ones(len(wrong)), (len(right) + 1, len(weights))
    between = sparse.csr_array((ones, (before, pictures[wrong])), shape=shape)[: len(right)] @ weights
    hits, misses = weights[pictures[right]].cumsum(0), between.cumsum(0)  # (right, B)
    precision = hits / np.maximum(hits + misses, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hits / np.maximum(objects, 1)
    return np.where(objects > 0, area(highest, recall), 0.0)


Area: TypeAlias = Callable[[Floats, Floats], Floats]


def _over_recalls(recalls: Floats, highest: Floats, recall: Floats) -> Floats:
    reached = np.searchsorted(recalls, recall, side="right")
    return (highest * np.diff(reached, axis=0, prepend=0)).sum(0) / len(recalls)


def _whole_area(highest: Floats, recall: Floats) -> Floats:
    return (highest * np.diff(recall, axis=0, prepend=0)).sum(0)


AREAS: Mapping[Points, Area] = {
    "101": partial(_over_recalls, np.linspace(0, 1, 101)),
    "11": partial(_over_recalls, np.linspace(0, 1, 11)),
    "all": _whole_area,
}
