"""The user's own PyTorch data: a `Dataset` of pairs, or a `DataLoader` of prepared batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler, Subset

from whatwhere.data.parts import Part
from whatwhere.data.sources import Memory, Pairs, Source
from whatwhere.data.split import Split, balanced_rows
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


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


def loader_part(loader: DataLoader[Any]) -> Part:
    """A `DataLoader` as a part; one pass reads the labels.

    Raises:
        InputError: if a batch is not a pair of images (n, C, H, W) and labels (n,).
    """
    first, labels = read_once(loader)
    return Part(first, labels, class_names(loader.dataset), partial(LoaderSplit, loader))


class LoaderSplit(Split):
    """A user's `DataLoader` as a split: its batches are served unchanged, in its own order.

    `labels` are those of one pass; a loader that shuffles serves another order in the next pass.
    """

    def __init__(
        self, loader: DataLoader[Any], name: str, first: Source, labels: Tensor, classes: Sequence[str]
    ) -> None:
        """Keep the loader, the pictures of its first batch and the labels of one pass."""
        self.loader = loader
        super().__init__(name, first, labels, classes)

    @property
    def ordered(self) -> bool:
        """False if the loader shuffles."""
        return isinstance(self.loader.sampler, SequentialSampler)

    @property
    def fingerprint(self) -> str:
        """Of the first batch and the labels; of the label counts only if the loader shuffles."""
        labels = self.labels if self.ordered else self.labels.sort().values
        digest = hashlib.sha256(f"{len(self)} {len(self.classes)}".encode())
        digest.update(labels.numpy().astype("<i8").tobytes())
        if self.ordered:
            digest.update(np.ascontiguousarray(self.source.images.numpy()).tobytes())  # type: ignore[attr-defined]
        return digest.hexdigest()[:16]

    def shape(self, geometry: Preprocessing | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the loader's pictures; `geometry` has no effect."""
        return super().shape(None)

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve the loader's batches; `size` and `geometry` have no effect.

        Raises:
            InputError: if an order is given.
        """
        if order is not None:
            raise InputError(
                "order cannot be given for a DataLoader, which has its own; give its Dataset instead: "
                "load_data(loader.dataset)."
            )
        return checked_batches(self.loader)

    def take(self, n: int, *, seed: int = 0) -> Split:
        """A random part, as `Split.take`, served in order by a loader with the same settings.

        Raises:
            InputError: if n is below 1, or the loader's data set has no rows by number.
        """
        if n < 1:
            raise InputError(f"n={n}: take at least one picture.")
        if n >= len(self):
            return self
        if isinstance(self.loader.dataset, IterableDataset):
            raise InputError("n: a DataLoader over an IterableDataset cannot be sampled; give one of fewer pictures.")
        _, labels = read_once(plain_loader(self.loader, self.loader.dataset))
        part = Subset(self.loader.dataset, balanced_rows(labels, n, seed).tolist())
        loader = plain_loader(self.loader, part)
        return LoaderSplit(loader, self.name, *read_once(loader), self.classes)


def plain_loader(loader: DataLoader[Any], dataset: Any) -> DataLoader[Any]:
    """A loader with the settings of another that reads a data set in order."""
    return DataLoader(dataset, loader.batch_size or 64, num_workers=loader.num_workers, collate_fn=loader.collate_fn)


def read_once(loader: DataLoader[Any]) -> tuple[Memory, Tensor]:
    """The images of the first batch, (n, C, H, W), and the labels of all, (N,)."""
    first = torch.empty(0)
    labels: list[Tensor] = []
    for images, batch in checked_batches(loader):
        first = first if labels else images
        labels.append(batch)
    return Memory(first), torch.cat(labels) if labels else torch.empty(0, dtype=torch.int64)


def checked_batches(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """A loader's batches, refused if they are not (images, labels)."""
    for number, batch in enumerate(loader):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not all(isinstance(part, Tensor) for part in batch):
            raise InputError(
                f"source: batch {number} of the DataLoader is {type(batch).__name__}, not a pair of "
                "tensors; its batches must be (images (n, C, H, W), labels (n,))."
            )
        images, labels = batch
        if images.ndim != 4 or labels.shape != images.shape[:1] or labels.is_floating_point():
            raise InputError(
                f"source: batch {number} of the DataLoader has images {tuple(images.shape)} and labels "
                f"{tuple(labels.shape)} ({labels.dtype}); give (n, C, H, W) and (n,) whole numbers."
            )
        yield images.cpu(), labels.cpu().to(torch.int64)
