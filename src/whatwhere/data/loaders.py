"""The user's own `DataLoader`: its batches as they are, always the same pictures in the same order.

A loader that shuffles would pair a picture's prediction with another's label in the next pass. Where it takes rows of a
`Dataset`, they are drawn once, sorted, and served in that order in every pass. Studies that compare picture by picture
over several runs refuse it all the same (`LoaderSplit.unsteady`): another run may draw other rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from whatwhere.data.parts import Part
from whatwhere.data.pixels import BrokenPicture
from whatwhere.data.prepared import check_finite, check_scale
from whatwhere.data.sources import Memory, Source
from whatwhere.data.split import Split, balanced_rows, check_count
from whatwhere.data.torch_sets import class_names
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
FEW, TIMES = 64, 7  # of so few batches, the order is listed again so often to see whether it changes; else once


def loader_part(loader: DataLoader[Any]) -> Part:
    """A `DataLoader` as a part; one pass reads the labels.

    Raises:
        InputError: if a batch is not a pair of images (n, C, H, W) and labels (n,).
    """
    steady = Steady(loader)
    first, labels = read_once(steady.loader)
    return Part(first, labels, class_names(loader.dataset), partial(LoaderSplit, steady))


class Steady:
    """A user's loader, with its order drawn once.

    Attributes:
        given: the loader as the user made it.
        drawn: why its rows are others in another run, where that is known already.
    """

    def __init__(self, given: DataLoader[Any], drawn: str = "") -> None:
        self.given, self.drawn = given, drawn

    @cached_property
    def loader(self) -> DataLoader[Any]:
        """The same pictures in one order in every pass, where the given loader takes rows of a `Dataset`."""
        as_it_is = self._in_order and getattr(self.given, "in_order", True)
        if as_it_is or self._own or isinstance(self.given.dataset, IterableDataset):
            return self.given
        if self.rows is None or self._batches is None:  # the sampler's keys are no numbers, or each is a whole batch
            return self._again(sampler=list(self._samplers[0]), batch_size=None)
        return self._again(batch_sampler=[part.tolist() for part in self.rows.split([len(b) for b in self._batches])])

    @cached_property
    def shuffles(self) -> str:
        """Why two passes of the given loader may differ in their order; "" if they do not."""
        if self.drawn or self._in_order:
            return self.drawn
        if isinstance(self.given.dataset, IterableDataset):
            return "is over an IterableDataset, which has an order of its own"
        if self._own:
            return f"is a {type(self.given).__name__}, which has an order of its own"
        random = next((s for s in self._samplers if _random(s)), None)
        if random is None and not self._lists_alike:
            random = self._samplers[-1]
        return "" if random is None else f"shuffles ({type(random).__name__})"

    @cached_property
    def rows(self) -> Tensor | None:
        """The row of the `Dataset` that each picture is, sorted if they are shuffled; None without rows by number."""
        if self._batches is None:
            return None
        rows = torch.tensor([row for batch in self._batches for row in batch], dtype=torch.int64)
        return rows.sort().values if self.shuffles else rows

    def part(self, rows: Tensor, size: int) -> DataLoader[Any]:
        """Some pictures, by their number, in batches of a size.

        Raises:
            InputError: if the loader takes no rows.
        """
        if self.rows is None:
            raise InputError(
                "order cannot be given for this DataLoader, which takes no rows by number; give its Dataset instead: "
                "load_data(loader.dataset)."
            )
        return self._again(batch_sampler=[part.tolist() for part in self.rows[rows].split(size)])

    @property
    def _own(self) -> bool:
        """Whether the loader's class decides itself what it serves."""
        return type(self.given).__iter__ is not DataLoader.__iter__

    @property
    def _samplers(self) -> list[Any]:
        """What decides the order: the outer sampler, and what it takes its rows from."""
        found: list[Any] = [self.given.sampler if self.given.batch_sampler is None else self.given.batch_sampler]
        while (inner := getattr(found[-1], "sampler", None)) is not None and inner not in found:
            found.append(inner)
        return found

    @property
    def _in_order(self) -> bool:
        """Whether rows come as they are numbered: nothing needs to be listed to know that."""
        kinds = [type(sampler) for sampler in self._samplers]
        return not self._own and kinds in ([SequentialSampler], [BatchSampler, SequentialSampler])

    @cached_property
    def _batches(self) -> list[list[int]] | None:
        """The rows of each batch, drawn once."""
        streams = self._own or isinstance(self.given.dataset, IterableDataset)
        return None if streams or self.given.batch_sampler is None else _listed(self.given.batch_sampler)

    @property
    def _lists_alike(self) -> bool:
        """Whether a sampler of another kind gives its rows in the same order again."""
        sampler = self._samplers[0]
        first = _listed(sampler)
        times = TIMES if first is not None and len(first) <= FEW else 1
        return first is not None and all(_listed(sampler) == first for _ in range(times))

    def _again(self, **rows: Any) -> DataLoader[Any]:
        """A loader with the settings of the given one for other rows."""
        given = self.given
        return DataLoader(
            given.dataset,
            **rows,
            num_workers=given.num_workers,
            collate_fn=given.collate_fn,
            worker_init_fn=given.worker_init_fn,
            multiprocessing_context=given.multiprocessing_context,
        )


