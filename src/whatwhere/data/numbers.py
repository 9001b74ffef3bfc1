"""Pictures with numbers, such as an age or an angle, to measure networks that give numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whatwhere.data.parts import Data
from whatwhere.data.sources import Pairs, Rows, Source
from whatwhere.data.split import Split, check_count
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


class NumberSplit(Split):
    """Pictures and numbers; there are no classes.

    Attributes:
        numbers: (N, K) float32, K for each picture.
    """

    def __init__(self, name: str, source: Source, numbers: Tensor) -> None:
        """Join pictures and numbers.

        Args:
            name: of the split, in errors and records.
            source: N stored pictures.
            numbers: (N,) or (N, K).

        Raises:
            InputError: for no pictures, or numbers that are not finite; the message names the row.
        """
        super().__init__(name, source, torch.full((len(source),), -1))
        self.numbers = numbers.float().reshape(len(source), -1)
        wrong = (~self.numbers.isfinite()).any(1).nonzero()
        if len(wrong):
            raise InputError(
                f"split {name!r}, {source.place(int(wrong[0]))}: its number is NaN or infinite; correct it."
            )

    @property
    def comes_with(self) -> str:
        """What the pictures come with, as a score may need it."""
        return "numbers"

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the numbers and of what a `Split` has one of."""
        digest = hashlib.sha256(self.numbers.numpy().astype("<f4").tobytes())
        return hashlib.sha256(f"{super().fingerprint} {digest.hexdigest()}".encode()).hexdigest()[:16]

    def batches(
        self, size: int, *, geometry: Preprocessing | None = None, order: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve pictures (n, C, H, W) and their numbers (n, K), as `Split.batches` serves labels."""
        rows = torch.arange(len(self)) if order is None else order
        served = super().batches(size, geometry=geometry, order=order)
        for (images, _), some in zip(served, rows.split(size), strict=False):
            yield images, self.numbers[some]

    def take(self, n: int, *, seed: int = 0) -> Split:
        """Draw some pictures at random without replacement, in their order; the split itself if it has no more.

        Raises:
            InputError: if n is below 1.
        """
        check_count(n)
        if n >= len(self):
            return self
        rows = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n].sort().values
        return NumberSplit(self.name, Rows(self.source, rows), self.numbers[rows])


def numbered(dataset: Any, *, name: str = "dataset") -> Data:
    """A torch `Dataset` of (picture, number) pairs, of one number or several, as the split "test".

    >>> ww.need.curve(net, numbered(dataset), score="r2")

    Args:
        dataset: with `__len__` and `__getitem__`; each picture is read once.
        name: in reports.

    Raises:
        InputError: for an item that is not such a pair, or numbers that differ in how many they are.
    """
    pairs = Pairs(dataset)
    found = [_numbers(pairs.pair(row)[1], pairs.place(row)) for row in range(len(pairs))]
    if len({len(f) for f in found}) > 1:
        raise InputError(
            f"dataset: its pictures come with {sorted({len(f) for f in found})} numbers; give as many each."
        )
    return Data(name, {"test": NumberSplit("test", pairs, torch.stack(found) if found else torch.zeros(0, 1))})


def _numbers(given: Any, place: str) -> Tensor:
    found = np.asarray(given)  # also takes a tensor
    if found.dtype.kind not in "iuf" or found.ndim > 1 or not found.size:
        raise InputError(f"source: {place} has {given!r}; give a number, or a row of numbers.")
    return torch.from_numpy(found.astype(np.float32).reshape(-1))


def check_numbers(split: NumberSplit, what: str, *, varied: bool) -> None:
    """Refuse pictures whose numbers say nothing of a network.

    Args:
        split: the pictures.
        what: they are, for the error.
        varied: whether each number must differ between pictures, as the share of its variance does.

    Raises:
        InputError: for a single picture, or a number that is the same for all.
    """
    if len(split) < 2:
        raise InputError(f"{what}: there is 1 picture, and a score of numbers needs two or more; give more.")
    same = (split.numbers == split.numbers[0]).all(0).nonzero().flatten().tolist()
    if varied and same:
        value = float(split.numbers[0, same[0]])
        raise InputError(
            f"{what}: number {same[0]} is {value:g} for all {len(split)} pictures, so that it has no variance to "
            "predict; leave it out, or give score='mae'."
        )
