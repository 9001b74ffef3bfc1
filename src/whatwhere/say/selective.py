"""Selective prediction: answer only where confidence is high, and measure how often that is right.

All measures rest on `Levels`, pixels counted by confidence: sorted once for all of them, added up over batches, or kept
apart for video segments and drawn by a bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whatwhere.errors import InputError
from whatwhere.say.checked import whole, within

MOST_BITS = 24


@dataclass(frozen=True)
class Levels:
    """Pixels counted by confidence. Pixels of the same confidence are ties and always go together.

    Two can be added (`a + b`): a stream's batches, or video segments.

    Attributes:
        confidence: (L,) descending, each once.
        pixels: (L,) how many have it, at least one.
        correct: (L,) how many of them are right.
    """

    confidence: NDArray[np.float64]
    pixels: NDArray[np.int64]
    correct: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse levels without a pixel, of which nothing can be said.

        Raises:
            InputError: if there are none.
        """
        if not len(self.confidence):
            raise InputError("levels: there is no pixel; give at least one with a label.")

    def __add__(self, other: Levels) -> Levels:
        """The pixels of both."""
        values, counts = aligned([self, other])
        return of_counts(values, counts.sum(0))

    @property
    def accuracy(self) -> float:
        """Of all pixels."""
        return float(self.correct.sum() / self.pixels.sum())


def levels(confidence: ArrayLike, correct: ArrayLike, bits: int | None = None) -> Levels:
    """Count pixels by confidence.

    >>> seen = levels(max_softmax(logits), predicted == labels)                # exact: sorts all pixels
    >>> seen = reduce(add, (levels(c, r, bits=16) for c, r in batches))    # a stream: at most 65 537 levels

    With `bits`, a confidence is rounded down to a multiple of 2^-bits. Coverage and risk stay exact at these multiples,
    so a threshold found means the same pixels before and after rounding. The AUROC moves by at most half the share of
    (right, wrong) pairs that fall on one level, the Brier score by 2^(1-bits), the calibration error by 2^-bits and by
    the pixels so close above a bin's edge that they fall out of it. Softmax crowds towards 1: give it 20 bits.

    Args:
        confidence: any shape, one for each pixel.
        correct: the same shape, whether it is predicted right.
        bits: round to 2^-bits; None: exact.

    Raises:
        InputError: without pixels, if shapes differ, a confidence is not finite or `correct` is not true or false, or
            for too many bits.
    """
    c, right = np.asarray(confidence).ravel(), _true_or_false(correct)
    if c.shape != right.shape or not c.size:
        raise InputError(f"confidence has {c.size} pixels, correct {right.size}; give as many of both, at least one.")
    if not np.isfinite(c).all():
        raise InputError("confidence holds values that are not finite.")
    if bits is None:
        return _sorted(c, right)
    if not isinstance(bits, int) or not 1 <= bits <= MOST_BITS or c.min() < 0 or c.max() > 1:
        raise InputError(
            f"bits={bits}: give 1 to {MOST_BITS}, and confidences from 0 to 1 (seen {c.min()} to {c.max()})."
        )
    at = np.floor(c * np.float64(2**bits)).astype(np.int64)
    counts = np.stack([np.bincount(at, minlength=2**bits + 1), np.bincount(at[right], minlength=2**bits + 1)], 1)
    return of_counts(np.arange(2**bits, -1, -1) / 2**bits, counts[::-1])


def _true_or_false(correct: ArrayLike) -> NDArray[np.bool_]:
    right = np.asarray(correct).ravel()
    if right.dtype != bool and not (right.dtype.kind in "iuf" and np.isin(right, (0, 1)).all()):
        raise InputError(f"correct holds {right.dtype} values other than true and false; give whether each is right.")
    return right.astype(bool)


def _sorted(c: NDArray[np.floating], right: NDArray[np.bool_]) -> Levels:
    values, pixels = np.unique(c, return_counts=True)
    correct = np.diff(np.searchsorted(np.sort(c[right]), values, side="right"), prepend=0)  # half the time of argsort
    return Levels(values[::-1].astype(np.float64), pixels[::-1], correct[::-1])


