"""Evaluate a network: which pictures it gets right."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn

from whatwhere.data import Data, Split
from whatwhere.data.boxes import Boxes, BoxSplit
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.intervals import binomial
from whatwhere.network import Network, check_finite, running
from whatwhere.scores.classes import among_highest
from whatwhere.site import evaluating
from whatwhere.training.evaluate_boxes import BoxEvaluation, evaluate_boxes
from whatwhere.training.evaluate_scenes import SceneEvaluation, evaluate_scenes
from whatwhere.training.scores import check_scores, check_several

FEW = 32  # pictures that a detector gets at once, at most: its maps are large


@dataclass(frozen=True)
class Evaluation:
    """What a network got right.

    Attributes:
        correct: (N,) bool, for each picture in the split's order.
        loss: mean cross-entropy.
    """

    correct: Tensor
    loss: float

    @property
    def n(self) -> int:
        """How many pictures were looked at."""
        return len(self.correct)

    @property
    def accuracy(self) -> float:
        """Share of pictures whose highest score is their label, in [0, 1]."""
        return int(self.correct.sum()) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the accuracy (Clopper and Pearson), over pictures."""
        return binomial(int(self.correct.sum()), self.n)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return {"accuracy": self.accuracy, "loss": self.loss}

    def __repr__(self) -> str:
        """One line: what it says, without the tensors."""
        return f"<{type(self).__name__}: {self}>"

    def __str__(self) -> str:
        """The accuracy in per cent with its interval."""
        low, high = self.interval
        return f"{100 * self.accuracy:.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {self.n:,} pictures"


@overload
def evaluate(net: nn.Module | Network, data: Data | Split, *, batch_size: int = 256) -> Evaluation: ...
@overload
def evaluate(net: nn.Module | Network, data: Scenes | SceneSplit, *, batch_size: int = 256) -> SceneEvaluation: ...
@overload
def evaluate(net: nn.Module | Network, data: Boxes | BoxSplit, *, batch_size: int = 256) -> BoxEvaluation: ...
@overload
def evaluate(
    net: nn.Module | Network, data: Data | Split | Scenes | SceneSplit | Boxes | BoxSplit, *, batch_size: int = 256
) -> Evaluation | SceneEvaluation | BoxEvaluation: ...
def evaluate(
    net: nn.Module | Network, data: Data | Split | Scenes | SceneSplit | Boxes | BoxSplit, *, batch_size: int = 256
) -> Evaluation | SceneEvaluation | BoxEvaluation:
    """Run a network over a test split and compare what it predicts with the labels.

    >>> with ww.need.shuffle(net, "last 30%"):
    ...     print(ww.evaluate(net, data))

    Args:
        net: the network. A plain module gets pictures scaled to mean 0.5, std 0.5; wrap it in
            `ww.Network(module, preprocessing)` to say what it expects.
        data: pictures, scenes, or pictures with boxes; of a `Data`, `Scenes` or `Boxes` the test split is taken.
        batch_size: pictures in a forward pass, at most 32 for a detector; scenes go through one by one.

    Returns:
        Which pictures are right; of scenes, how many pixels of each class were predicted as which; of pictures with
        boxes, what was found.

    Raises:
        InputError: if the pictures have no labels or a single class, the network does not run on them, has weights or
            gives scores that are not finite, gives no tensor, or fewer scores than there are classes.
    """
    if isinstance(data, str | os.PathLike):
        raise InputError(f"data={os.fspath(data)!r}: give pictures, such as ww.load_data({os.fspath(data)!r}).")
    split = data.test if isinstance(data, Data | Scenes | Boxes) else data
    if isinstance(split, BoxSplit):
        return evaluate_boxes(net, split, min(batch_size, FEW))
    net = net if isinstance(net, Network) else Network(net)
    check_finite(net)
    return evaluate_scenes(net, split) if isinstance(split, SceneSplit) else _evaluate(net, split, batch_size)


def evaluate_among(net: Network, split: Split, k: int, *, batch_size: int = 256) -> Evaluation:
    """The same of pictures, each right where its label is among the k highest scores.

    Args:
        net: the network.
        split: pictures with labels.
        k: how many.
        batch_size: pictures in a forward pass.

    Raises:
        InputError: as by `evaluate`; for fewer than k + 1 scores.
    """
    return _evaluate(net, split, batch_size, k)


def _evaluate(net: Network, split: Split, batch_size: int, k: int = 1) -> Evaluation:
    check_several(split.classes)
    check_names(net, split)
    correct, loss = [], 0.0
    with evaluating(net.module):
        for images, labels in split.batches(batch_size, geometry=net.preprocessing):
            with running(net, images.shape[1:]):
                output = net.module(net.prepared(images))
            check_scores(output, labels)
            _warn_of_more(output.shape[1], split)
            scores, labels = output.float(), labels.to(output.device)
            correct.append(_right(scores, labels, k).cpu())
            loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
    return Evaluation(torch.cat(correct), loss / len(split))


def check_names(net: Network, split: Split) -> None:
    """Refuse pictures of which a class has another number than the network's score of that name.

    Names that only one of the two knows may be other words for the same, and say nothing.

    Args:
        net: the network, which may know its classes' names.
        split: the pictures.

    Raises:
        InputError: with the first such name; every picture of it would count as wrong.
    """
    own, theirs = net.classes, split.classes
    moved = [n for n in own if own.count(n) == theirs.count(n) == 1 and own.index(n) != theirs.index(n)]
    if moved:
        name, known = moved[0], ", ".join(own[:4]) + ", …" * (len(own) > 4)
        raise InputError(
            f"split {split.name!r}: class {name!r} is number {theirs.index(name)} of the pictures' {len(theirs)} "
            f"classes, and number {own.index(name)} of the network's {len(own)} ({known}): labels and scores do not "
            "mean the same. Give pictures of all the network's classes in that order (folders are read in the order of "
            "their names), or, if the network's names are wrong, a ww.Network with the right classes."
        )


def _right(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    if scores.shape[1] <= k:
        raise InputError(f"the network gives {scores.shape[1]} scores, of which the highest {k} hold any label.")
    return among_highest(scores, labels, k)


def _warn_of_more(scores: int, split: Split) -> None:
    """A thousand scores and two class folders: label 0 is hardly what the first score stands for."""
    if scores > len(split.classes) > 0:
        warnings.warn(
            f"the network gives {scores} scores, the data has {len(split.classes)} classes ({split.classes[0]}, …), "
            "taken for the first ones; see that labels and scores mean the same.",
            stacklevel=4,
        )
