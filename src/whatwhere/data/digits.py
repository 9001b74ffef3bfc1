"""Scikit-learn's handwritten digits: 1,797 real scans of 8x8 pixels, available without a download."""

from __future__ import annotations

import numpy as np
import torch

from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.sources import Memory

TEST = 450  # of 1,797; the other 1,347 are for training
ENLARGED = 4  # 8 -> 32 pixels by repetition, as networks for small pictures expect
LEVELS = 16  # the brightest value of the scans


def digits() -> Data:
    """Load the digits: train 1,347, test 450, stratified by the ten classes; pictures (3, 32, 32)."""
    # scikit-learn takes seconds to import, and only this data set needs it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    rows = train_test_split(np.arange(len(labels)), test_size=TEST, stratify=labels, random_state=0)
    pictures = torch.from_numpy(np.round(scans * (255 / LEVELS)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    pictures = pictures.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3).repeat(1, 3, 1, 1)
    names = tuple(str(digit) for digit in range(10))
    parts = {
        split: Part(Memory(pictures[part]), torch.from_numpy(labels[part]), names)
        for split, part in zip(("train", "test"), map(np.sort, rows), strict=True)
    }
    return assemble("digits", parts)
