"""Failures: which concepts differ between the right and the wrong pixels of every pair of true and said class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.say.checked import finite, whole


def nearby(maps: Tensor, cells: int = 1) -> Tensor:
    """The highest activation within so many cells of each place, (N, K, h, w) to the same.

    What follows a bottleneck sees surroundings: a pixel is said to be a taxi for the sign on the roof above it.

    Raises:
        InputError: for a number of cells below 0.
    """
    whole("cells", cells, 0)
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

    Raises:
        InputError: for none of either.
    """

    def __init__(self, classes: int, concepts: int) -> None:
        self.classes, self.concepts = whole("classes", classes, 1), whole("concepts", concepts, 1)
        self.pixels = torch.zeros(classes**2, dtype=torch.int64)
        # Squares are summed from near the mean: far from it, their difference would be nothing but rounding.
        self.near: Tensor | None = None
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
            InputError: if shapes do not fit, an activation is not finite, or a class is said that there is not.
        """
        self._check(maps, said, labels, targets)
        labelled = (labels >= 0) & (labels < self.classes)
        pair = labels[labelled].long() * self.classes + said[labelled].long()
        self.pixels += torch.bincount(pair, minlength=self.classes**2)
        x = maps.movedim(1, -1)[labelled].double()
        if self.near is None and len(x):
            self.near = x.mean(0)
        x = x if self.near is None else x - self.near
        given = torch.full_like(x, -1) if targets is None else targets.movedim(1, -1)[labelled].double()
        for kept, part in zip(self.sums, (x, x.square(), (given >= 0).double(), (given > 0).double()), strict=True):
            kept.index_add_(0, pair, part)

    def _check(self, maps: Tensor, said: Tensor, labels: Tensor, targets: Tensor | None) -> None:
        if maps.shape[1] != self.concepts or said.shape != labels.shape or maps.shape[2:] != said.shape[1:]:
            raise InputError(
                f"maps {tuple(maps.shape)}, said {tuple(said.shape)}, labels {tuple(labels.shape)}: give (N, "
                f"{self.concepts}, h, w) and (N, h, w) twice."
            )
        if targets is not None and targets.shape != maps.shape:
            raise InputError(f"targets {tuple(targets.shape)}: give the shape of the maps, {tuple(maps.shape)}.")
        finite(maps=maps)
        if said.numel() and not 0 <= int(said.min()) <= int(said.max()) < self.classes:
            raise InputError(f"said: {int(said.min())} to {int(said.max())}; classes={self.classes} end below it.")

    def ranked(self, least: int = 50) -> list[Failure]:
        """The ways of being wrong, the one that takes the largest share of its class first.

        Args:
            least: pixels that a pair must have, and the class right pixels to compare with.

        Raises:
            InputError: for a number below 1.
        """
        whole("least", least, 1)
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
        effect = _effect(mean, (variance * n).sum(0) / n.sum())
        mean = mean if self.near is None else mean + self.near
        there = present[0] / labelled[0].where(labelled[0] > 0, torch.nan)
        order: Sequence[int] = effect.abs().argsort(descending=True).tolist()
        reasons = tuple(
            Reason(k, float(mean[0, k]), float(mean[1, k]), float(effect[k]), float(there[k])) for k in order
        )
        return Failure(i, j, int(counts[i, j]), float(counts[i, j] / counts[i].sum()), reasons)


def _effect(mean: Tensor, variance: Tensor) -> Tensor:
    """Cohen's d of wrong and right pixels, (2, K) and (K,) to (K,).

    Where neither varies, the spread is taken as a millionth of their difference: they differ as much as can be.
    """
    apart = mean[0] - mean[1]
    spread = torch.maximum(variance.sqrt(), 1e-6 * apart.abs())
    return torch.where(apart != 0, apart / spread.where(spread > 0, 1.0), 0.0)
