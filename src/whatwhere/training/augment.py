"""Crop and flip, on whole batches of byte tensors: one gather for the batch, not a loop over pictures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.training.recipes import Recipe


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """What a recipe does to a batch of training pictures.

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
    """Pad with black, and crop each picture back to its size at its own random place: (N, C, H, W) to the same."""
    n, _, h, w = images.shape
    padded = functional.pad(images, (padding,) * 4)
    top, left = (torch.randint(0, 2 * padding + 1, (n, 1), generator=generator) for _ in range(2))
    rows = (top + torch.arange(h)).to(images.device)
    columns = (left + torch.arange(w)).to(images.device)
    picture = torch.arange(n, device=images.device)
    # Advanced indices around a slice put the indexed axes first: (N, H, W, C).
    return padded[picture[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each picture left-right with probability one half: (N, C, H, W) to the same."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)
