"""Tasks of a training: how a batch is made from a split, and its loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.data.boxes import BoxSplit, ObjectsBatch
from whatwhere.data.scenes import SceneSplit, absent_note
from whatwhere.data.view_batches import view_batches
from whatwhere.data.views import SEEDS, Views
from whatwhere.errors import InputError
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.network import main_map
from whatwhere.training.augment import Moves, crop_and_scale, moved
from whatwhere.training.feed import Feed
from whatwhere.training.recipes import BoxRecipe, Recipe, SceneRecipe
from whatwhere.training.scores import check_scores, check_several


class Train(Protocol):
    """What `fit` needs of training pictures; the objective needs more."""

    @property
    def fingerprint(self) -> str:
        """Identifies the pictures."""
        ...

    def __len__(self) -> int:
        """Number of pictures."""
        ...


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, and how many predictions are right.

    Attributes:
        value: the loss to minimise.
        right: number of right predictions; a tensor stays on its device until the epoch is over.
        counted: number of predictions: pictures, or labelled pixels; None where nothing is right or wrong (boxes).
    """

    value: Tensor
    right: Tensor | int
    counted: Tensor | int | None


class Objective(Protocol):
    """A task, as `fit` needs it."""

    def batches(self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed) -> Iterator[tuple[Tensor, Any]]:
        """Augmented pictures, not yet normalised, and what is to be learned of them: labels, say.

        The draws are those of whole batches, whatever share of them `feed` gives to this process.
        """
        ...

    def check(self, output: Any, train: Any) -> None:
        """Refuse an output for the first batch that has no loss."""
        ...

    def loss(self, output: Any, labels: Any, /) -> Loss:
        """The loss of a batch."""
        ...


def objective_of(recipe: Recipe) -> Objective:
    """The task of a recipe."""
    if isinstance(recipe, BoxRecipe):
        return Detect(recipe)
    return Segment(recipe) if isinstance(recipe, SceneRecipe) else Classify(recipe)


