"""The Red-Green pictures: the class is a matter of left and right, and up or down gives it away.

A red and a green block lie on black; class 0 has the red one on the left, class 1 the green one. Class 0 lies in the
upper half, class 1 in the lower one: where they are is as good a hint as which is left. In the *dissimilar* pictures
every pair of blocks has moved by 16 rows into the other class's half, and nothing else has changed.

Source: [kayhan2020]; sizes and ranges from the authors' published generator, read for facts. Deviation: theirs draws
training, validation and test pictures from one seed, so that its validation and similar test pictures are the first
1000 training pictures; ours come from separate streams, and are drawn anew for each seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.errors import InputError

SIDE, BLOCK = 32, 4  # pixels
TOP = (7, 23)  # of a block, by class, before it moves up or down a little
SHAKE = (-4, 3)  # rows, both included, for each block on its own
APART = 16  # rows between the halves: whole steps of a network with a total stride of 8
LEFT = (0, 9)  # columns of the left block, both included
GAP = 5  # least columns from the left block's edge to the right one's
CLASSES = ("red left of green", "green left of red")

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of N pictures are.

    Attributes:
        labels: (N,), 0: red is left of green, 1: green is left of red.
        tops: (N, 2), first row of the left and of the right block.
        lefts: (N, 2), first column of each.
    """

    labels: Whole
    tops: Whole
    lefts: Whole

    def moved(self) -> Blocks:
        """The same pairs in the other class's half."""
        return replace(self, tops=self.tops + APART * (1 - 2 * self.labels)[:, None])

    def pictures(self) -> Tensor:
        """(N, 3, 32, 32), float32: 0 is black, which is also what zero padding adds; 1 is full colour."""
        n = len(self.labels)
        out = np.zeros((n, 3, SIDE, SIDE), dtype=np.float32)
        within = np.arange(BLOCK)
        for place in (0, 1):
            rows, columns = (a[:, place, None] + within for a in (self.tops, self.lefts))
            channel = (self.labels + place) % 2  # red is channel 0, green 1
            out[np.arange(n)[:, None, None], channel[:, None, None], rows[:, :, None], columns[:, None, :]] = 1
        return torch.from_numpy(out)

    def targets(self) -> Tensor:
        """(N,), int64."""
        return torch.from_numpy(self.labels)


def draw_blocks(n: int, rng: np.random.Generator) -> Blocks:
    """Draw n pairs in the half of their class; the classes take turns.

    Args:
        n: pairs.
        rng: source of the draws.

    Raises:
        InputError: if n is below 2, which would leave a class without pictures.
    """
    if n < 2:
        raise InputError(f"pictures: {n} cannot hold both classes; draw at least 2 for each set.")
    labels = np.arange(n, dtype=np.int64) % 2
    tops = np.array(TOP)[labels, None] + rng.integers(SHAKE[0], SHAKE[1] + 1, (n, 2))
    left = rng.integers(LEFT[0], LEFT[1] + 1, n)
    right = rng.integers(left + GAP, SIDE - BLOCK)
    return Blocks(labels, tops, np.stack([left, right], 1))


@dataclass(frozen=True)
class Sets:
    """The four sets of one seed; `dissimilar` is `similar`, moved."""

    train: Blocks
    validation: Blocks
    similar: Blocks

    @property
    def dissimilar(self) -> Blocks:
        """The similar test pictures with the hint of place reversed."""
        return self.similar.moved()


def red_green_data(train: int, validation: int, test: int, *, seed: int) -> Sets:
    """Draw the sets of one seed, each from a stream of its own.

    Args:
        train: pictures to train on.
        validation: to choose the epoch by.
        test: in either test set.
        seed: of every draw.
    """
    sizes = (train, validation, test)
    return Sets(*(draw_blocks(n, np.random.default_rng([seed, i])) for i, n in enumerate(sizes)))
