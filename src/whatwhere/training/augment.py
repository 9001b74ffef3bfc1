"""Crop, scale and flip byte tensors: batches of pictures by one gather, scenes (of any size) one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.training.recipes import Recipe, SceneRecipe


@dataclass(frozen=True)
class Moves:
    """How pictures are cropped and mirrored.

    Attributes:
        top: (N, 1) first row of each crop in the padded picture; None: none is cropped.
        left: (N, 1) first column, likewise.
        mirrored: (N,) whether each is mirrored; None: none is.
    """

    top: Tensor | None = None
    left: Tensor | None = None
    mirrored: Tensor | None = None

    @classmethod
    def drawn(cls, n: int, recipe: Recipe, generator: torch.Generator) -> Moves:
        """As a recipe says of n pictures: rows, then columns, then mirrors."""
        top = left = None
        if recipe.crop_padding:
            top, left = (torch.randint(0, 2 * recipe.crop_padding + 1, (n, 1), generator=generator) for _ in range(2))
        return cls(top, left, torch.rand(n, generator=generator) < 0.5 if recipe.flip else None)

    @classmethod
    def joined(cls, parts: Iterable[Moves]) -> Moves:
        """Of the pictures of several batches."""
        columns = zip(*((m.top, m.left, m.mirrored) for m in parts), strict=True)
        return cls(*(torch.cat(c) if c[0] is not None else None for c in columns))

    def each(self, change: Callable[[Tensor], Tensor]) -> Moves:
        """With every tensor changed alike: moved to a device, say, or a part of the pictures taken."""
        return Moves(*(v if v is None else change(v) for v in (self.top, self.left, self.mirrored)))


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Crop and flip a batch of training pictures as a recipe says.

    Args:
        images: (N, C, H, W), any type.
        recipe: its `crop_padding` and `flip`.
        generator: source of the draws.

    Returns:
        (N, C, H, W), the same type.
    """
    return moved(images, Moves.drawn(len(images), recipe, generator), recipe.crop_padding)


def moved(images: Tensor, moves: Moves, padding: int) -> Tensor:
    """Pad with zeros, crop each picture back to its size, and mirror it, in one gather on the pictures' device.

    Zero is black in bytes. In floats that are normalised already it is about the mean of all pictures: their black is
    not known here.

    Args:
        images: (N, C, H, W), any type.
        moves: of these pictures, on their device.
        padding: pixels of zero on each side.

    Returns:
        (N, C, H, W), the same type.
    """
    if moves.top is None or moves.left is None:
        return images if moves.mirrored is None else _mirrored(images, moves.mirrored)
    n, channels, h, w = images.shape
    columns = torch.arange(w, device=images.device).expand(n, w)
    if moves.mirrored is not None:
        columns = torch.where(moves.mirrored[:, None], w - 1 - columns, columns)
    rows = torch.arange(n, device=images.device)[:, None] * (h + 2 * padding) + moves.top
    rows = rows + torch.arange(h, device=images.device)
    pixels = rows[:, :, None] * (w + 2 * padding) + (moves.left + columns)[:, None, :]
    # Channels last: a pixel's values lie side by side, and one index takes them all.
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    taken = padded.reshape(-1, channels).index_select(0, pixels.flatten())
    return taken.view(n, h, w, channels).permute(0, 3, 1, 2)


def _mirrored(images: Tensor, which: Tensor) -> Tensor:
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def crop_and_scale(
    picture: Tensor, labels: Tensor, recipe: SceneRecipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Resize a scene by a random factor, crop it at a random place, and mirror it with probability 0.5.

    Only the cropped region is resized. Pixels outside the picture are black and unlabelled.

    Args:
        picture: (3, H, W), uint8.
        labels: (H, W) class of each pixel.
        recipe: its `crop`, `scale` and `flip`.
        generator: source of the draws, four numbers for every scene.

    Returns:
        (3, h, w), uint8, and (h, w), int64, of the recipe's crop.

    Raises:
        InputError: for prepared pictures (floats), whose black is unknown.
    """
    assert recipe.crop
    if picture.dtype != torch.uint8:
        raise InputError(f"pictures of {picture.dtype} cannot be scaled and cropped; give bytes (uint8), or crop=None.")
    draws = torch.rand(4, generator=generator).tolist()
    least, most = recipe.scale
    factor = least * (most / least) ** draws[0]
    spans = [_span(n, crop, factor, u) for n, crop, u in zip(labels.shape, recipe.crop, draws[1:3], strict=True)]
    (top, rows, height), (left, columns, width) = spans
    part = picture[:, top : top + rows, left : left + columns]
    shown = (
        functional.interpolate(
            part[None].float(), size=(height, width), mode="bilinear", antialias=True, align_corners=False
        )[0]
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )
    classes = functional.interpolate(
        labels[None, None, top : top + rows, left : left + columns].float(), size=(height, width), mode="nearest-exact"
    )[0, 0].long()
    margins = (0, recipe.crop[1] - width, 0, recipe.crop[0] - height)
    shown, classes = functional.pad(shown, margins), functional.pad(classes, margins, value=IGNORE)
    return (shown.flip(2), classes.flip(1)) if recipe.flip and draws[3] < 0.5 else (shown, classes)


def _span(size: int, crop: int, factor: float, draw: float) -> tuple[int, int, int]:
    """Along one axis: start and length of the crop in the picture, and its length after resizing."""
    reach = min(size, max(1, round(crop / factor)))
    start = min(int(draw * (size - reach + 1)), size - reach)
    return start, reach, crop if reach < size else min(crop, max(1, round(size * factor)))
