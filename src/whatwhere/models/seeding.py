"""Weights drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

from whatwhere.data.memory import available
from whatwhere.errors import InputError


def seeded(seed: int, build: Callable[[], T]) -> T:
    """Build something with weights drawn from a seed; the global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the accelerators
        return build()


def check_room(width: float, build: Callable[[], nn.Module]) -> None:
    """Refuse a width whose weights do not fit into memory, before they are drawn.

    Args:
        width: the option, for the error.
        build: the network.

    Raises:
        InputError: saying how large it would be.
    """
    if width <= 1:
        return
    try:
        with torch.device("meta"):  # shapes alone
            size = sum(p.numel() * p.element_size() for p in build().parameters())
    except RuntimeError:  # more than can be counted
        size = 2**63
    free = available()
    if size > free:
        raise InputError(
            f"width={width:g}: the network's weights would take {size / 2**30:,.0f} GiB, and {free / 2**30:,.0f} GiB "
            "of memory are free; give a smaller width, such as 1."
        )
