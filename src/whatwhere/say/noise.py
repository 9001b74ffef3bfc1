"""Channels of noise: what an AUiC must be compared with.

The best-matching concept of a channel that knows nothing is the commonest one, and an area under the inspectability
curve of 0.7 may be worth nothing. How much noise reaches depends on the concepts and their frequency alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from whatwhere.errors import InputError

REACH = 2.0  # cells: features are smooth, too


def smooth_noise(channels: int, size: Sequence[int], generator: torch.Generator, reach: float = REACH) -> Tensor:
    """Gaussian noise, blurred with a Gaussian whose ends meet, so that all places are alike.

    >>> smooth_noise(35, (12, 16), torch.Generator().manual_seed(0)).shape     # (35, 12, 16)

    Args:
        channels: C, independent of each other.
        size: (h, w).
        generator: source of the draw.
        reach: standard deviation of the blur, in cells; 0 for none.

    Returns:
        (C, h, w), float32.

    Raises:
        InputError: for a negative reach, or nothing to draw.
    """
    if channels < 1 or len(size) != 2 or min(size) < 1:
        raise InputError(f"channels={channels}, size={tuple(size)}: give at least one channel, and (h, w) above 0.")
    if not 0 <= reach < math.inf:
        raise InputError(f"reach={reach}: give a number of cells, 0 or more.")
    h, w = size
    white = torch.randn(channels, h, w, generator=generator)
    squared = torch.fft.fftfreq(h)[:, None] ** 2 + torch.fft.rfftfreq(w) ** 2
    blur = torch.exp(-2 * (math.pi * reach) ** 2 * squared)
    return torch.fft.irfft2(torch.fft.rfft2(white) * blur, s=(h, w))
