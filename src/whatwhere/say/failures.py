"""Failures: which concepts differ between the right and the wrong pixels of every pair of true and said class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError


def nearby(maps: Tensor, cells: int = 1) -> Tensor:
    """The highest activation within so many cells of each place, (N, K, h, w) to the same.

    What follows a bottleneck sees surroundings: a pixel is said to be a taxi for the sign on the roof above it.
    """
    return functional.max_pool2d(maps, 2 * cells + 1, 1, cells)


@dataclass(frozen=True)
class Failure:
    """One way of being wrong.

    Attributes:
        true: class that was there.
        said: class that was said instead.
        pixels: how many.
        share: of the pixels of the true class.
        reasons: concepts in which these pixels differ from the pixels of the true class that were right, the largest
            difference first.
    """

    true: int
    said: int
    pixels: int
    share: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Reason:
    """How one concept differs between wrong and right pixels of a class.

    Attributes:
        concept: its number.
        wrong: its mean activation where the said class was wrong.
        right: where it was right.
        effect: the difference in standard deviations of the activation among both (Cohen's d).
        there: the labels' share of its presence where wrong; NaN if unlabelled.
    """

    concept: int
    wrong: float
    right: float
    effect: float
    there: float


class FailureCounts:
    """Sums over pixels, by true class, said class and concept; batches are added one by one.

    Args:
        classes: of the task.
        concepts: K.
    """

    def __init__(self, classes: int, concepts: int) -> None:
        self.classes, self.concepts = classes, concepts
        self.pixels = torch.zeros(classes**2, dtype=torch.int64)
        # sum, sum of squares, labelled, present: of each pair and concept
        self.sums = torch.zeros(4, classes**2, concepts, dtype=torch.float64)

    def update(self, maps: Tensor, said: Tensor, labels: Tensor, targets: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            maps: (N, K, h, w) concept activations.
            said: (N, h, w) predicted classes.
            labels: (N, h, w) true classes; others than 0..classes - 1 are unlabelled.
            targets: (N, K, h, w) concept labels: 1, 0, -1 unlabelled.

        Raises:
            InputError: if shapes do not fit.
        """
        if maps.shape[1] != self.concepts or said.shape != labels.shape or maps.shape[2:] != said.shape[1:]:
            raise InputError(
                f"maps {tuple(maps.shape)}, said {tuple(said.shape)}, labels {tuple(labels.shape)}: give (N, "
                f"{self.concepts}, h, w) and (N, h, w) twice."
            )
        labelled = (labels >= 0) & (labels < self.classes)
        pair = labels[labelled].long() * self.classes + said[labelled].long()
        self.pixels += torch.bincount(pair, minlength=self.classes**2)
        x = maps.movedim(1, -1)[labelled].double()
        given = torch.full_like(x, -1) if targets is None else targets.movedim(1, -1)[labelled].double()
        for kept, part in zip(self.sums, (x, x.square(), (given >= 0).double(), (given > 0).double()), strict=True):
            kept.index_add_(0, pair, part)

    def ranked(self, least: int = 50) -> list[Failure]:
        """The ways of being wrong, the one that takes the largest share of its class first.

        Args:
            least: pixels that a pair must have, and the class right pixels to compare with.
        """
        counts = self.pixels.view(self.classes, self.classes)
        found = [
            self._failure(i, j, counts)
            for i in range(self.classes)
            for j in range(self.classes)
            if i != j and counts[i, j] >= least and counts[i, i] >= least
        ]
        return sorted(found, key=lambda f: -f.share)

    def _failure(self, i: int, j: int, counts: Tensor) -> Failure:
        wrong, right = i * self.classes + j, i * (self.classes + 1)
        n = self.pixels[[wrong, right]].double()[:, None]
        total, squares, labelled, present = (s[[wrong, right]] for s in self.sums)
        mean = total / n
        variance = (squares / n - mean.square()).clamp_min(0)
        spread = (variance.mul(n).sum(0) / n.sum()).sqrt().clamp_min(1e-6)
        effect = (mean[0] - mean[1]) / spread
        there = present[0] / labelled[0].where(labelled[0] > 0, torch.nan)
        order: Sequence[int] = effect.abs().argsort(descending=True).tolist()
        reasons = tuple(
            Reason(k, float(mean[0, k]), float(mean[1, k]), float(effect[k]), float(there[k])) for k in order
        )
        return Failure(i, j, int(counts[i, j]), float(counts[i, j] / counts[i].sum()), reasons)
