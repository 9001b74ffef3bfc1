"""The score of label maps: the mean intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.scores.score import Evidence, Needs, Score
from whatwhere.training.evaluate_scenes import confusion
from whatwhere.training.objectives import at_size, check_maps, score_maps


@dataclass(frozen=True)
class MeanIoU(Score):
    """The mean intersection over union of the classes that occur in the labels, pooled over all pictures.

    Evidence of a picture is (3 · classes,): of each class the pixels that are right, that are labelled so, and that are
    said to be so. The network's scores are brought to the labels' resolution (bilinear); 255 is unlabelled. Where a
    score is no number, its class is said, as `argmax` has it.

    Attributes:
        classes: how many there are.
    """

    unit: Literal["%", ""] = "%"
    needs: Needs = "label maps"
    per_picture: bool = False
    low: float = 0.0
    high: float = 1.0
    classes: int = 0

    def evidence(self, outputs: Any, targets: Tensor, intact: Any) -> list[Evidence]:
        """Pixels (3 · classes,) of each picture: any usual form of scores (N, classes, h, w), labels (N, H, W).

        Raises:
            InputError: for outputs without scores of pixels, a label without a score, or a said class that is none.
        """
        scores, _ = score_maps(outputs)
        check_maps(scores, targets)
        said = at_size(scores, targets).argmax(1).cpu()
        pairs = zip(said, targets.cpu(), strict=True)
        return [_counts(confusion(s, t, self.classes)) for s, t in pairs]

    def value(self, evidence: Sequence[Evidence]) -> float:
        """Over the classes that occur in the labels of these pictures; NaN if none does."""
        return float(self._of(np.sum(evidence, axis=0)[None])[0])

    def resampled(self, evidence: Sequence[Evidence], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Of sums of pixels."""
        return self._of(times.astype(np.float64) @ np.stack(evidence))

    def _of(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        right, there, said = pooled.reshape(-1, 3, self.classes).swapaxes(0, 1)
        occurs = there > 0
        iou = np.where(occurs, right / np.maximum(there + said - right, 1), 0.0)
        return iou.sum(1) / np.where(occurs.any(1), occurs.sum(1), np.nan)


def _counts(confusions: Tensor) -> Evidence:
    parts = (confusions.diagonal(), confusions.sum(1), confusions.sum(0))
    return torch.cat(parts).numpy().astype(np.float64)


def miou(classes: int) -> MeanIoU:
    """The mean intersection over union of so many classes."""
    return MeanIoU("miou", "mIoU", classes=classes)