def aligned(parts: Sequence[Levels]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Counts of each part on the levels of all, for a bootstrap over parts.

    Returns:
        The levels (L,), descending, and (parts, L, 2): pixels and right pixels.

    Raises:
        InputError: without a part.
    """
    if not parts:
        raise InputError("parts is empty; give the levels of at least one part.")
    values = np.unique(np.concatenate([p.confidence for p in parts]))[::-1]
    counts = np.zeros((len(parts), len(values), 2), np.int64)
    for row, p in zip(counts, parts, strict=True):
        row[np.searchsorted(-values, -p.confidence)] = np.stack([p.pixels, p.correct], 1)
    return values, counts


def of_counts(values: NDArray[np.float64], counts: NDArray[np.integer]) -> Levels:
    """Levels of what `aligned` gives, or of a sum over parts: values (L,), descending, and counts (L, 2)."""
    held = counts[:, 0] > 0
    return Levels(values[held], counts[held, 0].astype(np.int64), counts[held, 1].astype(np.int64))


@dataclass(frozen=True)
class RiskCoverage:
    """What is answered and how often it is wrong, for every threshold.

    Attributes:
        threshold: (L,) descending; pixels of at least this confidence are answered.
        coverage: (L,) their share.
        risk: (L,) the share of them that is wrong.
    """

    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]


def risk_coverage(seen: Levels) -> RiskCoverage:
    """The exact curve; ties enter together."""
    answered = np.cumsum(seen.pixels)
    return RiskCoverage(seen.confidence, answered / answered[-1], 1 - np.cumsum(seen.correct) / answered)


def aurc(seen: Levels) -> float:
    """Area under the risk-coverage curve: the mean over pixels of the risk at the threshold where they enter."""
    return float(np.sum(risk_coverage(seen).risk * seen.pixels) / seen.pixels.sum())


def auroc(seen: Levels) -> float:
    """The chance that a right pixel is surer than a wrong one, ties counting half; NaN without both kinds."""
    wrong = (seen.pixels - seen.correct).astype(np.float64)
    pairs = float(seen.correct.sum()) * wrong.sum()
    below = wrong.sum() - np.cumsum(wrong)
    return float(np.sum(seen.correct * (below + wrong / 2)) / pairs) if pairs else math.nan


def brier(seen: Levels) -> float:
    """Mean squared difference of confidence, as a probability, and correctness.

    Raises:
        InputError: if a confidence is not a probability.
    """
    c = _probability(seen)
    return float(np.sum(seen.pixels * c**2 - 2 * c * seen.correct + seen.correct) / seen.pixels.sum())


def calibration_error(seen: Levels, bins: int = 15, *, equal_mass: bool = False) -> float:
    """Expected calibration error (ECE): the mean over pixels of |accuracy - mean confidence| of their bin.

    Args:
        seen: pixels counted by confidence.
        bins: how many.
        equal_mass: bins of as many pixels each, as far as ties allow, which are never split; otherwise of equal width,
            each with its upper edge, as is the custom.

    Raises:
        InputError: if a confidence is not a probability, or there is no bin.
    """
    whole("bins", bins, 1)
    c, n = _probability(seen), seen.pixels.sum()
    middle = (np.cumsum(seen.pixels) - seen.pixels / 2) / n
    at = np.floor(middle * bins) if equal_mass else np.ceil(c * bins) - 1
    gap = np.bincount(at.clip(0, bins - 1).astype(np.int64), seen.correct - c * seen.pixels)
    return float(np.abs(gap).sum() / n)


def _probability(seen: Levels) -> NDArray[np.float64]:
    if seen.confidence[-1] < 0 or seen.confidence[0] > 1:
        raise InputError(
            f"confidence reaches from {seen.confidence[-1]} to {seen.confidence[0]}; give probabilities, from 0 to 1."
        )
    return seen.confidence


@dataclass(frozen=True)
class Selected:
    """What is answered at a threshold.

    Attributes:
        threshold: of confidence, itself included.
        coverage: the share of pixels answered.
        accuracy: of these; NaN if there are none.
        pixels: how many are answered.
    """

    threshold: float
    coverage: float
    accuracy: float
    pixels: int


def threshold_for(accuracy: float, seen: Levels) -> float:
    """The lowest threshold at which the pixels answered are right this often; infinite where there is none.

    Args:
        accuracy: asked for, e.g. 0.99.
        seen: validation pixels. On the pixels it was chosen on a threshold looks better than it is.

    Raises:
        InputError: if the accuracy is not a share above 0.
    """
    within("accuracy", accuracy, 0, 1, open_low=True)
    answered, right = np.cumsum(seen.pixels), np.cumsum(seen.correct)
    reached = np.flatnonzero(right >= accuracy * answered * (1 - 1e-12))  # rounding of the product
    return float(seen.confidence[reached[-1]]) if reached.size else math.inf


def at_threshold(threshold: float, seen: Levels) -> Selected:
    """Coverage and accuracy on test pixels, at a threshold found on others.

    Raises:
        InputError: for a threshold that is not a number.
    """
    if math.isnan(threshold):
        raise InputError("threshold=nan: give a number; infinity answers nothing.")
    held = seen.confidence >= threshold
    pixels, right = int(seen.pixels[held].sum()), int(seen.correct[held].sum())
    return Selected(threshold, pixels / int(seen.pixels.sum()), right / pixels if pixels else math.nan, pixels)
