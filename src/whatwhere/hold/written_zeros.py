"""Padding that no operator for it does: zeros are concatenated, a map is written into zeros, samples lie outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CAT, ASSIGNMENT, SAMPLING = "torch.cat", "item assignment", "F.grid_sample"
_JOINS = (torch.cat, torch.concat, torch.concatenate)
_FILLS: Mapping[Any, str] = {"zeros": "zeros", "border": "replicate", "reflection": "reflect"}


def padded_otherwise(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], channels_of: Callable[[Tensor], int]
) -> tuple[str, str] | None:
    """Which of these a call is, and what it pads with; None for any other call.

    Args:
        func: as torch calls it.
        args: by position.
        kwargs: by name.
        channels_of: the axis of a tensor's channels, not above 0 if that is not known.
    """
    if func in _JOINS:
        return (CAT, "zeros") if _joins_zeros(*_joined(args, kwargs), channels_of) else None
    if func is Tensor.__setitem__:
        return (ASSIGNMENT, "zeros") if _writes_into_zeros(*args) else None
    if func is F.grid_sample:
        return _sampled(args, kwargs)
    return None


def _joined(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int]:
    given = dict(zip(("tensors", "dim"), args, strict=False)) | dict(kwargs)
    return given["tensors"], int(given.get("dim", given.get("axis", 0)))


def _joins_zeros(parts: Any, axis: int, channels_of: Callable[[Tensor], int]) -> bool:
    """Whether rows or columns of zeros are put beside a map."""
    if not all(isinstance(p, Tensor) and p.ndim == 4 for p in parts):
        return False
    channels = next((a for a in map(channels_of, parts) if a > 0), 1)
    zeros = [not p.any() for p in parts]
    return axis % 4 not in (0, channels) and any(zeros) and not all(zeros)


def _writes_into_zeros(target: Tensor, key: Any, new: Any) -> bool:
    """Whether a map is written into a larger one of zeros, and not between them, as when rows are spread."""
    if not isinstance(new, Tensor) or target.ndim != 4 or new.ndim != 4 or target.any() or not new.any():
        return False
    keys = key if isinstance(key, tuple) else (key,)
    spread = any(isinstance(k, slice) and (k.step or 1) != 1 for k in keys)
    return target.shape[:1] == new.shape[:1] and target.numel() > new.numel() and not spread


def _sampled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str] | None:
    names = ("input", "grid", "mode", "padding_mode", "align_corners")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    x, grid = given["input"], given["grid"]
    sizes = grid.new_tensor([x.shape[3], x.shape[2]]) if x.ndim == 4 else None
    if sizes is None:
        return None
    inside = 1.0 if given.get("align_corners") else 1 - 1 / sizes  # the centres of the pixels at the border
    outside = bool((grid.abs() > inside + 1e-6).any())
    return (SAMPLING, _FILLS[given.get("padding_mode", "zeros")]) if outside else None
