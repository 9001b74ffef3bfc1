"""Accuracy and top-5 against loops."""

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.scores.classes import ACCURACY, TOP5, among_highest


def by_loops(scores: torch.Tensor, labels: torch.Tensor, k: int) -> list[bool]:
    """A label is among the k highest if fewer than k scores are above it, or equal to it and of an earlier class."""
    found = []
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        above = sum(s > row[label] or (s == row[label] and c < label) for c, s in enumerate(row))
        found.append(above < k)
    return found


@pytest.mark.parametrize("k", [1, 5])
def test_the_share_of_labels_among_the_highest_scores(k):
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (60, 9), generator=g).float()  # with ties
    labels = torch.randint(0, 9, (60,), generator=g)
    assert among_highest(scores, labels, k).tolist() == by_loops(scores, labels, k)
    score = ACCURACY if k == 1 else TOP5
    evidence = score.evidence(scores, labels, None)
    assert [bool(e) for e in evidence] == by_loops(scores, labels, k)
    assert score.value(evidence) == pytest.approx(sum(by_loops(scores, labels, k)) / 60)


def test_a_picture_is_right_if_the_labels_score_is_the_highest_and_all_are_numbers():
    scores = torch.tensor([[0.1, 0.9], [0.9, 0.1], [float("nan"), 0.9], [0.1, float("nan")]])
    assert among_highest(scores, torch.tensor([1, 1, 1, 1])).tolist() == [True, False, False, False]
    scores = torch.tensor([[torch.nan, 0.0], [1.0, 0.0], [0.0, torch.nan], [-torch.inf, 0.0]])
    assert among_highest(scores, torch.tensor([0, 0, 1, 1])).tolist() == [False, True, False, True]


def test_where_a_score_is_no_number_nothing_is_recognised():
    scores = torch.zeros(1, 9)
    scores[0, 3] = torch.nan
    assert not among_highest(scores, torch.tensor([0]), 5).any()
    assert not among_highest(scores, torch.tensor([3]), 1).any()


def test_what_is_no_score_of_the_labels_is_refused():
    with pytest.raises(InputError, match="expected \\(N, classes\\)"):
        ACCURACY.evidence(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), None)
    with pytest.raises(InputError, match="label 7, but the network gives 3 scores"):
        ACCURACY.evidence(torch.zeros(2, 3), torch.tensor([0, 7]), None)
    with pytest.raises(InputError, match=r"'top5': the network gives 5 scores.*give 'accuracy'"):
        TOP5.evidence(torch.zeros(2, 5), torch.tensor([0, 1]), None)
