"""From one stored picture to one uint8 tensor: decode, rotate upright, convert to RGB or grey, resize, crop."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.network import Preprocessing, grey


@dataclass(frozen=True)
class Piece:
    """An encoded picture within a file.

    Attributes:
        path: of the file.
        start: of the picture, in bytes.
        size: in bytes.
    """

    path: Path
    start: int
    size: int

    def content(self) -> bytes:
        """The encoded picture."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


Raw: TypeAlias = "bytes | Path | Piece | Image.Image | Tensor"
"""A picture as its source stores it: encoded, on disk, within a file, or as pixels (C, H, W)."""

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
MAGIC = {b"\x89PNG": ("PNG",), b"\xff\xd8\xff": ("JPEG", "MPO"), b"RIFF": ("WEBP",)}
TRANSPOSED = range(2, 9)  # the EXIF orientations that are not upright
ORIENTATION = 0x0112
# Raised by PIL for broken files: mostly OSError, for PNG chunks SyntaxError, for TIFF tags struct.error.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error)


# 10, 12 and 14 bits reach no further in a file of 16; read as 16 bits, such pictures are black or nearly so.
DARK = 1 << 14
TOO_DARK = (
    "its values of 16 bits go {}, as data of fewer bits do, and would turn dark or black; save it with 8 bits per "
    "channel (values // 16 if they are of 12 bits, // 256 if it is meant to be as dark as that), or scaled to 0..65535"
)


class BrokenPicture(Exception):
    """A picture cannot be decoded; the split that knows its row turns this into an `InputError`."""


def check_geometry(geometry: Preprocessing | None) -> None:
    """Refuse an invalid geometry.

    Raises:
        InputError: for a crop share outside (0, 1], or an unknown interpolation.
    """
    if geometry is None or geometry.size is None:
        return
    if not 0 < geometry.crop_pct <= 1:
        raise InputError(f"preprocessing.crop_pct={geometry.crop_pct} must lie in (0, 1]; 1 keeps all.")
    if geometry.interpolation not in FILTERS:
        raise InputError(
            f"preprocessing.interpolation={geometry.interpolation!r} is unknown; give one of {', '.join(FILTERS)}."
        )


def to_pixels(raw: Raw, geometry: Preprocessing | None = None) -> Tensor:
    """Decode one picture and resize it.

    Args:
        raw: the picture; a floating-point tensor counts as prepared and is returned unchanged.
        geometry: its `size`, `crop_pct`, `interpolation` and `channels` are used; without a size the picture keeps its
            own.

    Returns:
        (3, H, W), uint8, or as many channels as `geometry` says; or the floating-point tensor.

    Raises:
        BrokenPicture: if it cannot be decoded.
    """
    resized = geometry is not None and geometry.size is not None
    channels = (geometry.channels if geometry else None) or 3
    if isinstance(raw, Tensor) and raw.is_floating_point():
        return raw
    if isinstance(raw, Tensor) and not resized:
        return with_channels(raw, channels)
    picture = opened(raw, channels)
    return as_tensor(fit(picture, geometry) if geometry is not None and resized else picture)


def as_tensor(picture: Image.Image) -> Tensor:
    """(C, H, W) bytes of a picture."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def opened(raw: Raw, channels: int) -> Image.Image:
    """A picture, decoded, of so many channels: grey, RGB, or RGB with transparency, which the picture must have itself.

    Args:
        raw: the picture, no floats.
        channels: of the result.

    Raises:
        BrokenPicture: if it cannot be decoded, or has not these channels.
    """
    if isinstance(raw, Tensor):
        return _as_picture(with_channels(raw, channels))
    if channels not in (1, 3, 4):
        raise BrokenPicture(f"the network takes {channels} channels, which only tensors ({channels}, H, W) have")
    picture = upright_rgb(raw, transparent=channels == 4)
    if channels == 4 and picture.mode != "RGBA":
        raise BrokenPicture("the network takes 4 channels, and it has no transparency")
    return picture.convert("L") if channels == 1 else picture


def _as_picture(pixels: Tensor) -> Image.Image:
    if pixels.shape[0] not in (1, 3, 4):
        raise BrokenPicture(f"it has {pixels.shape[0]} channels, which are not resized; resize it yourself")
    return Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Bytes (H, W) or (C, H, W) as (channels, H, W): as they are, grey repeated, RGB made grey, a fourth dropped."""
    image = image if image.ndim == 3 else image[None]
    if image.ndim == 3 and image.shape[0] == channels and image.dtype == torch.uint8:
        return image
    rgb = three_channels(image)
    if channels not in (1, 3):
        raise BrokenPicture(f"the network takes {channels} channels, and it has {image.shape[0]}")
    return grey(rgb[None])[0] if channels == 1 else rgb


