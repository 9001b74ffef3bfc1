"""What every score has in common: how it is shown, and sets in which pictures come several times."""

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.scores.against_intact import FEATURE, KL
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.label_maps import miou
from whatwhere.scores.score import Score, of_pictures


def test_a_share_is_shown_in_per_cent_and_a_number_as_it_is():
    assert (ACCURACY.heading, ACCURACY.axis, ACCURACY.points) == ("accuracy %", "accuracy (%)", " points")
    assert (ACCURACY.shown(0.12345), ACCURACY.shown(-0.5, sign=True, digits=1)) == ("12.35", "-50.0")
    assert (miou(2).title, ACCURACY.title, FEATURE.axis) == (
        "mIoU",
        "Accuracy",
        "cosine with the intact network's features",
    )
    assert (KL.shown(0.12345), KL.shown(0.0, sign=True), KL.points) == ("0.1235", "+0.0000", "")


def test_better_is_up_or_down_and_said_once():
    assert (ACCURACY.direction, KL.direction) == (1, -1)
    assert ACCURACY.losses == (-1.0, 1.0)
    assert KL.losses == (0.0, float("inf"))  # nothing is nearer to the intact network than itself


def test_a_set_that_holds_pictures_several_times_is_that_set():
    evidence = of_pictures(torch.tensor([1.0, 2.0, 6.0]), "x")
    times = np.array([[1, 1, 1], [0, 3, 1], [2, 0, 0]])
    assert Score("x", "x").resampled(evidence, times).tolist() == [3.0, 3.0, 1.0]


def test_evidence_is_one_number_for_each_picture():
    assert [e.tolist() for e in of_pictures(torch.tensor([True, False]), "x")] == [[1.0], [0.0]]
    assert [e.tolist() for e in of_pictures([0.5], "x")] == [[0.5]]
    with pytest.raises(InputError, match=r"x gives values of shape \(2, 1\); expected \(N,\)"):
        of_pictures(torch.zeros(2, 1), "x")
