"""Drawn boxes: the same bytes for a seed, boxes around what is drawn, and the planted independence."""

import numpy as np
import pytest
import torch

from whatwhere.data.drawn_boxes import CLASSES, NOISE, drawn_boxes
from whatwhere.errors import InputError


def test_a_picture_does_not_depend_on_how_many_are_drawn_and_a_seed_gives_the_same_bytes() -> None:
    few, more = drawn_boxes(train=3, test=2, side=32), drawn_boxes(train=5, test=2, side=32)
    assert all(torch.equal(few.train[i][0], more.train[i][0]) for i in range(3))
    assert few.test.fingerprint == more.test.fingerprint == "475cbd9255058e1c"
    assert few.train.fingerprint != drawn_boxes(train=3, test=2, side=32, seed=1).train.fingerprint


def test_outside_of_the_boxes_there_is_grey_and_inside_the_texture_of_the_class() -> None:
    """Textures by loops, at each of their phases; one of them must explain the box up to the noise."""
    for picture, objects in drawn_boxes(train=4, test=1).train.rows():
        grey = picture.double().mean(0)
        outside = torch.ones(64, 64, dtype=torch.bool)
        for (a, b, c, d), label in zip(objects.boxes.int().tolist(), objects.labels.tolist(), strict=True):
            outside[b:d, a:c] = False
            assert best_texture(grey[b:d, a:c].numpy()) == label
        assert float(grey[outside].std()) < NOISE


def best_texture(patch: np.ndarray) -> int:
    rows, columns = patch.shape
    fits = []
    for label in range(len(CLASSES)):
        for phase in range(16):
            up = np.empty_like(patch)
            for y in range(rows):
                for x in range(columns):
                    v, u = y + phase // 4, x + phase % 4
                    up[y, x] = (v // 2 % 2, u // 2 % 2, (v // 2 + u // 2) % 2, (u - v) // 2 % 2)[label]
            fits.append((abs(np.corrcoef(up.ravel(), patch.ravel())[0, 1]), label))
    return max(fits)[1]


def test_objects_keep_apart_and_classes_occur_once_and_equally_often() -> None:
    drawn = drawn_boxes(train=200, test=1, side=32).train
    counts = torch.zeros(len(CLASSES))
    for objects in drawn.objects:
        assert 1 <= len(objects) <= 3
        assert len(set(objects.labels.tolist())) == len(objects)
        counts[objects.labels] += 1
        for i, (a, b, c, d) in enumerate(objects.boxes.tolist()):
            for e, f, g, h in objects.boxes[:i].tolist():
                assert a >= g + 2 or e >= c + 2 or b >= h + 2 or f >= d + 2
    assert float(counts.min() / counts.max()) > 0.75


def test_where_an_object_lies_and_how_large_it_is_says_nothing_of_its_class() -> None:
    """Means of each coordinate by class differ by less than four standard errors."""
    drawn = drawn_boxes(train=300, test=1, side=32).train
    boxes = torch.cat([o.boxes for o in drawn.objects])
    labels = torch.cat([o.labels for o in drawn.objects])
    for label in range(len(CLASSES)):
        own, others = boxes[labels == label], boxes[labels != label]
        error = (own.var(0) / len(own) + others.var(0) / len(others)).sqrt()
        assert bool(((own.mean(0) - others.mean(0)).abs() < 4 * error).all())


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="at least one picture"):
        drawn_boxes(test=0)
    with pytest.raises(InputError, match="side of at least 32"):
        drawn_boxes(side=16)
