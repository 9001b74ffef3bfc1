"""Scores by name, and the one that is taken where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whatwhere.errors import InputError, unknown
from whatwhere.scores.against_intact import AGREEMENT, DENSE_AGREEMENT, FEATURE, KL, main_tensor
from whatwhere.scores.boxes import BOXES, USUAL, box_scores
from whatwhere.scores.classes import ACCURACY, TOP5
from whatwhere.scores.label_maps import miou
from whatwhere.scores.numbers import MAE, R2
from whatwhere.scores.score import Needs, Score

ALONE: Mapping[str, Score] = {s.name: s for s in (ACCURACY, TOP5, MAE, R2, AGREEMENT, KL, FEATURE)}
MIOU = "miou"
NAMES = (*ALONE, MIOU, *BOXES)
GIVES: Mapping[Needs, str] = {
    "class labels": "class labels, as class folders give",
    "label maps": "a label map for each picture, as scenes have",
    "boxes": "boxes for each picture",
    "numbers": "a number for each picture, as whatwhere.data.numbered gives",
}


def score_named(name: str, classes: int) -> Score:
    """A score by its name.

    Args:
        name: one of `NAMES`.
        classes: that the pictures are labelled with.

    Raises:
        InputError: for another name.
    """
    if name == MIOU:
        return miou(classes)
    if name in BOXES:
        return box_scores(classes)[name]
    if name not in ALONE:
        raise unknown("score", name, NAMES)
    return ALONE[name]


def usual_score(comes_with: Needs, classes: int, has_classes: bool) -> Score:
    """The score that is taken where none is named.

    Args:
        comes_with: what the pictures come with.
        classes: that they are labelled with.
        has_classes: whether the network gives scores of classes; a backbone gives features.
    """
    if comes_with == "label maps":
        return miou(classes)
    if comes_with == "numbers":
        return R2
    if comes_with == "boxes":
        return box_scores(classes)[USUAL]
    if not has_classes:
        return FEATURE
    return ACCURACY if comes_with == "class labels" else AGREEMENT


def checked(score: Score, comes_with: Needs, what: str) -> Score:
    """A score that these pictures can have.

    Args:
        score: of them.
        comes_with: what they come with.
        what: they are, for the error.

    Raises:
        InputError: if they lack what the score needs.
    """
    if score.needs and score.needs != comes_with:
        have = f"come with {comes_with}" if comes_with else "have no labels"
        raise InputError(
            f"{what}: these pictures {have}; score={score.name!r} needs {GIVES[score.needs]}. Without labels give "
            "'agreement', 'kl' or 'feature', which compare with the intact network."
        )
    return score


def for_output(score: Score, output: Any) -> Score:
    """The form of a score for what a network gives: of scores of pixels a share of positions agrees."""
    return DENSE_AGREEMENT if score is AGREEMENT and main_tensor(output).ndim == 4 else score
