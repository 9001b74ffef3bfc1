"""Scores of boxes: mean average precision, and how well the classes that are there are told from those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from whatwhere.scores.score import Evidence, Needs, Score
from whatwhere.training.evaluate_boxes import COCO, PRESENCE, VOC, VOC2007, Measure, detections_in


@dataclass(frozen=True)
class MeanAP(Score):
    """A mean average precision of a detector's boxes, over the classes that have objects in the set.

    Evidence of a picture are its objects of each class, and of each detection class, score and what became of it; so a
    resample costs no more matching.

    Attributes:
        measure: whose rules, which overlaps and which recalls.
        classes: how many there are.
    """

    unit: Literal["%", ""] = "%"
    needs: Needs = "boxes"
    per_picture: bool = False
    low: float = 0.0
    high: float = 1.0
    measure: Measure = COCO
    classes: int = 0

    def check(self, outputs: Any, targets: Any) -> None:
        """A list of boxes, scores and labels for each picture, of classes that there are."""
        detections_in(outputs, self.classes)

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """What became of the detections in each picture.

        Raises:
            InputError: for outputs of no detector, or a class without a name.
        """
        found = detections_in(outputs, self.classes)
        return [self.measure.evidence(f, o, self.classes) for f, o in zip(found, targets, strict=True)]

    def value(self, evidence: Sequence[Evidence]) -> float:
        """Over the classes of which these pictures hold objects; NaN if they hold none."""
        return float(self.resampled(evidence, np.ones((1, len(evidence)), np.int64))[0])

    def resampled(self, evidence: Sequence[Evidence], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Of sets that hold each picture so many times, without matching again."""
        return self.measure.value(evidence, times, self.classes)


def box_scores(classes: int) -> dict[str, Score]:
    """The scores of boxes of so many classes, by name."""
    found = (
        MeanAP("map", "mAP", about="by COCO's measure", measure=COCO, classes=classes),
        MeanAP("map50", "mAP50", about="by Pascal VOC's measure", measure=VOC, classes=classes),
        MeanAP("map50-2007", "mAP50", about="by Pascal VOC's measure of 2007", measure=VOC2007, classes=classes),
        MeanAP("presence", "presence", about="of classes, wherever their boxes are", measure=PRESENCE, classes=classes),
    )
    return {s.name: s for s in found}


BOXES = tuple(box_scores(0))
USUAL = BOXES[0]