@dataclass(frozen=True)
class Classify:
    """One class for each picture: cross-entropy."""

    shares: ClassVar[bool] = True  # the loss of a batch is the mean of its parts'
    recipe: Recipe

    def batches(self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures (N, C, H, W) and classes (N,)."""
        size, done = self.recipe.batch_size, 0
        if self.recipe.crop_area:
            yield from self._views(train, order, draws, feed)
            return
        parts = [Moves.drawn(len(rows), self.recipe, draws).each(feed.share) for rows in order.split(size)]
        moves = Moves.joined(parts).each(lambda v: v.to(feed.device))
        for images, labels in feed.batches(train, order, size):
            part = slice(done, done := done + len(images))
            yield moved(images, moves.each(lambda v, p=part: v[p]), self.recipe.crop_padding), labels  # type: ignore[misc]

    def _views(self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows cut out at random, this process's share of each batch."""
        assert self.recipe.crop_area
        views = Views(self.recipe.crop_area, self.recipe.crop_ratio, self.recipe.flip)
        seed = int(torch.randint(SEEDS, (), generator=draws))
        shares = [feed.share(rows) for rows in order.split(self.recipe.batch_size)]
        if not shares:
            return
        served = view_batches(train, len(shares[0]), views, seed=seed, geometry=feed.geometry, order=torch.cat(shares))
        for images, labels in served:
            yield images.to(feed.device), labels.to(feed.device)

    def check(self, output: Tensor, train: Any) -> None:
        """Every label of all training pictures needs a score, and there are two classes or more."""
        check_scores(output, train.labels)
        there = train.labels.unique().tolist()
        check_several([train.classes[label] for label in there], "the training split")

    def loss(self, output: Tensor, labels: Tensor) -> Loss:
        """The loss of scores (N, classes)."""
        scores = output.float()
        value = functional.cross_entropy(scores, labels, label_smoothing=self.recipe.label_smoothing)
        return Loss(value, (scores.detach().argmax(1) == labels).sum(), len(labels))


@dataclass(frozen=True)
class Labelled:
    """Class maps, and what a loss needs to know of them: counted on the host, so that it need not ask a GPU.

    Attributes:
        maps: (N, h, w).
        highest: class in them; -1 where no pixel is labelled.
        counted: labelled pixels.
        weight: (), of all labelled pixels.
    """

    maps: Tensor
    highest: int
    counted: int
    weight: Tensor

    @classmethod
    def of(cls, maps: Tensor, class_weights: Sequence[float] = ()) -> Labelled:
        """Maps on the host."""
        labelled = maps[maps != IGNORE]
        highest = int(labelled.max()) if len(labelled) else -1
        if not class_weights or highest >= len(class_weights):  # what is that high is refused with the scores
            return cls(maps, highest, len(labelled), torch.tensor(float(len(labelled))))
        return cls(maps, highest, len(labelled), torch.tensor(class_weights)[labelled].sum())

    def to(self, device: Any) -> Labelled:
        """The same on a device; the weight, a single number, is taken along by whatever uses it."""
        return replace(self, maps=self.maps.to(device, non_blocking=True))


@dataclass(frozen=True)
class Segment:
    """One class for each pixel: cross-entropy over labelled pixels, plus that of auxiliary scores, if any."""

    recipe: SceneRecipe

    def batches(
        self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed
    ) -> Iterator[tuple[Tensor, Labelled]]:
        """Crops (N, 3, h, w) and their class maps (N, h, w); without a crop, the inputs as they are."""
        for pictures, maps in self._pairs(train, order, draws):
            yield pictures, Labelled.of(maps, self.recipe.class_weights)

    def _pairs(self, train: Any, order: Tensor, draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.recipe.batch_size
        if self.recipe.crop is None:
            yield from train.batches(size, order=order)
            return
        for part in order.split(size):
            pairs = train.rows(part.tolist())
            crops = [crop_and_scale(picture, labels[CLASS], self.recipe, draws) for picture, labels in pairs]
            yield torch.stack([p for p, _ in crops]), torch.stack([m for _, m in crops])

    def check(self, output: Any, train: Any) -> None:
        """Class weights, if any, are one for each score; classes that no training map holds are said."""
        scores, given = score_maps(output)[0], len(self.recipe.class_weights)
        if given not in (0, scores.shape[1]):
            raise InputError(
                f"recipe: {given} class_weights, but the network gives {scores.shape[1]} scores; give one for each."
            )
        if isinstance(train, SceneSplit) and train.absent:
            there = [name for name in train.classes if name not in train.absent]
            if not there:
                raise InputError(f"split {train.name!r}: no pixel of its label maps is labelled; correct the maps.")
            check_several(there, "the training split")
            warnings.warn(f"{absent_note(train)} Nothing is learned of it.", stacklevel=5)

    def loss(self, output: Any, labels: Labelled) -> Loss:
        """The loss of scores (N, classes, h, w), alone, in a pair with auxiliary scores, or in torchvision's dict."""
        scores, auxiliary = score_maps(output)
        check_highest(scores, labels.highest)
        value = self._of(scores, labels)
        if auxiliary is not None and self.recipe.auxiliary:
            value = value + self.recipe.auxiliary * self._of(auxiliary, labels)
        maps = labels.maps
        right = (at_size(scores.detach(), maps).argmax(1) == maps) & (maps != IGNORE)
        return Loss(value, right.sum(), labels.counted)

    def _of(self, scores: Tensor, labels: Labelled) -> Tensor:
        weights = self.recipe.class_weights
        total = functional.cross_entropy(
            at_size(scores, labels.maps),
            labels.maps,
            torch.tensor(weights).to(scores.device, non_blocking=True) if weights else None,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=self.recipe.label_smoothing,
        )
        # Not torch's mean, which is 0 / 0 for a crop without labelled pixels.
        return total / labels.weight.clamp(min=1e-6)


@dataclass(frozen=True)
class Detect:
    """Boxes and their classes."""

    recipe: BoxRecipe

    def batches(
        self, train: Any, order: Tensor, draws: torch.Generator, feed: Feed
    ) -> Iterator[tuple[Tensor, ObjectsBatch]]:
        """Pictures (N, C, H, W), each mirrored with probability 0.5 if the recipe says so, and their objects."""
        check_boxes(train)
        for images, objects in train.batches(self.recipe.batch_size, geometry=feed.geometry, order=order):
            if not self.recipe.flip:
                yield images, objects
                continue
            mirrored = torch.rand(len(images), generator=draws) < 0.5
            turned = (o.mirrored(images.shape[3]) if m else o for o, m in zip(objects, mirrored.tolist(), strict=True))
            yield torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images), ObjectsBatch(turned)

    def check(self, output: Any, train: Any) -> None:
        """The network gives losses, and there are boxes to learn from."""
        if not hasattr(output, "losses"):
            raise InputError(
                f"the network gives a {type(output).__name__} in training, and boxes are learned by a detector; give "
                "ww.load_model('ssd/small'), 'torchvision/ssdlite320_mobilenet_v3_large' or the like."
            )
        if not train.boxes:
            raise InputError(f"split {train.name!r}: its pictures have no boxes to learn from.")

    def loss(self, output: Any, labels: ObjectsBatch) -> Loss:
        """The sum of the detector's losses."""
        parts: dict[str, Tensor] = output.losses(labels)
        return Loss(torch.stack([*parts.values()]).sum(), 0, None)


def check_boxes(train: Any) -> None:
    """Refuse pictures without boxes.

    Raises:
        InputError: naming what they are.
    """
    if not isinstance(train, BoxSplit):
        raise InputError(
            f"train is a {type(train).__name__}; a detector learns from pictures with boxes, such as "
            "ww.load_data('drawn/boxes').train."
        )


def score_maps(output: Any) -> tuple[Tensor, Tensor | None]:
    """The scores and auxiliary scores of a segmentation network, from any usual form of its output.

    Auxiliary scores are `aux` of a mapping, or the second map of a pair, with as many classes as the first.

    Raises:
        InputError: if the output holds no scores (N, classes, h, w).
    """
    main = main_map(output)
    second = output.get("aux") if isinstance(output, Mapping) else None
    if isinstance(output, tuple | list) and len(output) == 2:
        second = output[1]
    if isinstance(second, Tensor) and second is not main and second.ndim == 4 and second.shape[1] == main.shape[1]:
        return main.float(), second.float()
    return main.float(), None


def at_size(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores at the labels' resolution, bilinear."""
    size = labels.shape[-2:]
    if scores.shape[-2:] == size:
        return scores
    return functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)


def check_maps(scores: Tensor, labels: Tensor) -> None:
    """Refuse labels without a score."""
    labelled = labels[labels != IGNORE]
    check_highest(scores, int(labelled.max()) if len(labelled) else -1)


def check_highest(scores: Tensor, highest: int) -> None:
    """Refuse a highest label without a score.

    Raises:
        InputError: naming the label and the number of scores (N, classes, h, w).
    """
    if highest >= scores.shape[1]:
        raise InputError(
            f"data has label {highest}, but the network gives {scores.shape[1]} scores a pixel; load it "
            "with classes=… to match the data."
        )
