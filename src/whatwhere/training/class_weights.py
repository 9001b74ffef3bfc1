"""Weights of classes in a loss, from their frequency."""

from __future__ import annotations

import torch

from whatwhere.data.scenes import SceneSplit
from whatwhere.label_maps import CLASS


def logarithmic(split: SceneSplit) -> tuple[float, ...]:
    """1 / log(1.02 + share of labelled pixels), as in ENet (Paszke et al. 2016): 50.5 for an absent class.

    Args:
        split: scenes to count.
    """
    counts = torch.zeros(256, dtype=torch.int64)
    for _, maps in split.rows():
        counts += torch.bincount(maps[CLASS].flatten().long(), minlength=256)
    own = counts[: len(split.classes)].double()
    share = own / own.sum().clamp_min(1)
    return tuple(round(float(w), 4) for w in 1 / torch.log(1.02 + share))
