"""Scores of a classification network, checked against labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from whatwhere.errors import InputError, no_tensor


def check_several(classes: Sequence[str], what: str = "data") -> None:
    """Refuse data of a single class, which any network gets right.

    Args:
        classes: those that there are; none without labels.
        what: has them, for the error.
    """
    if len(classes) == 1:
        raise InputError(f"{what} has one class, {classes[0]!r}, which any network gets right; give two or more.")


def check_scores(scores: Tensor, labels: Tensor) -> None:
    """Refuse scores that cannot be compared with the labels.

    Args:
        scores: (N, classes).
        labels: (N,).
    """
    if not isinstance(scores, Tensor):
        raise no_tensor(scores)
    if scores.ndim != 2:
        raise InputError(f"the network gives scores of shape {tuple(scores.shape)}; expected (N, classes).")
    if labels.min() < 0:
        raise InputError("data: these pictures have no labels; accuracy needs them.")
    if labels.max() >= scores.shape[1]:
        raise InputError(
            f"data has label {int(labels.max())}, but the network gives {scores.shape[1]} scores; "
            "load the model with classes=… to match the data."
        )
