"""The score of a study: chosen for the pictures and the network at hand, and what naming one class would have of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whatwhere.data import Split
from whatwhere.data.numbers import NumberSplit, check_numbers
from whatwhere.data.scenes import SceneSplit, check_labelled
from whatwhere.errors import InputError
from whatwhere.imported import is_import_path
from whatwhere.models.detectors import check_detector
from whatwhere.need.decided import deciding
from whatwhere.need.studies.chunk import AnySplit, beside
from whatwhere.network import Network, running
from whatwhere.scores.against_intact import AGREEMENT, main_tensor
from whatwhere.scores.boxes import BOXES
from whatwhere.scores.classes import ACCURACY, TOP5
from whatwhere.scores.given import HOW, Here, function_score, is_metric, metric_score, object_at
from whatwhere.scores.label_maps import MeanIoU
from whatwhere.scores.named import NAMES, checked, for_output, score_named, usual_score
from whatwhere.scores.numbers import R2
from whatwhere.scores.score import Score
from whatwhere.site import evaluating
from whatwhere.training.evaluate import check_names
from whatwhere.training.evaluate_boxes import check_some
from whatwhere.training.scores import check_several


def score_of(given: Any, split: AnySplit, net: Network, what: str = "data") -> Score:
    """The score that is asked for, or the usual one of these pictures and this network.

    Args:
        given: a name, `package.module:name`, a `Score`, a torchmetrics metric, a function, or None.
        split: the pictures.
        net: the intact network.
        what: they are, for the error.

    Raises:
        InputError: for an unknown score, or pictures without what it needs.
    """
    score = _chosen(given, split, net)
    checked(score, split.comes_with, what)
    if score.needs == "boxes":
        check_detector(net, split.classes)
        check_some(split)
    if score.of_intact and deciding(net) is not None:
        raise InputError(
            f"{what}: score={score.name!r} compares scores of classes or features, and a detector gives boxes; give "
            f"pictures with boxes, and one of {', '.join(BOXES)}."
        )
    if score.needs in ("class labels", "label maps"):
        check_several(split.classes, what)
    if score.needs == "class labels" and isinstance(split, Split):
        check_names(net, split)
    if isinstance(split, SceneSplit) and score.needs:
        check_labelled(split, what)
    if isinstance(split, NumberSplit):
        check_numbers(split, what, varied=score is R2)
    return for_output(score, first_outputs(net, split, 1)[0]) if score is AGREEMENT else score


def _chosen(given: Any, split: AnySplit, net: Network) -> Score:
    if given is None:
        return usual_score(split.comes_with, len(split.classes), _has_classes(net, split))
    if isinstance(given, str) and not is_import_path(given):
        return score_named(given, len(split.classes))
    thing = object_at(given, len(split.classes)) if isinstance(given, str) else given
    if isinstance(thing, Score):
        return thing
    name = given if isinstance(given, str) else getattr(thing, "__name__", type(thing).__name__)
    if is_metric(thing) and not isinstance(thing, type):
        return metric_score(thing, name, *first_outputs(net, split))
    if isinstance(thing, type) or not callable(thing):
        raise InputError(f"score={given!r}: give a name ({', '.join(NAMES)}), {HOW}, or its import path.")
    return function_score(thing if isinstance(given, str) else Here(thing), name, *first_outputs(net, split))


def _has_classes(net: Network, split: AnySplit) -> bool:
    """Whether a network gives scores of classes, not features: by what it says of itself, and by what it gives."""
    if getattr(net.module, "num_classes", None) == 0:  # timm's word for a backbone
        return False
    if split.comes_with:
        return True  # what is wrong with the scores, the score itself says
    output, _ = first_outputs(net, split, 1)
    found = main_tensor(output)
    of_pixels = found.ndim == 4 and (isinstance(output, Mapping) or found.shape[2:] == split.shape()[1:])
    return found.ndim == 2 or of_pixels


def first_outputs(net: Network, split: AnySplit, n: int = 2) -> tuple[Any, Any]:
    """What a network gives for the first pictures, and what these come with."""
    order = torch.arange(min(n, len(split)))
    pictures, targets = next(iter(split.batches(len(order), geometry=net.preprocessing, order=order)))
    with evaluating(net.module), running(net, pictures.shape[1:]):
        prepared = net.prepared(pictures)
        return net.module(prepared), beside(targets, prepared)


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
