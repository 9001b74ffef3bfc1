"""What is refused before scores are compared with labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.training.scores import check_scores, check_several

LABELS = torch.tensor([0, 2, 1])


def test_scores_for_every_label_pass() -> None:
    check_scores(torch.zeros(3, 3), LABELS)
    check_scores(torch.zeros(3, 1000), LABELS)
    check_several(())  # pictures without labels
    check_several(("a", "b"))


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
