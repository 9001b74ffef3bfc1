"""The pictures that a read-out is fitted to and tested on, and those without any content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whatwhere.data import Data, Split
from whatwhere.data.loaders import LoaderSplit
from whatwhere.data.parts import EVALUATION
from whatwhere.data.sources import Rows
from whatwhere.data.split_names import TRAIN, first_of
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

PICTURES = "pictures"
NOISES = 20  # pictures of noise


@dataclass(frozen=True)
class Pictures:
    """Which pictures fit, which choose the penalty, which test.

    Attributes:
        fit: to fit.
        held_out: to choose the penalty.
        test: to test on.
    """

    fit: Split
    held_out: Split
    test: Split

    def describe(self) -> dict[str, Any]:
        """Counts and fingerprints, for a record."""
        parts = {"fit": self.fit, "held out": self.held_out, "test": self.test}
        return {name: {"pictures": len(s), "fingerprint": s.fingerprint} for name, s in parts.items()}


def pictures_of(data: Data, test: Data | None, most: int, most_test: int, seed: int) -> Pictures:
    """Divide the pictures at random.

    With a test set of its own, or a split `train` beside the test split, four fifths of the first fit and one chooses
    the penalty; a single split is divided 60 : 15 : 25 (fit, choose, test).

    Args:
        data: to fit on; also to test on without `test`.
        test: another data set to test on, as in the paper.
        most: at most this many pictures to fit and to choose the penalty.
        most_test: at most this many to test on.
        seed: of the division.

    Raises:
        InputError: for too few pictures.
    """
    if most < 2 or most_test < 2:
        raise InputError(f"pictures={most}, test_pictures={most_test}: give at least 2 to fit and 2 to test.")
    if any(isinstance(s, LoaderSplit) for d in (data, test) if d for s in d.splits.values()):
        raise InputError("data: a DataLoader has no rows to divide; give its Dataset, load_data(loader.dataset).")
    g = torch.Generator().manual_seed(seed)
    learned = first_of(data.splits, TRAIN)
    fit = data.test if learned is None else learned
    order = torch.randperm(len(fit), generator=g)
    has_test = test is not None or (learned is not None and first_of(data.splits, EVALUATION) is not None)
    if not has_test:
        other, cut = fit, len(fit) // 4
        order, test_rows = order[cut:], order[:cut]
    else:
        other = (test or data).test
        test_rows = torch.randperm(len(other), generator=g)
    order, test_rows = order[:most], test_rows[:most_test]
    if len(order) < 2 or len(test_rows) < 2:
        raise InputError(
            f"{len(order)} pictures to fit and {len(test_rows)} to test are too few; give at least 2 of each "
            "(a single split is divided 3 : 1, so 8)."
        )
    held_out = max(1, len(order) // 5)
    return Pictures(part_of(fit, order[held_out:]), part_of(fit, order[:held_out]), part_of(other, test_rows))


def part_of(split: Split, rows: Tensor) -> Split:
    """Some pictures alone, so that no other is decoded."""
    return Split(split.name, Rows(split.source, rows), split.labels[rows], split.classes)


def blank(name: str, prep: Preprocessing, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Pictures without content, prepared like any other.

    Args:
        name: black, white, or noise (uniform, independent in every pixel and channel; 20 pictures).
        prep: of the network.
        shape: (C, H, W).
        seed: of the noise.
    """
    g = torch.Generator().manual_seed(seed)
    if name == "noise":
        raw = torch.randint(0, 256, (NOISES, *shape), generator=g, dtype=torch.uint8)
    else:
        raw = torch.full((1, *shape), 255 if name == "white" else 0, dtype=torch.uint8)
    return prep.normalise(raw)


def prepared(
    split: Split, prep: Preprocessing, batch: int, order: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (numbers in the split, prepared pictures)."""
    order = torch.arange(len(split)) if order is None else order
    for part, (images, _) in zip(order.split(batch), split.batches(batch, geometry=prep, order=order), strict=True):
        yield part, prep.normalise(images)