def _random(sampler: Any) -> bool:
    """Whether a sampler draws its rows; a distributed one does if it says so."""
    return isinstance(sampler, SHUFFLING) or bool(getattr(sampler, "shuffle", False))


def _listed(sampler: Any) -> list[list[int]] | None:
    """The rows that a sampler gives, batch by batch; None if they are not numbers."""
    try:
        return [[index(row) for row in (batch if isinstance(batch, Iterable) else [batch])] for batch in sampler]
    except TypeError:
        return None


class LoaderSplit(Split):
    """A user's `DataLoader` as a split: its batches, the same in every pass where it takes rows of a `Dataset`."""

    def __init__(self, steady: Steady, name: str, first: Source, labels: Tensor, classes: Sequence[str]) -> None:
        """Keep the loader, the pictures of its first batch and the labels of one pass."""
        self.steady = steady
        super().__init__(name, first, labels, classes)

    @cached_property
    def unsteady(self) -> str:
        """Why the pictures cannot be compared one by one over several runs; "" if they can."""
        if self.steady.shuffles:
            return self.steady.shuffles
        again = next(iter(checked_batches(self.steady.loader)))[0]
        same = torch.equal(again, self.source.images)  # type: ignore[attr-defined]
        return "" if same else "gives other pictures in each pass (a random transform)"

    @property
    def ordered(self) -> bool:
        """False if another run of the same program may serve other pictures, or another order."""
        return not self.unsteady

    @cached_property
    def fingerprint(self) -> str:
        """Of the first batch and the labels; of the label counts only if the order is known to change."""
        labels = self.labels if self.ordered else self.labels.sort().values
        digest = hashlib.sha256(f"{len(self)} {len(self.classes)}".encode())
        digest.update(labels.numpy().astype("<i8").tobytes())
        if self.ordered:
            digest.update(np.ascontiguousarray(self.source.images.numpy()).tobytes())  # type: ignore[attr-defined]
        return digest.hexdigest()[:16]

    @cached_property
    def contents(self) -> str:
        """Nothing: every picture would have to be made, and a transform may draw another."""
        return ""

    def shape(self, geometry: Preprocessing | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the loader's pictures; `geometry` has no effect."""
        return super().shape(None)

    def whole(self, geometry: Preprocessing | None = None) -> Tensor | None:
        """None: its pictures are served as the loader gives them."""
        return None

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve the loader's batches, or pictures in an order in batches of `size`; `geometry` has no effect.

        Raises:
            InputError: if an order is given and the loader takes no rows by number, or the labels are not those that it
                gave before.
        """
        if size < 1:
            raise InputError(f"size={size}: a batch holds at least one picture; give 1 or more.")
        if order is None:
            return self._same(self.steady.loader, self.labels)
        rows = self.checked(order)
        return self._same(self.steady.part(rows, size), self.labels[rows])

    def _same(self, loader: DataLoader[Any], labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """A pass, whose labels must be those of the first one."""
        done = 0
        for images, batch in checked_batches(loader):
            if not torch.equal(batch, labels[done : done + len(batch)]):
                raise InputError(
                    f"split {self.name!r}: the DataLoader {self.steady.shuffles or 'gives other labels than before'}, "
                    "and its pictures come in another order in this pass; give its Dataset: load_data(loader.dataset)."
                )
            done += len(batch)
            yield images, batch

    def take(self, n: int, *, seed: int = 0) -> Split:
        """A random part, as `Split.take`, served in order by a loader with the same settings.

        Raises:
            InputError: if n is below 1, or the loader takes no rows by number.
        """
        check_count(n)
        if n >= len(self):
            return self
        rows = self.steady.rows
        if rows is None:
            raise InputError("n: a DataLoader without rows by number cannot be sampled; give one of fewer pictures.")
        dataset: Any = self.steady.given.dataset
        part = Subset(dataset, rows[balanced_rows(self.labels, n, seed)].tolist())
        every = torch.equal(rows, torch.arange(len(dataset)))  # a shuffled order of all is sorted away
        steady = Steady(plain_loader(self.steady.given, part), "" if every else self.steady.shuffles)
        return LoaderSplit(steady, self.name, *read_once(steady.loader), self.classes)


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
        yield _usable(images.cpu(), number), labels.cpu().to(torch.int64)


def _usable(images: Tensor, number: int) -> Tensor:
    """Images of a batch that are finite, and scaled."""
    try:
        return check_scale(f"batch {number} of the DataLoader", check_finite(images))
    except BrokenPicture as error:
        raise InputError(f"source: batch {number} of the DataLoader cannot be used: {error}.") from error
