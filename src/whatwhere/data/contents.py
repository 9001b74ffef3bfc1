"""What pictures hold, told by far more of them than a fingerprint reads: bytes in memory, and sizes of what is stored.

A fingerprint names pictures for good: it is in the names of finished cells, and reads a few. These digits are only ever
compared with those of the same folder, and see a change in almost any picture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

MOST_SIZES = 50_000  # asking for a file's size is slow on a network's disk
MOST_BYTES = 2**30  # in memory, half a second
MOST_READ = 1_000  # pictures that have to be read from a disk for it
WHOLE = 2**28  # bytes on a disk that are read one after the other instead
PART = 2**22  # bytes that are copied at once


@runtime_checkable
class Telling(Protocol):
    """A source that can tell what it holds without decoding it."""

    def told(self, rows: Sequence[int]) -> Iterable[bytes | memoryview] | None:
        """What tells the content of some rows from another: bytes, or sizes; None if nothing cheap does."""
        ...


def contents_of(*sources: object) -> str:
    """16 hex digits of what sources of as many rows hold; "" if none of them can tell.

    Args:
        *sources: of pictures, and of label maps.
    """
    digest, said = hashlib.sha256(), False
    for source in sources:
        told = told_by(source, range(len(source)))  # type: ignore[arg-type]
        for part in told or ():
            digest.update(part)
        said |= told is not None
        digest.update(b"|")
    return digest.hexdigest()[:16] if said else ""


def told_by(source: object, rows: Sequence[int]) -> Iterable[bytes | memoryview] | None:
    """What a source tells of some rows; None if it cannot."""
    return source.told(rows) if isinstance(source, Telling) else None


def evenly(rows: Sequence[int], most: int) -> list[int]:
    """At most so many rows, evenly spaced."""
    spaced = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int).tolist()
    return [rows[at] for at in spaced]


def of_sizes(sizes: Iterable[int]) -> list[bytes]:
    """Sizes in bytes, the same wherever they are stored: as files, within shards or in tables."""
    return [np.fromiter(sizes, dtype="<i8").tobytes()]


def file_size(path: Path) -> int:
    """The size of a file; -1 if it is not there, which whoever reads it will say."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def of_pixels(images: Tensor, rows: Sequence[int]) -> Iterable[bytes | memoryview]:
    """The bytes of pictures in memory (N, ...): all, or as many pictures as have `MOST_BYTES`."""
    each = max(1, images[:1].numel() * images.element_size())
    chosen = torch.tensor(evenly(rows, max(1, MOST_BYTES // each)), dtype=torch.int64)
    for part in chosen.split(max(1, PART // each)):
        end = int(part[0]) + len(part)
        side_by_side = torch.equal(part, torch.arange(end - len(part), end))  # need no copy
        found = images[end - len(part) : end] if side_by_side else images[part]
        yield found.contiguous().flatten().view(torch.uint8).numpy().data
