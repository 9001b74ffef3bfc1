"""Pictures with a known answer: the class depends on *what* is there only, or on *where* it is only.

Four 8x8 patches of texture lie on grey, 32x32 pixels, at rows and columns 4 and 20. No local window can
distinguish these places:

* They are 16 px apart, thus congruent modulo every total stride that divides 16 (1, 2, 4, 8, 16): all places
  fall on a strided grid in the same way.
* There are 8 px of grey between patches and 4 px to the border: a window of up to 9x9 pixels touches one patch
  at most, and one of up to 5x5 never touches both a patch and the border (where zero padding would show).

So the multiset of small windows is the same for every arrangement of the same textures. Task `where` has one
bag of textures and 12 arrangements: local windows and an average over positions cannot solve it. Task `what`
has 12 bags of textures in random places: the average over positions suffices, and the arrangement is irrelevant.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError, unknown

Task: TypeAlias = Literal["what", "where"]
Bytes: TypeAlias = NDArray[np.uint8]
Whole: TypeAlias = NDArray[np.int64]

SIDE, PATCH = 32, 8
PLACES = ((4, 4), (4, 20), (20, 4), (20, 20))
GREY = 128
BRIGHTNESS, CONTRAST, NOISE = 24, (24, 56), 12  # grey levels; sums stay within 0..255, without clipping

TEXTURES = (
    "horizontal2",
    "vertical2",
    "checker2",
    "horizontal4",
    "vertical4",
    "checker4",
    "falling4",
    "rising4",
)
PERIOD = 4  # of every texture, in both directions (2 divides it)
WHERE_BAG = (0, 1, 2, 6)

# The words of weight 4 of the extended Hamming code, without one complementary pair: any two bags share two
# textures or none, and every texture is in 6 of the 12, so neither a texture nor a pair determines the class.
BAGS = (
    (0, 1, 2, 3),
    (0, 1, 4, 5),
    (0, 1, 6, 7),
    (0, 2, 4, 6),
    (0, 2, 5, 7),
    (0, 3, 4, 7),
    (1, 2, 5, 6),
    (1, 3, 4, 6),
    (1, 3, 5, 7),
    (2, 3, 4, 5),
    (2, 3, 6, 7),
    (4, 5, 6, 7),
)


def even(order: tuple[int, ...]) -> bool:
    """Whether a permutation is a product of an even number of transpositions."""
    return sum(a > b for i, a in enumerate(order) for b in order[i + 1 :]) % 2 == 0


ARRANGEMENTS = tuple(order for order in permutations(range(4)) if even(order))


def known_answer(task: Task, *, train: int = 6000, test: int = 2000, seed: int = 0) -> Data:
    """Draw pictures of a known-answer task: 12 balanced classes, (3, 32, 32), chance 1/12.

    Contrast and brightness are drawn for each picture, phases for each picture and texture, noise for each
    pixel, all independent of class and place. Train and test come from separate random streams.

    Args:
        task: "what": the class says which four of eight textures are there, in random places; "where": the
            textures are always the same four, and the class is their arrangement (an even permutation).
        train: number of training pictures.
        test: number of test pictures.
        seed: of every draw; the same seed gives the same bytes.

    Raises:
        InputError: for an unknown task, or fewer than one picture in a split.
    """
    if task not in get_args(Task):
        raise unknown("task", task, get_args(Task))
    if min(train, test) < 1:
        raise InputError(f"train={train}, test={test}: draw at least one picture for each.")
    parts = {
        split: drawn_part(task, n, np.random.default_rng([seed, get_args(Task).index(task), number]))
        for number, (split, n) in enumerate({"train": train, "test": test}.items())
    }
    return assemble(f"known/{task}", parts)


def drawn_part(task: Task, n: int, rng: np.random.Generator) -> Part:
    """Draw classes, nuisances and pictures, in whole numbers: exact on every machine."""
    labels = rng.permutation(np.arange(n) % len(BAGS))
    phases, brightness, contrast = nuisances(n, rng)
    pictures = render(layout(task, labels, rng), phases, brightness, contrast)
    return Part(noisy(pictures, rng), torch.from_numpy(labels), class_names(task))


def nuisances(n: int, rng: np.random.Generator) -> tuple[Whole, Whole, Whole]:
    """Phases (N, 8, 2), brightness (N,) and contrast (N,), independent of class and place."""
    phases = rng.integers(0, PERIOD, (n, len(TEXTURES), 2))
    brightness = rng.integers(-BRIGHTNESS, BRIGHTNESS + 1, n)
    return phases, brightness, rng.integers(CONTRAST[0], CONTRAST[1] + 1, n)


def noisy(pictures: Bytes, rng: np.random.Generator) -> Memory:
    """Pictures (N, H, W) in three channels, with independent noise in every pixel and channel."""
    n, *sides = pictures.shape
    noise = rng.integers(0, NOISE + 1, (2, n, 3, *sides), dtype=np.uint8)
    # uint8 wraps around and back: the result is in range.
    return Memory(torch.from_numpy(pictures[:, None] + noise[0] - noise[1]))


def layout(task: Task, labels: Whole, rng: np.random.Generator) -> Whole:
    """The texture at each of the four places, (N, 4)."""
    if task == "where":
        return np.array(WHERE_BAG)[np.array(ARRANGEMENTS)[labels]]
    return rng.permuted(np.array(BAGS)[labels], axis=1)


def class_names(task: Task) -> tuple[str, ...]:
    """The textures of each class: place by place for "where", in no order for "what"."""
    bags = BAGS if task == "what" else [[WHERE_BAG[i] for i in order] for order in ARRANGEMENTS]
    return tuple((" + " if task == "what" else " ").join(TEXTURES[i] for i in bag) for bag in bags)


def render(
    textures: Whole,
    phases: Whole,
    brightness: Whole,
    contrast: Whole,
    places: Sequence[tuple[int, int]] = PLACES,
) -> Bytes:
    """Draw textures on grey, without noise.

    Args:
        textures: (N, places), the texture at each place; -1 leaves it grey.
        phases: (N, 8, 2), the shift in rows and columns of every texture.
        brightness: (N,), added to mid-grey.
        contrast: (N,), amplitude of the textures.
        places: row and column of each patch's corner.

    Returns:
        (N, 32, 32), uint8.
    """
    n = len(textures)
    signs = texture_bank()
    pictures = np.zeros((n, SIDE, SIDE), dtype=np.int64)
    for place, (top, left) in enumerate(places):
        which = textures[:, place]
        shift = phases[np.arange(n), which]
        drawn = signs[which, shift[:, 0], shift[:, 1]] * (which >= 0)[:, None, None]
        pictures[:, top : top + PATCH, left : left + PATCH] = drawn
    pictures = GREY + brightness[:, None, None] + contrast[:, None, None] * pictures
    return pictures.astype(np.uint8)


def texture_bank() -> Whole:
    """Every texture at every phase, (8, 4, 4, 8, 8), of -1 and 1 in equal numbers."""
    y, x = np.mgrid[: PATCH + PERIOD, : PATCH + PERIOD]
    straight = [y % 2, x % 2, (x + y) % 2, y // 2 % 2, x // 2 % 2, (x // 2 + y // 2) % 2]
    ups = [*straight, (x - y) // 2 % 2, (x + y) // 2 % 2]
    phases = range(PERIOD)
    shifted = [[[up[r : r + PATCH, c : c + PATCH] for c in phases] for r in phases] for up in ups]
    return 2 * np.array(shifted, dtype=np.int64) - 1
