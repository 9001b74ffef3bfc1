"""The user's own PyTorch `Dataset` of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from whatwhere.data.parts import Part
from whatwhere.data.sources import Pairs
from whatwhere.errors import InputError


def dataset_part(dataset: Any) -> Part:
    """A torch `Dataset` of (picture, class number) pairs as a part.

    Each picture is read once and kept, so that a random transform is drawn once. Give a DataLoader for new draws.

    Raises:
        InputError: if it has no length, or an item is not such a pair.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise InputError(
            f"source is a {type(dataset).__name__} without rows by number; give a Dataset with __len__ and "
            "__getitem__, or a DataLoader over it."
        )
    pairs = Pairs(dataset)
    labels = stated_labels(dataset)
    if labels is None or not _agree(pairs, labels):
        labels = torch.tensor([whole(pairs.pair(row)[1], pairs.place(row)) for row in range(len(pairs))])
    return Part(pairs, labels.to(torch.int64), class_names(dataset))


def _agree(pairs: Pairs, labels: Tensor) -> bool:
    """Whether the listed labels are those of the items, checked at the first row of each of 32 classes."""
    rows = [int((labels == label).nonzero()[0]) for label in labels.unique()[:32]]
    return all(int(labels[row]) == whole(pairs.pair(row)[1], pairs.place(row)) for row in rows)


def stated_labels(dataset: Any) -> Tensor | None:
    """The labels that a data set lists separately (torchvision's `targets`), (N,); else None."""
    if isinstance(dataset, Subset):
        whole_set = stated_labels(dataset.dataset)
        return None if whole_set is None else whole_set[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    values = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    fits = labels.ndim == 1 and len(labels) == len(dataset) and not labels.is_floating_point()
    return labels.cpu() if fits else None


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """The data set's `classes`, as in torchvision."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def whole(label: Any, place: str) -> int:
    """A label as a number.

    Raises:
        InputError: if it is not one whole number.
    """
    number = np.asarray(label)  # also takes a tensor of one number
    if number.size == 1 and number.dtype.kind in "iu":
        return int(number.item())
    raise InputError(f"source: {place} has the label {label!r}; give a whole class number.")
