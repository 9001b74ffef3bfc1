"""Scores of class labels: the share of pictures whose label is the highest score, or among the five highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.scores.score import Evidence, Needs, Score, of_pictures
from whatwhere.training.scores import check_scores


@dataclass(frozen=True)
class TopK(Score):
    """The share of pictures whose label is among the k highest scores.

    Where a score is no number, the network recognises nothing. Of equal scores the first class comes first.

    Attributes:
        k: how many.
    """

    unit: Literal["%", ""] = "%"
    needs: Needs = "class labels"
    counted: bool = True
    low: float = 0.0
    high: float = 1.0
    k: int = 1

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Scores (N, classes) that are numbers, one for each label."""
        check_scores(outputs, targets)

    def evidence(self, outputs: Any, targets: Tensor, intact: Any) -> list[Evidence]:
        """1 or 0: scores (N, classes), labels (N,).

        Raises:
            InputError: for outputs that are no such scores, or fewer classes than k + 1.
        """
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or targets.max() >= outputs.shape[1]:
            check_scores(outputs, targets)  # says what is wrong
        if outputs.shape[1] <= self.k:
            raise InputError(
                f"score={self.name!r}: the network gives {outputs.shape[1]} scores, of which the highest {self.k} hold "
                "any label; give 'accuracy'."
            )
        return of_pictures(among_highest(outputs, targets, self.k), self.name)


ACCURACY = TopK("accuracy", "accuracy")
TOP5 = TopK("top5", "top-5 accuracy", k=5)


def among_highest(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) whether a label's score is among the k highest; where a score is no number, it is not."""
    if k == 1:
        return (scores.argmax(1) == labels) & ~scores.isnan().any(1)
    highest = scores.float().sort(dim=1, descending=True, stable=True).indices[:, :k]
    return (highest == labels[:, None]).any(1) & ~scores.isnan().any(1)
