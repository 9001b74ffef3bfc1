"""The pictures a read-out is fitted to and tested on, and those without any content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from whatwhere.data import Data, Split
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

PICTURES = "pictures"
NOISES = 20  # pictures of noise


@dataclass(frozen=True)
class Pictures:
    """Which pictures fit, which choose the penalty, which test.

    Attributes:
        fit: the split that the first two come from.
        rows: (n,) of `fit`, to fit.
        held_out: (m,) of `fit`, to choose the penalty.
        test: the split to test on.
        test_rows: (t,) of `test`.
    """

    fit: Split
    rows: Tensor
    held_out: Tensor
    test: Split
    test_rows: Tensor

    def describe(self) -> dict[str, int]:
        """Counts, for a record."""
        return {"fit": len(self.rows), "held out": len(self.held_out), "test": len(self.test_rows)}


def pictures_of(data: Data, test: Data | None, most: int, most_test: int, seed: int) -> Pictures:
    """Divide the pictures at random.

    With a test set of its own, or a split `train` beside the test split, four fifths of the first fit and one chooses
    the penalty; a single split is divided 60 : 15 : 25.

    Args:
        data: to fit on; also to test on if there is no `test`.
        test: another data set to test on, as in the paper.
        most: at most so many pictures to fit and to choose the penalty.
        most_test: at most so many to test.
        seed: of the division.

    Raises:
        InputError: for too few pictures.
    """
    if most < 2 or most_test < 1:
        raise InputError(f"pictures={most}, test_pictures={most_test}: give at least 2 to fit and 1 to test.")
    g = torch.Generator().manual_seed(seed)
    fit = data.train if "train" in data.splits else data.test
    order = torch.randperm(len(fit), generator=g)
    if test is not None or fit is not data.test:
        other = test.test if test is not None else data.test
        test_rows = torch.randperm(len(other), generator=g)
    else:
        other, cut = fit, max(1, len(fit) // 4)
        order, test_rows = order[cut:], order[:cut]
    order = order[:most]
    if len(order) < 2:
        raise InputError(
            f"{len(order) + len(test_rows)} pictures are too few to fit, choose and test; give at least 4."
        )
    held_out = max(1, len(order) // 5)
    return Pictures(fit, order[held_out:], order[:held_out], other, test_rows[:most_test])


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


def prepared(split: Split, rows: Tensor, prep: Preprocessing, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (row numbers, prepared pictures)."""
    served = split.batches(batch, geometry=prep, order=rows)
    for part, (images, _) in zip(rows.split(batch), served, strict=True):
        yield part, prep.normalise(images)
