"""Evaluate a network: which pictures it gets right."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whatwhere.data import Data, Split
from whatwhere.errors import InputError, no_tensor
from whatwhere.intervals import wilson
from whatwhere.network import Network
from whatwhere.sites import evaluating


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
        return self.correct.float().mean().item()

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy, over pictures."""
        return wilson(int(self.correct.sum()), self.n)

    def __str__(self) -> str:
        """The accuracy in per cent with its interval."""
        low, high = self.interval
        return f"{100 * self.accuracy:.2f} % [{100 * low:.2f}, {100 * high:.2f}] of {self.n:,} pictures"


def evaluate(net: nn.Module | Network, data: Data | Split, *, batch_size: int = 256) -> Evaluation:
    """Run a network over a split and compare its highest scores with the labels.

    >>> with ww.shuffle(net, "last 30%"):
    ...     print(ww.evaluate(net, data))

    Args:
        net: the network. A plain module gets pictures scaled to mean 0.5, std 0.5; wrap it in
            `ww.Network(module, preprocessing)` to say what it expects.
        data: a split, or a `Data`, whose test split is taken.
        batch_size: pictures in a forward pass.

    Raises:
        InputError: if the pictures have no labels, the network gives no tensor, or fewer scores than there are classes.
    """
    net = net if isinstance(net, Network) else Network(net)
    split = data.test if isinstance(data, Data) else data
    correct, loss = [], 0.0
    with evaluating(net.module):
        for images, labels in split.batches(batch_size, geometry=net.preprocessing):
            output = net.module(net.prepared(images))
            check_scores(output, labels)
            _warn_of_more(output.shape[1], split)
            scores, labels = output.float(), labels.to(output.device)
            correct.append((scores.argmax(1) == labels).cpu())
            loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
    return Evaluation(torch.cat(correct), loss / len(split))


def _warn_of_more(scores: int, split: Split) -> None:
    """A thousand scores and two class folders: label 0 is hardly what the first score stands for."""
    if scores > len(split.classes) > 0:
        warnings.warn(
            f"the network gives {scores} scores, the data has {len(split.classes)} classes ({split.classes[0]}, …), "
            "taken for the first ones; see that labels and scores mean the same.",
            stacklevel=3,
        )


def check_scores(scores: Tensor, labels: Tensor) -> None:
    """Complain of scores that cannot be compared with the labels.

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
