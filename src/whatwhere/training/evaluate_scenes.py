"""Evaluate a segmentation network: its confusions, and the measures that follow from them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.data.listing import several
from whatwhere.data.scenes import SceneSplit, absent_note
from whatwhere.errors import InputError
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.network import Network, check_finite, running
from whatwhere.resampling import Resampled, Statistic, over_groups
from whatwhere.site import evaluating
from whatwhere.training.objectives import at_size, check_maps, score_maps
from whatwhere.training.scores import check_finite_scores, check_several

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class SceneEvaluation:
    """What a network said of every labelled pixel.

    Attributes:
        confusions: (N, classes, classes + others) int64: for each picture, pixels by true class (rows) and said class.
        groups: (N,) which pictures belong together.
        classes: the class names.
        others: what else the network can say, such as that a pixel shows none of the classes; of a labelled pixel it
            is wrong.
    """

    confusions: Tensor
    groups: Tensor
    classes: tuple[str, ...]
    others: tuple[str, ...] = ()

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
    def intervals(self) -> dict[str, Resampled]:
        """`miou` and `accuracy` with their 95 % intervals over groups of pictures; empty where all are one group."""
        _, index = np.unique(self.groups.numpy(), return_inverse=True)
        if index.max() < 1:
            return {}
        counts = np.zeros((index.max() + 1, *self.confusions.shape[1:]))
        np.add.at(counts, index, self.confusions.numpy())
        found: dict[str, Statistic] = {
            "miou": lambda total: pooled_miou(total, counts.sum(0)),
            "accuracy": lambda total: float(total.trace() / total.sum()),
        }
        return {name: over_groups(counts, statistic, low=0.0) for name, statistic in found.items()}

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

    def __repr__(self) -> str:
        """One line: what it says, without the tensors."""
        return f"<{type(self).__name__}: {self}>"

    def __str__(self) -> str:
        """Both measures, in per cent, with their intervals; and the classes that mIoU is not of."""
        there, every = len(self.classes) - len(self.absent), len(self.classes)
        of = f" of {there} of {every} classes (not in the labels: {several(self.absent)})" if there < every else ""
        parts, known = [f"{len(self.groups)} pictures"], self.intervals
        if known and known["miou"].groups < len(self.groups):
            parts[0] += f" in {known['miou'].groups} groups"
        if self.others:
            said = 100 * float(self.confusions[..., every:].sum() / self.confusions.sum())
            parts.append(
                f"{said:.2f} % of the labelled pixels said to be {several(map(repr, self.others))}, which is wrong"
            )
        ends = {name: f" [{100 * found.low:.2f}, {100 * found.high:.2f}]" for name, found in known.items()}
        accuracy = f"pixel accuracy {100 * self.accuracy:.2f} %{ends.get('accuracy', '')}"
        return ", ".join([f"mIoU {100 * self.miou:.2f} %{ends.get('miou', '')}{of}", accuracy, *parts])


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
    others, counted = said_besides(net, split.classes), []
    for scores, labels in scored(net, split):
        counted.append(confusion(scores.argmax(1)[0], labels, len(split.classes), len(others)))
    found = SceneEvaluation(torch.stack(counted), split.groups, split.classes, others)
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


def said_besides(net: nn.Module | Network, classes: Sequence[str]) -> tuple[str, ...]:
    """The names of a network's scores behind those of some classes: of unlabelled pixels, say.

    Only a network says so whose names begin with these classes; other scores too many are refused where they are
    highest.
    """
    named = tuple(net.classes) if isinstance(net, Network) else ()
    return named[len(classes) :] if named[: len(classes)] == tuple(classes) else ()


def confusion(said: Tensor, labels: Tensor, classes: int, others: int = 0) -> Tensor:
    """Labelled pixels by true class (rows) and said class, (classes, classes + others).

    Raises:
        InputError: for a said class that is none of these.
    """
    labelled = labels != IGNORE
    true, said = labels[labelled].long(), said[labelled].long()
    columns = classes + others
    if len(said) and int(said.max()) >= columns:
        raise InputError(
            f"the network says class {int(said.max())}, but there are {classes} (0..{classes - 1}); load it with "
            "classes=… to match the data, or let a function of yours leave out the scores that are too many. To count "
            "them as wrong, let it name all of them: Network(net, classes=(the data's names, 'unlabelled'))."
        )
    pairs = true * columns + said
    return torch.bincount(pairs, minlength=classes * columns).view(classes, columns)


def class_iou(confusion: Tensor) -> Tensor:
    """(..., classes, classes + others) confusions to (..., classes); NaN where a class is neither there nor said."""
    right = confusion.diagonal(dim1=-2, dim2=-1).double()
    union = confusion.sum(-1) + confusion.sum(-2)[..., : confusion.shape[-2]] - right
    return right / union.where(union > 0, torch.nan)


def pooled_miou(total: Counts, whole: Counts | None = None) -> float:
    """`mean_iou` of a draw of pictures: over the classes that there are in all of them.

    Args:
        total: (classes, classes + others) confusions of the draw.
        whole: those of all pictures; a class that the draw lacks counts as it does there. None: `total`.
    """
    every = total if whole is None else whole
    there = every.sum(-1) > 0
    iou = np.where(total.sum(-1) > 0, _class_iou(total), _class_iou(every))
    return float(iou[there].mean())


def _class_iou(total: Counts) -> Counts:
    """As `class_iou`; a thousand draws of a few classes take a fifth of its time."""
    right = total.diagonal()
    union = total.sum(-1) + total.sum(-2)[: len(right)] - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur in the labels."""
    return float(class_iou(confusion)[confusion.sum(-1) > 0].mean())


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of pixels on the diagonal."""
    return float(confusion.diagonal().sum().double() / confusion.sum())
