"""Pictures whose class depends on a cue's surroundings at two scales: its quadrant, and the whole picture.

Patches of texture, 8x8 pixels, lie on a grid of 8 pixels on grey, 32x32. Two quadrants hold a cue (A or B) and a
modifier (M or N) each, the other two the same context (G or H); quadrants, and places in a quadrant, are random.

* Inside quadrants: A is paired with M and B with N (s = 0), or A with N and B with M (s = 1).
* In the whole picture: the context is G (g = 0) or, in a quarter of the pictures, H (g = 1).
* The class is s XOR g: the context reverses the meaning of the pairs.

Every picture shows A, B, M and N once and its context twice. A model that sees only which textures are there, in any
number and from the whole picture, knows g and nothing about s: its accuracy is exactly chance, one half. A model that
sees inside quadrants and adds up their scores has a score a(s) + b(g), which is wrong for at least one combination of
s and g: if a(0) + b(0) and a(1) + b(1) were below a threshold and a(0) + b(1) and a(1) + b(0) above it, the sum of all
four terms would be both below and above twice the threshold. The rarest (s, g) has an eighth of the pictures, hence at
most 7/8. Both scales together determine the class. (The context is uneven because no network here learned an even XOR,
whose loss is nearly flat at the start; pairs alone are right for 3/4.)

This holds for networks whose small windows do not cross the grid, such as `cifar/bagnet4`, because neighbouring
patches touch. Padding would reveal where in the picture a patch lies, and thus which patches share its quadrant.
"""

from __future__ import annotations

import numpy as np
import torch

from whatwhere.data.known_answer import PATCH, TEXTURES, Whole, noisy, nuisances, render
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.errors import InputError

NAME = "known/surroundings"
STREAM = 2  # known_answer uses streams 0 and 1
PLACES = tuple((r + y, c + x) for r in (0, 16) for c in (0, 16) for y in (0, PATCH) for x in (0, PATCH))  # by quadrant
CLASSES = ("as the context says", "against it")

A, B, M, N, G, H = (
    TEXTURES.index(t)
    for t in (
        "horizontal2",
        "vertical2",
        "horizontal4",
        "vertical4",
        "falling4",
        "rising4",
    )
)
NOTHING = -1


def quadrants(s: int, g: int) -> list[list[int]]:
    """The textures at the four places of each quadrant, before places and quadrants are shuffled."""
    with_m, with_n = (A, B) if s == 0 else (B, A)
    context = [H if g else G, NOTHING, NOTHING, NOTHING]
    return [[with_m, M, NOTHING, NOTHING], [with_n, N, NOTHING, NOTHING], context, context]


QUADRANTS = np.array([[quadrants(s, g) for g in (0, 1)] for s in (0, 1)])  # (s, g, quadrant, place)


def surroundings(*, train: int = 6000, test: int = 2000, seed: int = 0) -> Data:
    """Draw pictures of the task: 2 balanced classes, (3, 32, 32), chance 1/2; nuisances as in `known_answer`.

    Args:
        train: number of training pictures.
        test: number of test pictures.
        seed: of every draw; the same seed gives the same bytes.

    Raises:
        InputError: for fewer than one picture in a split.
    """
    if min(train, test) < 1:
        raise InputError(f"train={train}, test={test}: draw at least one picture for each.")
    counts = {"train": train, "test": test}.items()
    rngs = (np.random.default_rng([seed, STREAM, number]) for number in range(len(counts)))
    return assemble(NAME, {split: drawn_part(n, rng) for (split, n), rng in zip(counts, rngs, strict=True)})


def drawn_part(n: int, rng: np.random.Generator) -> Part:
    """Draw s (balanced), g (1 in a quarter) and the pictures, in whole numbers: exact on every machine."""
    numbers = rng.permutation(np.arange(n) % 8)
    s, g = numbers % 2, numbers // 6
    drawn = nuisances(n, rng)
    pictures = render(layout(s, g, rng), *drawn, places=PLACES)
    return Part(noisy(pictures, rng), torch.from_numpy(s ^ g), CLASSES)


def layout(s: Whole, g: Whole, rng: np.random.Generator) -> Whole:
    """The texture at each of the 16 places, (N, 16), by quadrant."""
    within = rng.permuted(QUADRANTS[s, g], axis=2)
    order = rng.permuted(np.tile(np.arange(4), (len(s), 1)), axis=1)
    return np.take_along_axis(within, order[:, :, None], axis=1).reshape(len(s), -1)
