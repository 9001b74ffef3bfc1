"""Evaluate a detector: what became of its boxes in each picture, and the measures that follow from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.errors import InputError
from whatwhere.models.detectors import as_network, check_detector
from whatwhere.network import Network, check_finite, running
from whatwhere.site import evaluating
from whatwhere.training.average_precision import Floats, Points, mean_average_precision, packed
from whatwhere.training.matching import LEFT_OUT, RIGHT, WRONG, Rule, matched


@dataclass(frozen=True)
class Measure:
    """A mean average precision: over classes that there are, and over thresholds of overlap.

    Attributes:
        rule: which detection finds which object.
        thresholds: overlaps (intersection over union) from which on an object is found.
        points: which recalls precision is averaged over.
    """

    rule: Rule
    thresholds: tuple[float, ...]
    points: Points

    def evidence(self, found: Mapping[str, Any], objects: Objects, classes: int) -> Floats:
        """All that `value` needs of a picture."""
        counts = np.bincount(objects.labels[objects.counted].cpu().numpy(), minlength=classes)
        return packed(counts, *matched(found, objects, np.array(self.thresholds), self.rule))

    def value(self, evidence: Sequence[Floats], times: Any, classes: int) -> Floats:
        """(B,) of sets that hold each picture `times` (B, N); NaN of a set without objects."""
        return mean_average_precision(
            evidence, times, classes=classes, thresholds=len(self.thresholds), points=self.points
        )


COCO = Measure("coco", tuple(np.linspace(0.5, 0.95, 10).tolist()), "101")
VOC = Measure("voc", (0.5,), "all")
VOC2007 = Measure("voc", (0.5,), "11")


@dataclass(frozen=True)
class Presence(Measure):
    """How well the highest score of a class tells the pictures that hold it from the others, wherever its box is.

    The average precision of the pictures by that score, as in Pascal VOC's classification task.
    """

    def evidence(self, found: Mapping[str, Any], objects: Objects, classes: int) -> Floats:
        """One outcome for each class that is detected; left out where all objects of it are."""
        labels, scores = found["labels"].cpu(), found["scores"].detach().cpu()
        said = labels.unique()
        highest = np.array([float(scores[labels == label].max()) for label in said])
        there = np.isin(said, objects.labels[objects.counted].cpu())
        spared = np.isin(said, objects.labels.cpu()) & ~there
        outcomes = np.where(there, RIGHT, np.where(spared, LEFT_OUT, WRONG))[:, None]
        present = np.isin(np.arange(classes), objects.labels[objects.counted].cpu())
        return packed(present.astype(np.int64), said.numpy(), highest, outcomes)


PRESENCE = Presence("voc", (0.0,), "all")


@dataclass(frozen=True)
class BoxEvaluation:
    """What a detector found in some pictures.

    Attributes:
        found: its detections in each picture, on the CPU.
        objects: what is there.
        classes: the class names.
    """

    found: tuple[Mapping[str, torch.Tensor], ...]
    objects: tuple[Objects, ...]
    classes: tuple[str, ...]

    @property
    def map(self) -> float:
        """COCO's mAP: the mean over overlaps .50, .55, ... .95, with 101 recalls; at most 100 detections of a class."""
        return self.measured(COCO)

    @property
    def map50(self) -> float:
        """Pascal VOC's mAP at an overlap of .5: the whole area under the curve, as from 2010 on."""
        return self.measured(VOC)

    @property
    def map50_2007(self) -> float:
        """Pascal VOC's mAP of 2007 at an overlap of .5: over 11 recalls."""
        return self.measured(VOC2007)

    @property
    def presence(self) -> float:
        """How well the highest score of a class tells the pictures that hold it: mean average precision of pictures."""
        return self.measured(PRESENCE)

    def measured(self, measure: Measure) -> float:
        """Any measure of all pictures."""
        pairs = zip(self.found, self.objects, strict=True)
        evidence = [measure.evidence(f, o, len(self.classes)) for f, o in pairs]
        return float(measure.value(evidence, np.ones((1, len(evidence)), int), len(self.classes))[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return {"map": self.map, "map50": self.map50, "map50_2007": self.map50_2007, "presence": self.presence}

    def __repr__(self) -> str:
        """One line: what it says, without the tensors."""
        return f"<{type(self).__name__}: {self}>"

    def __str__(self) -> str:
        """The measures in per cent."""
        boxes = sum(int(o.counted.sum()) for o in self.objects)
        return (
            f"mAP {100 * self.map:.2f} % (COCO: overlap .50 to .95), {100 * self.map50:.2f} % (VOC: overlap .5, whole "
            f"area), presence {100 * self.presence:.2f} %, {len(self.objects)} pictures, {boxes} boxes"
        )


def evaluate_boxes(net: nn.Module | Network, split: BoxSplit, batch_size: int = 32) -> BoxEvaluation:
    """Run a detector over whole pictures.

    Args:
        net: the detector.
        split: pictures with boxes.
        batch_size: pictures in a forward pass; where they have several sizes, they go through one by one.

    Raises:
        InputError: if there are no boxes, the network is no detector, or detects a class without a name.
    """
    check_some(split)
    net = net if isinstance(net, Network) else as_network(net)
    check_detector(net, split.classes)
    check_finite(net)
    found: list[Mapping[str, torch.Tensor]] = []
    with evaluating(net.module):
        for pictures in _batches(split, batch_size):
            with running(net, pictures.shape[1:]):
                output = net.module(net.prepared(pictures))
            found += [{k: v.cpu() for k, v in each.items()} for each in detections_in(output, len(split.classes))]
    return BoxEvaluation(tuple(found), split.objects, split.classes)


def _batches(split: BoxSplit, size: int) -> Iterator[torch.Tensor]:
    """Pictures in their order; of one size in a batch."""
    held: list[torch.Tensor] = []
    for picture, _ in split.rows():
        if held and (len(held) == size or held[0].shape != picture.shape):
            yield torch.stack(held)
            held = []
        held.append(picture)
    yield torch.stack(held)


def check_some(split: Any) -> None:
    """Refuse pictures in which nothing is to be found.

    Raises:
        InputError: naming the split.
    """
    if not split.boxes:
        raise InputError(f"split {split.name!r}: its {len(split)} pictures have no boxes to find; give some that have.")


def detections_in(output: Any, classes: int) -> list[Mapping[str, torch.Tensor]]:
    """What a detector gave for each picture.

    Args:
        output: a list of mappings with `boxes`, `scores` and `labels`.
        classes: that there are.

    Raises:
        InputError: for another output, or a class without a name.
    """
    needed = ("boxes", "scores", "labels")
    if not isinstance(output, list) or not all(isinstance(f, Mapping) and all(k in f for k in needed) for f in output):
        raise InputError(
            f"the network gives a {type(output).__name__}; a detector gives a list with boxes, scores and labels for "
            "each picture, as ww.load_model('ssd/small') or 'torchvision/ssdlite320_mobilenet_v3_large' does."
        )
    most = max((int(f["labels"].max()) for f in output if len(f["labels"])), default=0)
    if most >= classes:
        raise InputError(
            f"the network detects class {most}, but there are {classes} (0..{classes - 1}); load it with classes=… to "
            "match the data."
        )
    return list(output)
