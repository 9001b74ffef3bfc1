"""Average precision against plain loops and torchmetrics, and of resampled pictures against a count of their copies."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from small_boxes import CLASSES, Found, drawn, mean_ap
from whatwhere.data.boxes import Objects
from whatwhere.training.average_precision import packed
from whatwhere.training.evaluate_boxes import COCO, VOC, VOC2007, Measure

MEASURES = {"coco": COCO, "voc": VOC, "voc2007": VOC2007, "coco11": Measure("coco", (0.5,), "11")}


def value(measure: Measure, found: list[Found], there: list[Objects], times: object = None) -> np.ndarray:
    evidence = [measure.evidence(f, o, CLASSES) for f, o in zip(found, there, strict=True)]
    once = np.ones((1, len(found)), int)
    return measure.value(evidence, once if times is None else times, CLASSES)


@pytest.mark.parametrize("name", ["coco", "voc", "voc2007"])
def test_as_by_the_definition_in_plain_loops(name: str) -> None:
    measure = MEASURES[name]
    expected = mean_ap(*drawn(), list(measure.thresholds), measure.rule, measure.points)
    assert 0.1 < expected < 0.9
    assert value(measure, *drawn()) == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [("coco", {}), ("coco11", {"iou_thresholds": [0.5], "rec_thresholds": np.linspace(0, 1, 11).tolist()})],
)
def test_as_torchmetrics(name: str, options: dict[str, list[float]]) -> None:
    """On pictures with crowds; difficult objects are unknown to it."""
    found, objects = drawn()
    there = [Objects(o.boxes, o.labels, torch.zeros_like(o.crowd), o.crowd) for o in objects]
    metric = MeanAveragePrecision(**options)
    targets = [{"boxes": o.boxes, "labels": o.labels, "iscrowd": o.crowd.long()} for o in there]
    metric.update(found, targets)
    assert value(MEASURES[name], found, there) == pytest.approx([float(metric.compute()["map"])], abs=1e-6)


@pytest.mark.parametrize("name", ["coco", "voc", "voc2007"])
def test_pictures_that_are_drawn_several_times_count_as_so_many_copies(name: str) -> None:
    found, there = drawn(12, seed=1)
    times = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 4)
    copies = [
        value(
            MEASURES[name],
            [f for f, n in zip(found, t, strict=True) for _ in range(n)],
            [o for o, n in zip(there, t, strict=True) for _ in range(n)],
        )[0]
        for t in times.tolist()
    ]
    assert value(MEASURES[name], found, there, times) == pytest.approx(copies, abs=1e-12)


def test_without_objects_there_is_no_value_and_without_detections_it_is_zero() -> None:
    nothing: Found = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    one = Objects.of([[0, 0, 1, 1]], [1])
    times = np.array([[1, 0], [0, 1]])
    found = value(COCO, [nothing, nothing], [one, Objects.of([], [])], times)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_outcomes_lie_in_the_bits_of_one_number() -> None:
    row = packed(np.array([2, 0]), np.array([1]), np.array([0.5]), np.array([[1, -1, 0]]))
    assert row.tolist() == [2, 0, 1, 0.5, 1 + 2 ** (1 + 3)]
