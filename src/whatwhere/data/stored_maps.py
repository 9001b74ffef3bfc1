"""Label maps as they are stored: whole numbers of each pixel, turned like their picture, never approximated."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whatwhere.data.pixels import Piece, Raw, orientation_of, raw_mode, upright

# They store colours that are near those that went in; a label map needs the very numbers.
LOSSY = frozenset(("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF", "DDS"))
LOSSY_TIFF = frozenset(("jpeg", "tiff_jpeg", "webp"))
SCALED = {"L;2": 85, "L;4": 17}  # Pillow spreads 2 and 4 bits over 0..255


def whole_numbers(raw: Raw) -> Tensor:
    """A stored label map as whole numbers, (H, W), uint8 or int32; indices of a palette, not its colours.

    Raises:
        ValueError: for a colour picture, numbers that are not whole, or a file format that changes numbers.
    """
    if isinstance(raw, Tensor):
        raw = raw.squeeze(0) if raw.ndim == 3 else raw
        if raw.is_floating_point():
            raise ValueError(f"its numbers are {raw.dtype}; a label map holds whole numbers")
        return raw
    if isinstance(raw, Image.Image):
        return _as_tensor(_numbers(raw))
    raw = raw.content() if isinstance(raw, Piece) else raw
    with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as picture:
        return _as_tensor(_numbers(picture))


def _numbers(picture: Image.Image) -> NDArray[np.generic]:
    _check_exact(picture)
    scale = SCALED.get(raw_mode(picture), 1)
    values = np.array(upright(picture))
    return values // scale if scale > 1 else values


def _check_exact(picture: Image.Image) -> None:
    """Refuse formats that do not give back the numbers that were stored."""
    kind = picture.format or ""
    if kind in LOSSY or picture.info.get("compression") in LOSSY_TIFF:
        raise ValueError(f"it is stored with loss ({kind}), which changes labels; write it as PNG from the original")
    if kind == "GIF":
        raise ValueError("it is a GIF, whose writers number the labels anew; write it as PNG from the original")
    tiles = getattr(picture, "tile", None)
    if tiles and tiles[0].codec_name == "ppm":  # a largest value that is not that of the mode
        raise ValueError("it is a PGM with a largest value of its own, which scales labels; write it as PNG")


def _as_tensor(values: NDArray[np.generic]) -> Tensor:
    if values.ndim != 2:
        raise ValueError(f"it has {values.shape[2]} channels; a label map has one number per pixel")
    if values.dtype.kind == "f":
        raise ValueError(f"its numbers are {values.dtype}; a label map holds whole numbers")
    small = values.min(initial=0) >= 0 and values.max(initial=0) < 256
    return torch.from_numpy(values.astype(np.uint8 if small else np.int32))


def turned_apart(picture: Raw, stored: Raw, size: tuple[int, ...], map_size: tuple[int, ...]) -> str | None:
    """Why a picture and its label map may not lie on each other, by their EXIF orientations; None if they do.

    Both are turned upright as they are read. Without the same orientation in both, only a map of a picture on its side
    shows by its size how it was drawn.

    Args:
        picture: as stored.
        stored: its label map.
        size: (H, W) of the upright picture.
        map_size: (H, W) of the upright map.
    """
    own, other = orientation_of(picture), orientation_of(stored)
    if own == other:
        return None
    sideways = (own >= 5) != (other >= 5) and 1 in (own, other)
    if sideways and size == map_size and size[0] != size[1]:
        return None
    return (
        f"the picture's EXIF orientation is {own}, its map's {other}: which way up the map was drawn cannot be known. "
        "Write the picture upright (PIL's ImageOps.exif_transpose) beside a map drawn like that, or give the map the "
        "same tag"
    )
