"""Sources of a split's pictures: each returns stored pictures by row, undecoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.contents import MOST_SIZES, evenly, file_size, of_pixels, of_sizes, told_by
from whatwhere.data.paths import Paths
from whatwhere.data.pixels import Raw
from whatwhere.errors import InputError


class Source(Protocol):
    """Pictures by row. `read` is called from one thread only; decoding happens elsewhere."""

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """The stored pictures of some rows, in that order."""
        ...

    def place(self, row: int) -> str:
        """A row in error messages: its number, and its file if there is one."""
        ...


class Files:
    """Picture files on disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = Paths.joined([paths])

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """The paths; PIL opens them when it decodes them."""
        return [self.paths[row] for row in rows]

    def place(self, row: int) -> str:
        """Row and file."""
        return f"row {row} (file {self.paths[row]})"

    def told(self, rows: Sequence[int]) -> Iterable[bytes]:
        """The sizes of the files, of at most 50,000 of them."""
        return of_sizes(file_size(self.paths[row]) for row in evenly(rows, MOST_SIZES))


class Memory:
    """Pixels in memory, (N, C, H, W)."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """Views of the pictures, each (C, H, W)."""
        return [self.images[row] for row in rows]

    def place(self, row: int) -> str:
        """The row."""
        return f"row {row}"

    def told(self, rows: Sequence[int]) -> Iterable[bytes | memoryview]:
        """The pixels."""
        return of_pixels(self.images, rows)


class Rows:
    """Some rows of another source; errors keep the other source's row numbers."""

    def __init__(self, source: Source, rows: Tensor) -> None:
        self.source = source
        self.rows: list[int] = rows.tolist()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """The other source's pictures."""
        return self.source.read([self.rows[row] for row in rows])

    def place(self, row: int) -> str:
        """The row in the other source."""
        return self.source.place(self.rows[row])

    def told(self, rows: Sequence[int]) -> Iterable[bytes | memoryview] | None:
        """What the other source tells."""
        return told_by(self.source, [self.rows[row] for row in rows])


class Pairs:
    """A torch `Dataset` of (picture, label) pairs; the picture is a PIL image, an array or a tensor."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.dataset)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """The pictures of the pairs.

        Raises:
            InputError: if an item is not a pair, or its file cannot be opened.
        """
        return [as_raw(self.pair(row)[0], self.place(row)) for row in rows]

    def pair(self, row: int) -> tuple[Any, Any]:
        """One (picture, label)."""
        try:
            item = self.dataset[row]
        except OSError as error:  # raised by PIL inside torchvision's data sets
            raise InputError(f"source: {self.place(row)} cannot be read ({error}); remove or replace it.") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(
                f"source: {self.place(row)} is {type(item).__name__}, not a pair; give a Dataset whose "
                "items are (picture, label) pairs."
            )
        return item[0], item[1]

    def place(self, row: int) -> str:
        """Row and kind of data set."""
        return f"row {row} of the {type(self.dataset).__name__}"


def as_raw(picture: Any, place: str) -> Raw:
    """A picture of the user's data set in a form that can be decoded.

    Raises:
        InputError: for a value that is not a picture.
    """
    if isinstance(picture, Image.Image | Tensor | bytes | Path):
        return picture
    if isinstance(picture, str):
        return Path(picture)
    if isinstance(picture, np.ndarray | list):
        return channels_first(np.asarray(picture), place)
    raise InputError(
        f"source: {place} holds a {type(picture).__name__} where its picture should be; give a PIL image, "
        "or a tensor (C, H, W) of bytes (uint8) or prepared floats."
    )


def channels_first(pixels: Any, place: str) -> Tensor:
    """Numbers of an array or a list -> (C, H, W) tensor; whole numbers in 0..255 become bytes.

    (H, W) has one channel. A last axis of 1, 3 or 4 is the channels, (H, W, C), even where the first could be too, as
    in (3, 40, 3): arrays of pictures are channels last, as PIL, OpenCV and imageio make them, and a picture may be 3
    pixels high. Otherwise it is (C, H, W), as tensors always are; they do not come here.

    Raises:
        InputError: for another number of axes, or whole numbers that are no bytes.
    """
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim != 3:
        raise InputError(f"source: {place} has shape {pixels.shape}; a picture is (H, W), (H, W, C) or (C, H, W).")
    elif pixels.shape[2] in (1, 3, 4):
        pixels = pixels.transpose(2, 0, 1)
    if pixels.dtype.kind in "iu":
        pixels = as_bytes(pixels, place)
    return torch.from_numpy(np.ascontiguousarray(pixels))


def as_bytes(pixels: Any, place: str) -> Any:
    """Whole numbers as uint8; refused if they do not fit."""
    if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
        raise InputError(f"source: {place} has pixels from {pixels.min()} to {pixels.max()}; give bytes in 0..255.")
    return pixels.astype(np.uint8)
