"""mIoU against a count by loops over pixels, and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from whatwhere.errors import InputError
from whatwhere.scores.label_maps import miou

CLASSES = 4


def by_loops(said: torch.Tensor, labels: torch.Tensor) -> float:
    """Over the classes that occur in the labels."""
    found = []
    for c in range(CLASSES):
        both = either = there = 0
        for s, t in zip(said.flatten().tolist(), labels.flatten().tolist(), strict=True):
            if t != 255:
                both, either, there = both + (s == c and t == c), either + (s == c or t == c), there + (t == c)
        if there:
            found.append(both / either)
    return sum(found) / len(found)


def drawn(n: int = 3, seed: int = 0, last: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, last, (n, 8, 6), generator=g)
    labels[:, :2, :2] = 255
    return torch.randn(n, CLASSES, 8, 6, generator=g), labels


@pytest.mark.parametrize("last", [CLASSES, CLASSES - 1])  # with the second no label is the last class
def test_miou_is_that_of_a_count_of_pixels(last):
    scores, labels = drawn(last=last)
    score = miou(CLASSES)
    evidence = score.evidence({"out": scores}, labels, None)
    assert score.value(evidence) == pytest.approx(by_loops(scores.argmax(1), labels), abs=1e-12)
    assert score.value(evidence[1:]) == pytest.approx(by_loops(scores[1:].argmax(1), labels[1:]), abs=1e-12)
    if last == CLASSES:
        theirs = MulticlassJaccardIndex(CLASSES, ignore_index=255)(scores, labels)
        assert score.value(evidence) == pytest.approx(float(theirs), abs=1e-6)


def test_resampled_pictures_are_those_pictures():
    scores, labels = drawn()
    score = miou(CLASSES)
    evidence = score.evidence(scores, labels, None)
    times = np.array([[1, 1, 1], [0, 2, 1]])
    slow = [score.value(evidence), score.value([evidence[1], evidence[1], evidence[2]])]
    assert score.resampled(evidence, times) == pytest.approx(slow, abs=1e-12)


def test_a_smaller_map_of_scores_is_resized_and_unlabelled_pictures_have_no_score():
    scores, labels = drawn()
    one = scores.mean((2, 3), keepdim=True)
    said = one.argmax(1).expand(3, 8, 6)
    score = miou(CLASSES)
    assert score.value(score.evidence(one, labels, None)) == pytest.approx(by_loops(said, labels), abs=1e-12)
    assert np.isnan(score.value(score.evidence(scores, torch.full_like(labels, 255), None)))


def test_what_is_no_score_of_pixels_is_refused():
    with pytest.raises(InputError, match="a segmentation network gives scores"):
        miou(CLASSES).evidence(torch.zeros(3, 4), torch.zeros(3, 8, 6).long(), None)
    with pytest.raises(InputError, match="data has label 9"):
        miou(CLASSES).evidence(torch.zeros(3, 4, 8, 6), torch.full((3, 8, 6), 9), None)
