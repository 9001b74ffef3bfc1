"""What is refused before scores are compared with labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.training.scores import check_scores, check_several

LABELS = torch.tensor([0, 2, 1])


def passes(check: Callable[..., None], *given: Any) -> bool:
    try:
        check(*given)
    except InputError:
        return False
    return True


@pytest.mark.parametrize(("classes", "expected"), [(2, False), (3, True), (1000, True)])
def test_scores_for_every_label_pass(classes: int, expected: bool) -> None:
    """The highest label is 2: two scores are too few, three are enough."""
    assert passes(check_scores, torch.zeros(3, classes), LABELS) is expected


@pytest.mark.parametrize(("classes", "expected"), [((), True), (("a",), False), (("a", "b"), True)])
def test_several_classes_pass_and_none(classes: tuple[str, ...], expected: bool) -> None:
    """Pictures without labels have no classes, and are not refused for that."""
    assert passes(check_several, classes) is expected


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ({"out": torch.zeros(3, 3)}, LABELS, "type dict with out; expected a tensor of scores"),
        (torch.zeros(3), LABELS, r"shape \(3,\); expected \(N, classes\)"),
        (torch.zeros(3, 3, 1, 1), LABELS, r"shape \(3, 3, 1, 1\)"),
        (torch.zeros(3, 3), torch.tensor([0, -1, 1]), "these pictures have no labels"),
        (torch.zeros(3, 2), LABELS, "data has label 2, but the network gives 2 scores"),
    ],
)
def test_scores_that_cannot_be_compared(scores: Any, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_scores(scores, labels)


def test_a_single_class_is_named() -> None:
    with pytest.raises(InputError, match="data has one class, 'cat', which any network gets right"):
        check_several(["cat"])
    with pytest.raises(InputError, match="folder has one class"):
        check_several(["cat"], "folder")
