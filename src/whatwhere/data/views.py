"""Random views of training pictures: a window of random area and ratio, resized to one size, perhaps mirrored.

Source: [szegedy2015], with the draws of torchvision's RandomResizedCrop. The seed of a pass and the picture's row alone
decide on a view, so that it does not depend on batches, decoding workers or processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.pixels import FILTERS, Raw, as_tensor, opened
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

ATTEMPTS = 10  # draws of a window that may not fit the picture, then the largest one in its middle
SEEDS = 2**63 - 1


@dataclass(frozen=True)
class View:
    """A window of a picture.

    Attributes:
        top: its first row.
        left: its first column.
        height: in rows.
        width: in columns.
        mirrored: left-right, after it is cut out.
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class Views:
    """How views are drawn.

    Attributes:
        area: the least and the largest share of the picture that a window has.
        ratio: the least and the largest width over height, drawn uniformly on a log scale.
        flip: mirror with probability 0.5.
    """

    area: tuple[float, float]
    ratio: tuple[float, float]
    flip: bool

    def of(self, seed: int, row: int, height: int, width: int) -> View:
        """The view of a picture.

        Args:
            seed: of a pass over the pictures.
            row: of the picture.
            height: of the picture.
            width: of the picture.
        """
        # A counter apart for each row: streams of one key that never meet.
        rng = np.random.Generator(np.random.Philox(key=seed, counter=(0, row, 0, 0)))
        window = self._window(rng, height, width)
        return View(*window, mirrored=self.flip and bool(rng.random() < 0.5))

    def _window(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
        (small, large), (least, most) = self.area, (math.log(r) for r in self.ratio)
        for _ in range(ATTEMPTS):
            u = rng.random(4)
            area = height * width * (small + u[0] * (large - small))
            ratio = math.exp(least + u[1] * (most - least))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w
        h, w = self._largest(height, width)
        return (height - h) // 2, (width - w) // 2, h, w

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        """The largest window within the ratios."""
        low, high = self.ratio
        if width / height < low:
            return round(width / low), width
        return (height, round(height * high)) if width / height > high else (height, width)


def to_view(raw: Raw, geometry: Preprocessing, views: Views, seed: int, row: int) -> Tensor:
    """Decode a picture, cut its view out and resize that.

    Args:
        raw: the picture, not yet prepared (no floats).
        geometry: its `size`, `interpolation` and `channels` are used.
        views: how they are drawn.
        seed: of the pass.
        row: of the picture.

    Returns:
        (C, H, W), uint8, of the geometry's size.

    Raises:
        BrokenPicture: if it cannot be decoded.
    """
    assert geometry.size
    picture = opened(raw, geometry.channels or 3)
    view = views.of(seed, row, picture.height, picture.width)
    part = picture.crop((view.left, view.top, view.left + view.width, view.top + view.height))
    height, width = geometry.size
    part = part.resize((width, height), FILTERS[geometry.interpolation])
    return as_tensor(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.mirrored else part)


def viewed(images: Tensor, views: Sequence[View], size: tuple[int, int], interpolation: str = "bilinear") -> Tensor:
    """Cut a view out of each picture of a batch and resize it, antialiased, all at once.

    Args:
        images: (N, C, H, W), bytes or floats, on any device.
        views: N of them.
        size: (height, width) of the result.
        interpolation: bilinear or bicubic.

    Returns:
        (N, C, height, width), the same type.

    Raises:
        InputError: for another interpolation.
    """
    tops, lefts, heights, widths = torch.tensor([(v.top, v.left, v.height, v.width) for v in views]).double().T
    rows = _weights(tops, heights, images.shape[2], size[0], interpolation)
    columns = _weights(lefts, widths, images.shape[3], size[1], interpolation)
    mirrored = torch.tensor([v.mirrored for v in views])
    columns[mirrored] = columns[mirrored].flip(1)
    there = images if images.is_floating_point() else images.float()
    rows, columns = (w.to(there)[:, None] for w in (rows, columns))
    seen = rows @ (there @ columns.transpose(2, 3))
    return seen if images.is_floating_point() else seen.round().clamp(0, 255).to(images.dtype)


def _weights(starts: Tensor, lengths: Tensor, full: int, out: int, interpolation: str) -> Tensor:
    """(N, out, full) what each place along an axis takes of each pixel; each row sums to one."""
    if interpolation not in KERNELS:
        raise InputError(
            f"preprocessing.interpolation={interpolation!r}: views of whole batches are resized by "
            f"{' or '.join(KERNELS)}; give one of these, or a size, with which pictures are resized one by one."
        )
    pixel = torch.arange(full, dtype=torch.float64) - starts[:, None] + 0.5  # (N, full) from the window's edge
    step = lengths[:, None] / out
    place = (torch.arange(out, dtype=torch.float64) + 0.5) * step  # (N, out)
    distance = (pixel[:, None, :] - place[:, :, None]) / step.clamp(min=1)[:, :, None]
    weights = KERNELS[interpolation](distance.abs())
    inside = (pixel > 0) & (pixel < lengths[:, None])
    weights = weights * inside[:, None, :]
    return weights / weights.sum(2, keepdim=True)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, as Pillow's."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}
