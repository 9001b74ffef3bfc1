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


def check_finite_scores(scores: Tensor) -> None:
    """Refuse scores of which the highest says nothing.

    Args:
        scores: (N, classes, ...).

    Raises:
        InputError: if a score is NaN or infinite, naming the first picture of the batch where.
    """
    if bool(scores.detach().sum().isfinite()):  # fast
        return
    wrong = (~scores.detach().isfinite()).flatten(1).any(1)
    if bool(wrong.any()):
        raise InputError(
            f"the network gives scores that are NaN or infinite, for {int(wrong.sum())} of {len(wrong)} pictures (the "
            f"first is number {int(wrong.nonzero()[0])} of its batch); its weights are finite, so see that the "
            "pictures are, and that they are scaled as the network expects."
        )


def check_scores(scores: Tensor, labels: Tensor) -> None:
    """Refuse scores that cannot be compared with the labels.

    Args:
        scores: (N, classes).
        labels: (N,).
    """
    if not isinstance(scores, Tensor):
        raise no_tensor(scores)
    check_finite_scores(scores)
    if scores.ndim != 2:
        raise InputError(f"the network gives scores of shape {tuple(scores.shape)}; expected (N, classes).")
    if labels.min() < 0:
        raise InputError("data: these pictures have no labels; accuracy needs them.")
    if labels.max() >= scores.shape[1]:
        raise InputError(
            f"data has label {int(labels.max())}, but the network gives {scores.shape[1]} scores; "
            "load the model with classes=… to match the data."
        )
