"""Pictures that are prepared floats: finite, and scaled as networks take them."""

from __future__ import annotations

from torch import Tensor

from whatwhere.data.pixels import BrokenPicture
from whatwhere.errors import InputError

BYTES = 16.0  # prepared pictures without a negative value stay below this; those in 0..255 go beyond


def check_finite(images: Tensor) -> Tensor:
    """Pictures as they are: bytes, or finite floats.

    Raises:
        BrokenPicture: for values that are not finite.
    """
    if images.is_floating_point() and not bool(images.isfinite().all()):
        raise BrokenPicture("it holds values that are not finite (NaN or infinity)")
    return images


def check_scale(split: str, images: Tensor) -> Tensor:
    """Pictures as they are: bytes, or floats that do not look like 0..255.

    Args:
        split: for the error.
        images: as many as there are, since a single bright picture may be positive everywhere.

    Raises:
        InputError: for floats from 0 to 255.
    """
    if not images.is_floating_point() or not images.numel():
        return images
    low, high = (float(v) for v in images.aminmax())
    if low >= 0 and high > BYTES:
        raise InputError(
            f"split {split!r}: its pictures are floats from {low:.4g} to {high:.4g}, and floats count as prepared; "
            "give bytes (uint8) in 0..255, or floats that are normalised. For a network that takes 0..255, give bytes "
            "and Preprocessing(mean=(0,), std=(1 / 255,))."
        )
    return images
