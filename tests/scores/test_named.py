"""Scores by name, and which one is usual for what."""

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.scores.against_intact import AGREEMENT, DENSE_AGREEMENT, FEATURE, KL
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.label_maps import miou
from whatwhere.scores.named import NAMES, checked, for_output, score_named, usual_score
from whatwhere.scores.numbers import R2


def test_every_name_is_the_name_of_its_score():
    assert [score_named(n, 3).name for n in NAMES] == list(NAMES)
    assert score_named("miou", 3) == miou(3)
    with pytest.raises(InputError, match=r"score='mio' matches nothing. Did you mean 'miou'"):
        score_named("mio", 3)


@pytest.mark.parametrize(
    ("comes_with", "has_classes", "wanted"),
    [
        ("class labels", True, ACCURACY),
        ("class labels", False, FEATURE),
        ("", True, AGREEMENT),
        ("", False, FEATURE),
        ("label maps", True, miou(3)),
        ("numbers", True, R2),
    ],
)
def test_the_usual_score(comes_with, has_classes, wanted):
    assert usual_score(comes_with, 3, has_classes) == wanted


def test_a_score_that_needs_what_is_not_there_is_refused():
    assert checked(KL, "", "data") is KL
    assert checked(KL, "label maps", "data") is KL
    with pytest.raises(
        InputError, match=r"data='x': these pictures have no labels; score='accuracy' needs class labels.*'agreement'"
    ):
        checked(ACCURACY, "", "data='x'")
    with pytest.raises(InputError, match=r"these pictures come with class labels; score='miou' needs a label map"):
        checked(miou(2), "class labels", "data")


def test_agreement_of_scores_of_pixels_is_over_positions():
    assert for_output(AGREEMENT, torch.zeros(1, 2, 3, 3)) is DENSE_AGREEMENT
    assert for_output(AGREEMENT, torch.zeros(1, 2)) is AGREEMENT
    assert for_output(KL, torch.zeros(1, 2, 3, 3)) is KL
