"""Class maps as pictures, and what their colours mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data.scenes import Scenes
from whatwhere.label_maps import IGNORE
from whatwhere.report.gallery import Gallery, Picture

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


def beside(
    name: str, title: str, drawn: Mapping[str, Sequence[Any]], columns: Sequence[str], scenes: Scenes, about: str = ""
) -> Gallery:
    """Maps beside each other as a page shows them, with what the colours of class maps mean.

    Args:
        name: of the figure that shows the same in a file.
        title: above it.
        drawn: (h, w) maps between 0 and 1, or (h, w, 3) pictures, by row; None leaves a place empty.
        columns: what each of a row is.
        scenes: whose classes they show.
        about: how to read it.
    """
    shown = [
        Picture(values, column, row, f"{row}: {column}")
        for row, each in ((name.replace("\n", ": "), each) for name, each in drawn.items())
        for column, values in zip(columns, each, strict=True)
        if values is not None
    ]
    return Gallery(name, title, shown, about, SHARE, _legend(drawn, scenes))


def _legend(drawn: Mapping[str, Sequence[Any]], scenes: Scenes) -> dict[str, str]:
    """Colours of the classes that occur; those of photographs do not count."""
    palette = coloured(torch.arange(len(scenes.classes))[None], scenes.colours)[0].tolist()
    maps = [m for each in drawn.values() for m in each if m is not None and np.ndim(m) == 3]
    flat = [np.unique(m.reshape(-1, 3), axis=0) for m in maps]
    there = {tuple(c) for colours in flat if len(colours) <= len(palette) + 1 for c in colours.tolist()}
    return {
        n: "#{:02x}{:02x}{:02x}".format(*c) for n, c in zip(scenes.classes, palette, strict=True) if tuple(c) in there
    }


def upright(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) to (H, W, 3)."""
    found: NDArray[np.uint8] = picture.permute(1, 2, 0).numpy()
    return found
