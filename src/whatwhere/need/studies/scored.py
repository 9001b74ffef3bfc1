"""The score of a study: chosen for the pictures and the network at hand, and what naming one class would have of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whatwhere.data import Split
from whatwhere.data.scenes import SceneSplit
from whatwhere.errors import InputError
from whatwhere.need.studies.chunk import AnySplit
from whatwhere.network import Network, running
from whatwhere.scores.against_intact import AGREEMENT, main_tensor
from whatwhere.scores.classes import ACCURACY, TOP5
from whatwhere.scores.label_maps import MeanIoU
from whatwhere.scores.named import NAMES, checked, for_output, score_named, usual_score
from whatwhere.scores.score import Score
from whatwhere.site import evaluating
from whatwhere.training.scores import check_several


def score_of(given: Any, split: AnySplit, net: Network, what: str = "data") -> Score:
    """The score that is asked for, or the usual one of these pictures and this network.

    Args:
        given: a name, a `Score`, or None.
        split: the pictures.
        net: the intact network.
        what: they are, for the error.

    Raises:
        InputError: for an unknown score, or pictures without what it needs.
    """
    score = _chosen(given, split, net)
    checked(score, split.comes_with, what)
    if score.needs in ("class labels", "label maps"):
        check_several(split.classes, what)
    return for_output(score, first_output(net, split)) if score is AGREEMENT else score


def _chosen(given: Any, split: AnySplit, net: Network) -> Score:
    if isinstance(given, Score):
        return given
    if given is None:
        return usual_score(split.comes_with, len(split.classes), _has_classes(net, split))
    if not isinstance(given, str):
        raise InputError(f"score={given!r}: give a name ({', '.join(NAMES)}), or a whatwhere Score.")
    return score_named(given, len(split.classes))


def _has_classes(net: Network, split: AnySplit) -> bool:
    """Whether a network gives scores of classes, not features: by what it says of itself, and by what it gives."""
    if getattr(net.module, "num_classes", None) == 0:  # timm's word for a backbone
        return False
    if split.comes_with:
        return True  # what is wrong with the scores, the score itself says
    output = first_output(net, split)
    found = main_tensor(output)
    of_pixels = found.ndim == 4 and (isinstance(output, Mapping) or found.shape[2:] == split.shape()[1:])
    return found.ndim == 2 or of_pixels


def first_output(net: Network, split: AnySplit) -> Any:
    """What a network gives for the first picture."""
    pictures, _ = next(iter(split.batches(1, geometry=net.preprocessing, order=torch.tensor([0]))))
    with evaluating(net.module), running(net, pictures.shape[1:]):
        return net.module(net.prepared(pictures))


def described(score: Score) -> dict[str, Any]:
    """What a result says of its score; nothing of accuracy, as in the first version."""
    if score is ACCURACY:
        return {}
    names = ("name", "label", "about", "unit", "higher_is_better")
    return {name: getattr(score, name) for name in names}


def chance_of(score: Score, split: AnySplit) -> float | None:
    """What naming the commonest class (or classes) whatever the picture has of a score; None where none is known."""
    if isinstance(split, Split) and score in (ACCURACY, TOP5):
        return min(1.0, max(score.k / len(split.classes), commonest(split.labels, score.k)))
    if isinstance(split, SceneSplit) and isinstance(score, MeanIoU):
        there = split.counts[: len(split.classes)].double()
        return float(there.max() / there.sum() / (there > 0).sum())
    return None


def commonest(labels: Tensor, k: int = 1) -> float:
    """The accuracy of naming the commonest classes whatever the picture, in [0, 1]."""
    return float(labels.bincount().sort(descending=True).values[:k].sum()) / len(labels)
