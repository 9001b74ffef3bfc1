"""Distillation: learn the scores that another network gives to the same pictures.

Source: [hinton2015].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.network import Network, running
from whatwhere.site import evaluating
from whatwhere.training.feed import Feed
from whatwhere.training.objectives import Classify, Loss
from whatwhere.training.recipes import Recipe
from whatwhere.training.scores import check_finite_scores


class Teacher(Protocol):
    """Gives the scores that are to be learned."""

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """Scores (N, classes) of augmented pictures (N, C, H, W), not yet normalised, which are rows of the split."""
        ...


@dataclass(frozen=True)
class Asked:
    """A teacher that runs on each batch, in evaluation mode.

    Attributes:
        net: the network; it is not changed.
    """

    net: Network

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """What the network gives."""
        with evaluating(self.net.module), running(self.net, images.shape[1:]):
            given: Tensor = self.net.module(self.net.prepared(images)).float()
        return given


@dataclass(frozen=True)
class Remembered:
    """What a teacher said of every picture of a split, where pictures are the same in each epoch.

    Attributes:
        table: (pictures, classes).
    """

    table: Tensor

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """The rows of the table."""
        return self.table[rows]


@dataclass(frozen=True)
class Target:
    """What a batch is to learn.

    Attributes:
        labels: (N,); -1 where there is none.
        scores: (N, classes) of the teacher.
    """

    labels: Tensor
    scores: Tensor

    def to(self, device: Any) -> Target:
        """The same on a device."""
        return Target(self.labels.to(device), self.scores.to(device, non_blocking=True))


@dataclass(frozen=True)
class Distil:
    """Cross-entropy with the labels, weighed against the divergence from a teacher's softened scores.

    The loss is (1 - weight) · CE + weight · T² · KL(softmax(teacher / T) || softmax(scores / T)), the mean over
    pictures; T² keeps the gradients' size where T changes. With a weight of 1 no label is used.

    Attributes:
        recipe: how to train.
        teacher: gives the scores.
        weight: of the divergence, in (0, 1].
        temperature: T.
    """

    shares: ClassVar[bool] = True  # the loss of a batch is the mean of its parts'
    recipe: Recipe
    teacher: Teacher
    weight: float
    temperature: float

    def batches(self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed) -> Iterator[tuple[Tensor, Target]]:
        """Pictures (N, C, H, W), and their classes with the teacher's scores of just these, as they were augmented."""
        parts = map(feed.share, order.split(self.recipe.batch_size))
        given = Classify(self.recipe).batches(train, order, draws, feed)
        for rows, (images, labels) in zip(parts, given, strict=True):
            yield images, Target(labels, self.teacher.scores(images, rows))

    def check(self, output: Tensor, train: Any) -> None:
        """Labels, where they are used, need scores."""
        if self.weight < 1:
            Classify(self.recipe).check(output, train)
        check_finite_scores(output)

    def loss(self, output: Tensor, target: Target) -> Loss:
        """The loss of scores (N, classes)."""
        scores, wanted = output.float(), target.scores.to(output.device)
        if scores.shape != wanted.shape:
            raise InputError(
                f"distill: the teacher gives scores {tuple(wanted.shape)}, the network {tuple(scores.shape)}; both "
                "must have the same classes."
            )
        value = self.weight * divergence(scores, wanted, self.temperature)
        if self.weight < 1:
            value = value + (1 - self.weight) * Classify(self.recipe).loss(output, target.labels).value
        labelled = target.labels >= 0
        right = (scores.detach().argmax(1) == target.labels) & labelled
        return Loss(value, right.sum(), labelled.sum())


def divergence(scores: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """T² · KL of softened scores, the mean over pictures.

    Args:
        scores: (N, classes), of the network that learns.
        wanted: (N, classes), of its teacher.
        temperature: T.
    """
    own, other = (functional.log_softmax(each / temperature, 1) for each in (scores, wanted))
    return temperature**2 * functional.kl_div(own, other, reduction="batchmean", log_target=True)
