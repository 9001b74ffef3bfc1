"""Evaluate a segmentation network: its confusions, and the measures that follow from them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.data.listing import several
from whatwhere.data.scenes import SceneSplit, absent_note
from whatwhere.errors import InputError
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.network import Network, check_finite, running
from whatwhere.site import evaluating
from whatwhere.training.objectives import at_size, check_maps, score_maps
from whatwhere.training.scores import check_finite_scores, check_several


@dataclass(frozen=True)
class SceneEvaluation:
    """What a network said of every labelled pixel.

    Attributes:
        confusions: (N, classes, classes) int64: for each picture, pixels by true class (rows) and said class.
        groups: (N,) which pictures belong together.
        classes: the class names.
    """

    confusions: Tensor
    groups: Tensor
    classes: tuple[str, ...]

    @property
    def iou(self) -> Tensor:
        """(classes,) intersection over union of each class, pooled over all pictures; NaN for one that never occurs."""
        return class_iou(self.confusions.sum(0))

    @property
    def miou(self) -> float:
        """Mean over the classes that occur in the labels."""
        return mean_iou(self.confusions.sum(0))

    @property
    def accuracy(self) -> float:
        """Share of labelled pixels that are right."""
        return pixel_accuracy(self.confusions.sum(0))

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that never occur in the labels."""
        there = self.confusions.sum((0, 2)).tolist()
        return tuple(name for name, n in zip(self.classes, there, strict=True) if not n)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record; the IoU of a class that neither occurs nor is predicted is None."""
        values = (None if math.isnan(v) else v for v in self.iou.tolist())
        found = {"miou": self.miou, "accuracy": self.accuracy, "iou": dict(zip(self.classes, values, strict=True))}
        return {**found, **({"absent": list(self.absent)} if self.absent else {})}

    def __str__(self) -> str:
        """Both measures, in per cent; and the classes that mIoU is not of."""
        there, every = len(self.classes) - len(self.absent), len(self.classes)
        of = f" of {there} of {every} classes (not in the labels: {several(self.absent)})" if there < every else ""
        right = f"pixel accuracy {100 * self.accuracy:.2f} %, {len(self.groups)} pictures"
        return f"mIoU {100 * self.miou:.2f} %{of}, {right}"


def evaluate_scenes(net: nn.Module | Network, split: SceneSplit) -> SceneEvaluation:
    """Run a segmentation network over whole pictures and count what it says, at the labels' resolution.

    Args:
        net: the network.
        split: scenes.

    Raises:
        InputError: if no pixel is labelled or there is a single class, the network has no score for a label, or says a
            class without a name.
    """
    check_several(split.classes)
    counted = []
    for scores, labels in scored(net, split):
        counted.append(confusion(scores.argmax(1)[0], labels, len(split.classes)))
    found = SceneEvaluation(torch.stack(counted), split.groups, split.classes)
    if len(found.absent) == len(split.classes):
        raise InputError(f"split {split.name!r}: no pixel of its label maps is labelled; correct the maps.")
    if found.absent:
        warnings.warn(absent_note(split), stacklevel=3)
    return found


def scored(net: nn.Module | Network, split: SceneSplit) -> Iterator[tuple[Tensor, Tensor]]:
    """Each picture's scores (1, classes, H, W) and class map (H, W)."""
    net = net if isinstance(net, Network) else Network(net)
    check_finite(net)
    with evaluating(net.module):
        for picture, maps in split.rows():
            labels = maps[CLASS].long()
            with running(net, picture.shape):
                scores, _ = score_maps(net.module(net.prepared(picture[None])))
            check_finite_scores(scores)
            check_maps(scores, labels)
            yield at_size(scores, labels).cpu(), labels


def confusion(said: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Labelled pixels by true class (rows) and said class, (classes, classes).

    Raises:
        InputError: for a said class that is none of these.
    """
    labelled = labels != IGNORE
    true, said = labels[labelled].long(), said[labelled].long()
    if len(said) and int(said.max()) >= classes:
        raise InputError(
            f"the network says class {int(said.max())}, but there are {classes} (0..{classes - 1}); load it with "
            "classes=… to match the data."
        )
    pairs = true * classes + said
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def class_iou(confusion: Tensor) -> Tensor:
    """(..., classes, classes) confusions to (..., classes); NaN where a class is neither there nor said."""
    right = confusion.diagonal(dim1=-2, dim2=-1).double()
    union = confusion.sum(-1) + confusion.sum(-2) - right
    return right / union.where(union > 0, torch.nan)


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur in the labels."""
    return float(class_iou(confusion)[confusion.sum(-1) > 0].mean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of pixels on the diagonal."""
    return float(confusion.diagonal().sum().double() / confusion.sum())