def three_channels(image: Tensor) -> Tensor:
    """(H, W), (1, H, W), (3, H, W) or (4, H, W) bytes -> (3, H, W); a fourth channel is dropped."""
    image = image if image.ndim == 3 else image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise BrokenPicture(f"its shape is {tuple(image.shape)}, not (C, H, W) with 1, 3 or 4 channels")
    if image.dtype != torch.uint8:
        raise BrokenPicture(f"its pixels are {image.dtype}, neither bytes (uint8) nor floats")
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]


def raw_mode(picture: Image.Image) -> str:
    """How the pixels of a file that is opened and not yet loaded are packed: "L;4" for 4 bits each, "RGB;16B"."""
    tiles = getattr(picture, "tile", None)
    how = tiles[0].args if tiles else ""
    first = how[0] if isinstance(how, tuple) and how else how
    return first if isinstance(first, str) else ""


def upright_rgb(raw: bytes | Path | Piece | Image.Image, *, transparent: bool = False) -> Image.Image:
    """Decode to an RGB picture, rotated by its EXIF orientation.

    Args:
        raw: the picture.
        transparent: keep its transparency, if it has any.
    """
    try:
        if isinstance(raw, Image.Image):
            return _rgb(raw, transparent)
        raw = raw.content() if isinstance(raw, Piece) else raw
        if isinstance(raw, bytes):
            return _rgb(Image.open(io.BytesIO(raw), formats=likely_formats(raw)), transparent)
        with Image.open(raw) as opened:
            return _rgb(opened, transparent)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise BrokenPicture(f"{type(error).__name__}: {error}") from error


def likely_formats(encoded: bytes) -> tuple[str, ...] | None:
    """The format by a picture's first bytes; None if unknown: PIL then tries all formats.

    Trying all formats takes as long as decoding a CIFAR picture.
    """
    return next((formats for magic, formats in MAGIC.items() if encoded.startswith(magic)), None)


def upright(picture: Image.Image) -> Image.Image:
    """A picture turned as its EXIF orientation says."""
    # exif_transpose also copies the pixels of upright pictures, hence this check.
    if picture.getexif().get(ORIENTATION) not in TRANSPOSED:
        return picture
    return ImageOps.exif_transpose(picture) or picture


def orientation_of(raw: Raw) -> int:
    """The EXIF orientation of a stored picture, 1..8; 1 is upright, or says nothing."""
    if isinstance(raw, Tensor):
        return 1
    raw = raw.content() if isinstance(raw, Piece) else raw
    if not isinstance(raw, Image.Image):
        formats = likely_formats(raw) if isinstance(raw, bytes) else None
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw, formats=formats) as opened:
            return orientation_of(opened)
    seen = raw.getexif().get(ORIENTATION)
    return int(seen) if seen is not None and seen in TRANSPOSED else 1


def _rgb(stored: Image.Image, transparent: bool = False) -> Image.Image:
    packed = raw_mode(stored)  # before the pixels are loaded
    picture = upright(stored)
    if picture.mode.startswith("I;16"):  # PIL would clip 16-bit values at 255 instead of scaling them
        picture = Image.fromarray(_high_byte(picture))
    elif ";16" in packed:
        return _checked_bright(picture.convert("RGB"))
    if picture.mode in ("I", "F"):
        raise BrokenPicture(f"its mode is {picture.mode!r} (32 bits per pixel); save it with 8 bits per channel")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    has = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    return picture.convert("RGBA" if transparent and has else "RGB")


def _high_byte(picture: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(picture).astype(np.uint16)
    if 0 < values.max(initial=0) < DARK:
        raise BrokenPicture(TOO_DARK.format(f"up to {values.max()} of 65535"))
    return (values >> 8).astype(np.uint8)


def _checked_bright(picture: Image.Image) -> Image.Image:
    """A colour picture of 16 bits, of which PIL keeps the high byte."""
    highest = max(high for _, high in picture.getextrema())  # type: ignore[misc]  # of RGB: a pair for each channel
    if highest < DARK >> 8:
        raise BrokenPicture(TOO_DARK.format(f"below {(highest + 1) << 8} of 65535"))
    return picture


def fit(picture: Image.Image, geometry: Preprocessing) -> Image.Image:
    """Resize so that the short side is round(size / crop_pct), then crop the centre.

    For a square size this equals torchvision's Resize and CenterCrop, including rounding; otherwise the resized
    picture is the smallest of the same proportions that covers (height, width) / crop_pct.
    """
    if geometry.size is None:
        return picture
    height, width = geometry.size
    new_height, new_width = covering(picture.height, picture.width, geometry)
    if (new_width, new_height) != picture.size:
        picture = picture.resize((new_width, new_height), FILTERS[geometry.interpolation])
    top, left = round((new_height - height) / 2), round((new_width - width) / 2)
    return picture.crop((left, top, left + width, top + height))


def covering(height: int, width: int, geometry: Preprocessing) -> tuple[int, int]:
    """The (height, width) that a picture is resized to before the crop."""
    if geometry.size is None:
        return height, width
    least_height, least_width = (round(side / geometry.crop_pct) for side in geometry.size)
    if least_height * width >= least_width * height:
        return least_height, least_height * width // height
    return least_width * height // width, least_width
