"""Matching detections to objects against COCO's and Pascal VOC's rules in plain loops, and by hand."""

from typing import get_args

import numpy as np
import pytest
import torch

from small_boxes import CLASSES, drawn, outcomes
from whatwhere.data.boxes import Objects
from whatwhere.training.matching import LEFT_OUT, MOST, RIGHT, WRONG, Rule, matched, overlap

THRESHOLDS = np.array([0.5, 0.75])


@pytest.mark.parametrize("rule", get_args(Rule))
def test_each_detection_is_right_wrong_or_left_out_as_in_plain_loops(rule: Rule) -> None:
    seen: set[int] = set()
    for found, objects in zip(*drawn(), strict=True):
        classes, scores, outcome = matched(found, objects, THRESHOLDS, rule)
        for label in range(CLASSES):
            own = classes == label
            for t, threshold in enumerate(THRESHOLDS.tolist()):
                expected = outcomes(found, objects, label, threshold, rule)
                assert [*zip(scores[own].tolist(), outcome[own, t].tolist(), strict=True)] == expected
        seen.update(outcome.ravel().tolist())
    assert seen == {RIGHT, WRONG, LEFT_OUT}


def found_at(*boxes: list[float]) -> dict[str, torch.Tensor]:
    scores = torch.linspace(0.9, 0.5, len(boxes))
    return {"boxes": torch.tensor(boxes), "scores": scores, "labels": torch.zeros(len(boxes), dtype=torch.int64)}


def test_the_rules_differ_where_two_detections_are_nearest_to_one_object() -> None:
    """COCO gives the second the other object that it overlaps enough; VOC calls it wrong."""
    objects = Objects.of([[0.0, 0, 10, 10], [0.0, 2, 10, 12]], [0, 0])
    found = found_at([0, 0, 10, 10], [0, 0.5, 10, 10.5])
    assert matched(found, objects, np.array([0.5]), "coco")[2].ravel().tolist() == [RIGHT, RIGHT]
    assert matched(found, objects, np.array([0.5]), "voc")[2].ravel().tolist() == [RIGHT, WRONG]


def test_a_crowd_takes_any_number_a_difficult_object_one_by_coco_and_any_number_by_voc() -> None:
    box, found = [[0.0, 0, 10, 10]], found_at([0, 0, 10, 10], [0, 0, 10, 9])
    crowd, difficult = Objects.of(box, [0], None, [True]), Objects.of(box, [0], [True])
    assert matched(found, crowd, np.array([0.5]), "coco")[2].ravel().tolist() == [LEFT_OUT, LEFT_OUT]
    assert matched(found, difficult, np.array([0.5]), "coco")[2].ravel().tolist() == [LEFT_OUT, WRONG]
    assert matched(found, difficult, np.array([0.5]), "voc")[2].ravel().tolist() == [LEFT_OUT, LEFT_OUT]


def test_coco_looks_at_the_highest_hundred_of_a_class() -> None:
    found = found_at(*[[0.0, 0, 1, 1]] * (MOST + 5))
    assert len(matched(found, Objects.of([], []), THRESHOLDS, "coco")[0]) == MOST
    assert len(matched(found, Objects.of([], []), THRESHOLDS, "voc")[0]) == MOST + 5


def test_overlaps_of_boxes_without_area_are_zero() -> None:
    flat = np.array([[1.0, 1, 1, 3]])
    assert overlap(flat, flat, np.array([False])).tolist() == [[0.0]]
