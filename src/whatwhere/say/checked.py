"""What instruments refuse alike: numbers out of range, and tensors that are not finite or of other shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from whatwhere.errors import InputError


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={value!r}: give a whole number of at least {least}.")
    return value


def within(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """A number in a range, its ends included.

    Args:
        name: of the argument.
        value: given.
        low: the least.
        high: the most; infinity for none, which itself is refused.
        open_low: the least itself is refused, too.

    Raises:
        InputError: for anything else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (open_low and value == low):
        least = f"above {low:g}" if open_low else f"of at least {low:g}"
        raise InputError(f"{name}={value!r}: give a number {least}{'' if high == math.inf else f', at most {high:g}'}.")
    return float(value)


def finite(**tensors: Tensor) -> None:
    """Refuse values that are not finite.

    Raises:
        InputError: naming the argument and how many.
    """
    for name, value in tensors.items():
        bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if bad:
            raise InputError(
                f"{name} hold {bad} values that are not finite, of {value.numel()}; check the network's weights and "
                "the pictures."
            )


def shaped(name: str, value: Any, *sizes: int | str) -> Tensor:
    """A tensor of a shape.

    Args:
        name: of the argument.
        value: given.
        sizes: of each dimension; a letter for any.

    Raises:
        InputError: for anything else.
    """
    seen = tuple(value.shape) if isinstance(value, Tensor) else None
    fits = seen is not None and len(seen) == len(sizes)
    if not fits or any(isinstance(want, int) and want != got for want, got in zip(sizes, seen or (), strict=True)):
        what = f"shape {seen}" if seen is not None else type(value).__name__
        raise InputError(f"{name}: {what}; give a tensor ({', '.join(map(str, sizes))}).")
    return value
