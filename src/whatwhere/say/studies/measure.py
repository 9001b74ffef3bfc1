"""What is measured of a network behind a site: confusions, and cell by cell its scores and concept maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.say.layer import Bottleneck, overwriting
from whatwhere.say.studies.features import SiteFeatures
from whatwhere.say.tail import Tail
from whatwhere.site import evaluating
from whatwhere.training.evaluate_scenes import confusion
from whatwhere.training.objectives import at_size, score_maps

BATCH = 4
EditRows = Callable[[Tensor, Tensor], Tensor]  # concept maps and their rows -> concept maps


@dataclass(frozen=True)
class Cells:
    """What a network says where the centres of the features' cells lie.

    Attributes:
        scores: (N, classes, h, w).
        labels: (N, h, w) true class, 255 unlabelled.
        maps: (N, K, h, w) concept maps; None without a bottleneck.
    """

    scores: Tensor
    labels: Tensor
    maps: Tensor | None

    @property
    def said(self) -> Tensor:
        """(N, h, w) predicted class."""
        return self.scores.argmax(1)

    @property
    def concepts(self) -> Tensor:
        """The concept maps.

        Raises:
            ValueError: for a network without a bottleneck.
        """
        if self.maps is None:
            raise ValueError("the network has no bottleneck.")
        return self.maps


def confusions(
    tail: Tail, held: SiteFeatures, classes: int, *, edit: EditRows | None = None, rows: Tensor | None = None
) -> Tensor:
    """Confusions of each picture (N, classes, classes), at the labels' resolution.

    Args:
        tail: the network from the site on.
        held: what the site held.
        classes: of the task.
        edit: overwrites concept maps, given their rows; None: as they are.
        rows: only some pictures.
    """
    found = []
    for _, scores, labels in _outputs(tail, held, edit, rows):
        found += [confusion(s.argmax(0), y, classes) for s, y in zip(scores, labels, strict=True)]
    return torch.stack(found)


def cells(tail: Tail, held: SiteFeatures, layer: Bottleneck | None) -> tuple[Cells, Tensor]:
    """Scores, labels and concept maps at the cells' centres, and the confusions as by `confusions`, in one pass."""
    size = held.features.shape[-2:]
    parts: list[tuple[Tensor, ...]] = []
    classes = len(held.split.classes)
    for features, scores, labels in _outputs(tail, held, None, None):
        counted = torch.stack([confusion(s.argmax(0), y, classes) for s, y in zip(scores, labels, strict=True)])
        maps = layer.concept_maps(features) if layer else torch.empty(len(features), 0, *size)
        centres = functional.interpolate(scores, size=tuple(size), mode="nearest-exact")
        at = functional.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
        parts.append((centres, at, maps, counted))
    scores, labels, maps, counted = (torch.cat(p) for p in zip(*parts, strict=True))
    return Cells(scores, labels, maps if layer else None), counted


def _outputs(
    tail: Tail, held: SiteFeatures, edit: EditRows | None, rows: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Features, scores at the labels' resolution, labels: batch by batch."""
    order = torch.arange(len(held)) if rows is None else rows
    layers = [m for m in tail.modules() if isinstance(m, Bottleneck)]
    with evaluating(tail):
        for part, (features, labels) in zip(order.split(BATCH), held.batches(BATCH, order=order), strict=True):
            changed: Any = overwriting(layers[0], _of_rows(edit, part)) if edit and layers else nullcontext()
            with changed:
                scores, _ = score_maps(tail(features))
            _check_classes(scores, held)
            yield features, at_size(scores, labels), labels


def _check_classes(scores: Tensor, held: SiteFeatures) -> None:
    if scores.shape[1] != len(held.split.classes):
        raise InputError(
            f"the network gives {scores.shape[1]} scores a pixel, and there are {len(held.split.classes)} classes; "
            "load it with classes=… to match the data."
        )


def _of_rows(edit: EditRows, rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda maps: edit(maps, rows)


def table_ceiling(
    train: tuple[NDArray[np.int8], Tensor], test: tuple[NDArray[np.int8], Tensor], classes: int
) -> Tensor:
    """What the true concepts of a pixel alone allow: every combination of concepts says its commonest class.

    Args:
        train: concepts (N, K, h, w) and classes (N, h, w), to learn the table from.
        test: to apply it to; a combination never seen says the commonest class of all.
        classes: of the task.

    Returns:
        (N, classes, classes) confusions of the test pictures' cells.
    """
    keys, y = _combinations(train[0]), train[1].flatten().numpy()
    labelled = y != IGNORE
    known, index = np.unique(keys[labelled], return_inverse=True)
    counts = np.zeros((len(known), classes), np.int64)
    np.add.at(counts, (index, y[labelled]), 1)
    asked = _combinations(test[0])
    place = np.searchsorted(known, asked).clip(max=len(known) - 1)
    said = np.where(known[place] == asked, counts[place].argmax(1), counts.sum(0).argmax())
    shaped = torch.from_numpy(said).view(test[1].shape)
    return torch.stack([confusion(s, t, classes) for s, t in zip(shaped, test[1], strict=True)])


def _combinations(concepts: NDArray[np.int8]) -> NDArray[np.void]:
    """Each cell's concepts as one comparable value."""
    rows = np.ascontiguousarray(np.moveaxis(concepts, 1, -1).reshape(-1, concepts.shape[1])) + 1
    packed = np.packbits(np.stack([rows > 0, rows > 1], -1).reshape(len(rows), -1), axis=1)
    return np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()


def cell_labels(held: SiteFeatures) -> Tensor:
    """(N, h, w) true classes at the cells' centres."""
    maps = (labels[CLASS][None, None].float() for _, labels in held.split.rows())
    size = tuple(held.features.shape[-2:])
    return torch.cat([functional.interpolate(m, size=size, mode="nearest-exact") for m in maps])[:, 0].long()
