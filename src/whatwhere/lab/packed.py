"""Arrays in a form small enough for a JSON file."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whatwhere.errors import InputError

MOST = 255  # draws: a picture's count fits in a byte


def checked_repeats(repeats: int) -> int:
    """Draws, as many as can be packed.

    Raises:
        InputError: for others.
    """
    if not isinstance(repeats, int) or isinstance(repeats, bool) or not 1 <= repeats <= MOST:
        raise InputError(f"repeats={repeats!r} must be a whole number from 1 to {MOST}.")
    return repeats


def pack(hits: NDArray[np.integer]) -> str:
    """(N,) counts of at most 255, compressed, as text."""
    return _text(hits.astype(np.uint8).tobytes())


def unpack(text: str) -> NDArray[np.uint8]:
    """(N,) counts."""
    return np.frombuffer(_bytes(text), np.uint8)


def pack_scores(scores: ArrayLike) -> str:
    """(N,) numbers, as float32, as text."""
    return _text(np.asarray(scores, dtype="<f4").tobytes())


def unpack_scores(text: str) -> NDArray[np.float64]:
    """(N,) numbers."""
    return np.frombuffer(_bytes(text), "<f4").astype(np.float64)


def pack_arrays(arrays: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Arrays (any length,) of numbers, as float64, with their lengths; equal ones as one number."""
    sizes = [len(a) for a in arrays]
    values = np.concatenate(arrays) if arrays else np.zeros(0)
    return {"sizes": sizes[0] if len({*sizes}) == 1 else sizes, "n": len(sizes), "float64": _text(_doubles(values))}


def unpack_arrays(packed: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """The arrays."""
    values, sizes = np.frombuffer(_bytes(packed["float64"]), "<f8"), packed["sizes"]
    each = [sizes] * packed["n"] if isinstance(sizes, int) else sizes
    return np.split(values, np.cumsum(each)[:-1]) if each else []


def _doubles(values: ArrayLike) -> bytes:
    return np.asarray(values, dtype="<f8").tobytes()


def pack_maps(maps: ArrayLike) -> dict[str, Any]:
    """Maps to look at, of any shape, as float16 with their shape."""
    array = np.asarray(maps, dtype="<f2")
    return {"shape": list(array.shape), "float16": _text(array.tobytes())}


def unpack_maps(packed: Mapping[str, Any]) -> NDArray[np.float32]:
    """The maps in their shape."""
    shape: Sequence[int] = packed["shape"]
    return np.frombuffer(_bytes(packed["float16"]), "<f2").astype(np.float32).reshape(shape)


def _text(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
