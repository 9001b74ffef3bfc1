"""Drawn pictures with boxes: textured objects on grey, on which a small detector trains in minutes.

The class of an object is its texture, which a small window tells; where it lies and how large it is are drawn
independently of its class. So *what* is there can be known without *where*, and a box cannot.

All numbers are whole and all draws come from a NumPy Generator of (seed, split, picture), so that a picture has the
same bytes on every machine and does not depend on the number of pictures.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from whatwhere.data.boxes import Boxes, BoxSplit, Objects
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError

Whole: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]

SIZES = {"train": 1024, "test": 300}
CLASSES = ("horizontal", "vertical", "checker", "falling")
GREY, BRIGHTNESS, CONTRAST, NOISE = 128, 24, (28, 56), 12  # grey levels; sums stay within 0..255, without clipping
MOST = 3  # objects in a picture, at least 1, each of another class
SMALLEST, LARGEST = 1 / 4, 7 / 16  # sides of objects, of the picture's
APART = 2  # pixels of grey between objects, at least
TRIES = 20  # places that are tried for an object before it is left out
LEAST_SIDE = 32


def drawn_boxes(*, train: int = SIZES["train"], test: int = SIZES["test"], side: int = 64, seed: int = 0) -> Boxes:
    """Draw pictures (3, side, side) with one to three objects each, all of different classes.

    Args:
        train: number of training pictures.
        test: number of test pictures.
        side: of the pictures, in pixels.
        seed: of every draw; the same seed gives the same bytes.

    Raises:
        InputError: for fewer than one picture in a split, or pictures of fewer than 32 pixels.
    """
    if min(train, test) < 1:
        raise InputError(f"train={train}, test={test}: draw at least one picture for each.")
    if side < LEAST_SIDE or seed < 0:
        raise InputError(f"side={side}, seed={seed}: give a side of at least {LEAST_SIDE}, and a seed from 0.")
    counts = {"train": train, "test": test}
    return Boxes("drawn/boxes", {name: _split(name, i, n, side, seed) for i, (name, n) in enumerate(counts.items())})


def _split(name: str, number: int, n: int, side: int, seed: int) -> BoxSplit:
    drawn = [draw_picture(np.random.default_rng([seed, number, row]), side) for row in range(n)]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
    return BoxSplit(name, Memory(pictures), [objects for _, objects in drawn], CLASSES)


def draw_picture(rng: np.random.Generator, side: int) -> tuple[Bytes, Objects]:
    """One picture (3, side, side) and its objects."""
    grey = np.full((side, side), GREY + rng.integers(-BRIGHTNESS, BRIGHTNESS + 1), dtype=np.int64)
    boxes: list[Box] = []
    labels: list[int] = []
    for label in rng.permutation(len(CLASSES))[: rng.integers(1, MOST + 1)].tolist():
        box = _free_place(rng, side, boxes)
        if box is not None:
            _paint(grey, box, label, rng)
            boxes.append(box)
            labels.append(label)
    noise = rng.integers(0, NOISE + 1, (2, 3, side, side), dtype=np.uint8)
    # uint8 wraps around and back: the result is in range.
    return grey.astype(np.uint8)[None] + noise[0] - noise[1], Objects.of(boxes, labels)


def _free_place(rng: np.random.Generator, side: int, taken: list[Box]) -> Box | None:
    """A box that keeps apart from the others; None if none was found."""
    for _ in range(TRIES):
        width, height = rng.integers(round(SMALLEST * side), round(LARGEST * side) + 1, 2).tolist()
        left, top = int(rng.integers(0, side - width + 1)), int(rng.integers(0, side - height + 1))
        box = (left, top, left + width, top + height)
        if not any(_touch(box, other) for other in taken):
            return box
    return None


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] + APART and b[0] < a[2] + APART and a[1] < b[3] + APART and b[1] < a[3] + APART


def _paint(grey: Whole, box: Box, label: int, rng: np.random.Generator) -> None:
    """Add a texture of period 4 in a random phase and contrast."""
    left, top, right, bottom = box
    phase = rng.integers(0, 4, 2)
    y, x = np.mgrid[: bottom - top, : right - left] + phase[:, None, None]
    ups = (y // 2 % 2, x // 2 % 2, (x // 2 + y // 2) % 2, (x - y) // 2 % 2)
    grey[top:bottom, left:right] += int(rng.integers(CONTRAST[0], CONTRAST[1] + 1)) * (2 * ups[label] - 1)
