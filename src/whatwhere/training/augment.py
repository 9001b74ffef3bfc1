"""Crop, scale and flip byte tensors: batches of pictures by one gather, scenes (of any size) one by one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.training.recipes import Recipe, SceneRecipe


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Crop and flip a batch of training pictures as a recipe says.

    Args:
        images: (N, C, H, W), any type; zero is black.
        recipe: its `crop_padding` and `flip`.
        generator: source of the draws.

    Returns:
        (N, C, H, W), the same type.
    """
    if recipe.crop_padding:
        images = random_crop(images, recipe.crop_padding, generator)
    return random_flip(images, generator) if recipe.flip else images


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with black and crop each picture back to its size at a random place: (N, C, H, W) to the same."""
    n, _, h, w = images.shape
    padded = functional.pad(images, (padding,) * 4)
    top, left = (torch.randint(0, 2 * padding + 1, (n, 1), generator=generator) for _ in range(2))
    rows = (top + torch.arange(h)).to(images.device)
    columns = (left + torch.arange(w)).to(images.device)
    picture = torch.arange(n, device=images.device)
    # Advanced indices around a slice put the indexed axes first: (N, H, W, C).
    return padded[picture[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture left-right with probability 0.5: (N, C, H, W) to the same."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


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
