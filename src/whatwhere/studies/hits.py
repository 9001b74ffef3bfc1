"""How often each picture was right, in a form small enough for a JSON file."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray


def pack(hits: NDArray[np.integer]) -> str:
    """(N,) counts of at most 255, compressed, as text."""
    return base64.b64encode(zlib.compress(hits.astype(np.uint8).tobytes(), 9)).decode()


def unpack(text: str) -> NDArray[np.uint8]:
    """(N,) counts."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
