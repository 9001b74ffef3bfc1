"""Scores of numbers: how well a network predicts an age, an angle, a distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.scores.against_intact import main_tensor
from whatwhere.scores.score import Evidence, Needs, Score, of_pictures


@dataclass(frozen=True)
class AbsoluteError(Score):
    """The mean absolute difference from the right number, in its own unit; of several numbers, their mean."""

    higher_is_better: bool = False
    needs: Needs = "numbers"
    low: float = 0.0

    def evidence(self, outputs: Any, targets: Tensor, intact: Any) -> list[Evidence]:
        """Of predictions (N, K) or (N,), numbers (N, K)."""
        return of_pictures((predictions(outputs, targets) - targets).abs().mean(1), self.name)


@dataclass(frozen=True)
class Determination(Score):
    """The share of the numbers' variance that is predicted, 1 - Σ (y - ŷ)² / Σ (y - ȳ)²; of several numbers, the mean.

    Evidence of a picture is (3 · K,): of each number its squared error, itself and its square. Where all numbers are
    the same there is no variance, and no score.
    """

    needs: Needs = "numbers"
    per_picture: bool = False
    high: float = 1.0

    def evidence(self, outputs: Any, targets: Tensor, intact: Any) -> list[Evidence]:
        """Of predictions (N, K) or (N,), numbers (N, K)."""
        errors = (predictions(outputs, targets).double() - targets.double()).cpu().numpy() ** 2
        wanted = targets.double().cpu().numpy()
        return list(np.concatenate([errors, wanted, wanted**2], axis=1))

    def value(self, evidence: Sequence[Evidence]) -> float:
        """Of these pictures; NaN where their numbers are all the same."""
        return float(self.resampled(evidence, np.ones((1, len(evidence)), int))[0])

    def resampled(self, evidence: Sequence[Evidence], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Of weighted sums."""
        errors, numbers, squares = np.split(np.stack(evidence), 3, axis=1)
        middle = numbers.mean(0)  # of all, so that squares of large numbers do not cancel
        squares = squares - 2 * middle * numbers + middle**2
        error, first, second = (times.astype(np.float64) @ x for x in (errors, numbers - middle, squares))
        spread = second - first**2 / times.sum(1, keepdims=True)
        known = spread > 1e-12 * np.maximum(second, 1e-300)
        return np.where(known, 1 - error / np.where(known, spread, 1), np.nan).mean(1)


MAE = AbsoluteError("mae", "mean absolute error")
R2 = Determination("r2", "R²")


def predictions(outputs: Any, targets: Tensor) -> Tensor:
    """(N, K) what a network predicts.

    Raises:
        InputError: if it gives another number of values.
    """
    given = main_tensor(outputs).float()
    found = given.flatten(1) if given.ndim > 1 else given[:, None]
    if found.shape != targets.shape:
        raise InputError(
            f"the network gives values of shape {tuple(given.shape)}, and each picture comes with {targets.shape[1]} "
            "numbers; give a network with as many outputs."
        )
    return found
