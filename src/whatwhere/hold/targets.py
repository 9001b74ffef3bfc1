"""Targets: maps that hold nothing but position, the same for every picture (Islam et al. 2020, papers' names)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError, unknown

Range = Literal["0..1", "-1..1"]
PERIODS = 2.5  # of the stripes, over the map [measured from the authors' pictures]
PHASE = 0.5 / 256  # of the stripes, in map sizes [measured]
SIGMA = 0.495  # of the Gaussian, in map sizes [measured]


def _ramp(size: int) -> Tensor:
    return torch.linspace(0, 1, size, dtype=torch.float64) if size > 1 else torch.zeros(1, dtype=torch.float64)


def _horizontal(size: int) -> Tensor:
    return _ramp(size).expand(size, size)


def _gaussian(size: int) -> Tensor:
    d = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    bell = torch.exp(-(d[:, None] ** 2 + d[None] ** 2) / (2 * (SIGMA * size) ** 2))
    low, high = bell.min(), bell.max()
    return (bell - low) / (high - low) if high > low else torch.zeros_like(bell)


def _stripes(size: int) -> Tensor:
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size  # the same picture at every size
    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * PERIODS * (centres - PHASE))
    return wave[:, None].expand(size, size)


TARGETS: Mapping[str, Callable[[int], Tensor]] = {
    "H": _horizontal,
    "V": lambda size: _horizontal(size).T,
    "G": _gaussian,
    "HS": _stripes,
    "VS": lambda size: _stripes(size).T,
}


@dataclass(frozen=True)
class Target:
    """A map to be read out: by name, or as an array of the user's.

    Attributes:
        name: H (column index, left to right), V (row index), G (a bell at the centre), HS (horizontal stripes,
            2.5 periods), VS, or the user's.
        range: `0..1`, or `-1..1`, which the paper's errors on the stripes show they used there.
        values: (h, w) a map of the user's own, in its own range; None for the named ones.
    """

    name: str
    range: Range = "0..1"
    values: Tensor | None = None

    def at(self, size: int) -> Tensor:
        """The target as (size, size), float32; a user's map is resized (bilinear, corners kept)."""
        if self.values is not None:
            return resized(self.values[None, None].float(), size)[0, 0]
        unit = TARGETS[self.name](size)
        return (unit if self.range == "0..1" else 2 * unit - 1).float().contiguous()


def targets_of(which: Sequence[str] | Mapping[str, Any], *, range: Range = "0..1") -> list[Target]:
    """Targets from names, or from maps by name.

    Args:
        which: names (H, V, G, HS, VS), or a mapping from the user's names to (h, w) arrays.
        range: of the named ones.

    Raises:
        InputError: for an unknown name or range, or a map that is not (h, w), finite and varying.
    """
    if range not in ("0..1", "-1..1"):
        raise unknown("range", str(range), ("0..1", "-1..1"))
    if not which:
        raise InputError(f"targets is empty; give at least one of {', '.join(TARGETS)}, or a map of your own.")
    if isinstance(which, Mapping):
        return [Target(str(name), range, _checked(str(name), values)) for name, values in which.items()]
    for name in which:
        if name not in TARGETS:
            raise unknown("targets", str(name), TARGETS)
    return [Target(name, range) for name in dict.fromkeys(which)]


def _checked(name: str, values: Any) -> Tensor:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or min(array.shape) < 2:
        raise InputError(f"targets[{name!r}] has shape {array.shape}; give a map (height, width) of at least 2 x 2.")
    if not np.isfinite(array).all():
        raise InputError(f"targets[{name!r}] holds values that are not finite; give numbers only.")
    if array.min() == array.max():
        raise InputError(f"targets[{name!r}] is constant, so no position is in it; give a map that varies.")
    return torch.from_numpy(array)


def stack(targets: Sequence[Target], size: int) -> Tensor:
    """All targets, (T, size, size)."""
    return torch.stack([t.at(size) for t in targets])


def resized(maps: Tensor, size: int) -> Tensor:
    """Features (N, C, h, w) to (N, C, size, size): bilinear, corners aligned [code]."""
    if tuple(maps.shape[-2:]) == (size, size):
        return maps
    return functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True)


def brought_to(maps: Tensor, size: int | None) -> Tensor:
    """Predictions (N, T, h, w) to (N, T, size, size): bilinear, corners not aligned [code]; None leaves them."""
    if size is None or tuple(maps.shape[-2:]) == (size, size):
        return maps
    return functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
