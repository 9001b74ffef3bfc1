"""Weights of classes in a loss, from their frequency."""

from __future__ import annotations

import torch

from whatwhere.data.scenes import SceneSplit


def logarithmic(split: SceneSplit) -> tuple[float, ...]:
    """1 / log(1.02 + share of labelled pixels), as in ENet (Paszke et al. 2016): 50.5 for an absent class.

    Args:
        split: scenes to count.
    """
    own = split.counts[: len(split.classes)].double()
    share = own / own.sum().clamp_min(1)
    return tuple(round(float(w), 4) for w in 1 / torch.log(1.02 + share))
