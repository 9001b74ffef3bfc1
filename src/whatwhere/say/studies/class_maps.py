"""Class maps as pictures, and what their colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data.scenes import Scenes
from whatwhere.label_maps import IGNORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = (0.0, 1.0)  # what maps of concepts and of P(right) are drawn between
PALETTE = (
    (128, 64, 128),
    (70, 130, 180),
    (220, 20, 60),
    (107, 142, 35),
    (70, 70, 70),
    (244, 35, 232),
    (0, 0, 142),
    (250, 170, 30),
    (0, 60, 100),
    (190, 153, 153),
    (220, 220, 0),
    (119, 11, 32),
    (152, 251, 152),
    (255, 120, 80),
    (0, 128, 128),
    (153, 153, 153),
    (102, 102, 156),
    (0, 0, 230),
    (230, 150, 140),
    (180, 165, 180),
)


def coloured(values: Tensor, colours: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """A class map as a picture, (H, W, 3); unlabelled is white."""
    palette = np.array([*(colours or PALETTE), *PALETTE], np.uint8)
    found: NDArray[np.uint8] = palette[values.long().clamp(max=len(palette) - 1).numpy()]
    found[(values == IGNORE).numpy()] = 255
    return found


def with_classes(figure: Figure, scenes: Scenes) -> Figure:
    """A figure with what the colours of its class maps mean, below."""
    from matplotlib.patches import Patch

    colours = coloured(torch.arange(len(scenes.classes))[None], scenes.colours)[0] / 255
    patches = [Patch(color=tuple(c)) for c in colours]
    figure.legend(patches, list(scenes.classes), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def upright(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) to (H, W, 3)."""
    found: NDArray[np.uint8] = picture.permute(1, 2, 0).numpy()
    return found
