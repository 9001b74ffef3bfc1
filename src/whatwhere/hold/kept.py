"""Features kept in memory, and the design matrix of a k x k read-out of them, applied and never written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import AT_ONCE, Tap
from whatwhere.hold.targets import resized

CONSTANT = 1e-6  # a channel that varies by less than this share of its values varies by float32's rounding alone


class Kept:
    """The features of some pictures, in float32, each map at its own size where that is less than the read-out's.

    Maps are brought to the read-out's size after the kernel's weights have been applied, which is the same and less
    work. Half precision would not do: a penalty of 1e-8 needs what it rounds away.

    Attributes:
        size: height and width of the features that are read, padding included.
        parts: (N, C, h, w) by tap, for each batch, less the channels' means.
        shift: (C,) by tap, what was subtracted: the means of the first batch.
        sums: (C, size, size) by tap, over pictures, at the size that is read; without a shift of other pictures.
        squares: the same of squares.
    """

    def __init__(self, size: int, padding: int = 0, shift: dict[str, Tensor] | None = None, *, room: int = 0) -> None:
        """Keep nothing yet.

        Args:
            size: height and width of the features that are read.
            padding: zeros around them.
            shift: of other pictures, those that were fitted, which may be known by the first batch only.
            room: bytes that all features will take (`kept_bytes`). Taken at once they go back to the system when they
                are no longer needed; many pieces of some MiB stay with the process, between what is still needed.
        """
        self._room = torch.empty(room // 4)
        self._inner, self._padding = size, padding
        self.size = size + 2 * padding
        self.parts: list[dict[str, Tensor]] = []
        self.shift: dict[str, Tensor] = {} if shift is None else shift  # not a copy, which would stay empty
        self._own_shift = shift is None  # pictures that are fitted, whose columns' means and spreads are needed
        self.sums: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return sum(len(next(iter(part.values()))) for part in self.parts)

    def add(self, maps: Mapping[str, Tensor]) -> None:
        """Keep a batch.

        Args:
            maps: (N, C, h, w) by tap; not larger than the read-out's size.

        Raises:
            InputError: if the features are not finite.
        """
        if not all(torch.isfinite(m).all() for m in maps.values()):
            raise InputError("the features hold values that are not finite; no read-out can be fitted to them.")
        self.parts.append({name: self._shifted(name, self._padded(m)) for name, m in maps.items()})

    def _padded(self, maps: Tensor) -> Tensor:
        return functional.pad(resized(maps, self._inner), (self._padding,) * 4) if self._padding else maps

    def _shifted(self, name: str, maps: Tensor) -> Tensor:
        parts = maps.split(AT_ONCE, 1)  # in float64, and at the size that is read, all channels would be many
        if self._own_shift and name not in self.shift:
            self.shift[name] = torch.cat([part.double().mean((0, 2, 3)) for part in parts])
        less = self._place(maps)
        for into, part, shift in zip(less.split(AT_ONCE, 1), parts, self.shift[name].split(AT_ONCE), strict=True):
            into.copy_(part.double().sub_(shift.view(1, -1, 1, 1)))
        if self._own_shift:
            self._sum(name, less)
        return less

    def _place(self, maps: Tensor) -> Tensor:
        """Where features lie, channels first or last as they are given: in the room, as long as there is any."""
        n = maps.numel()
        if n > len(self._room):
            return torch.empty_like(maps, dtype=torch.float32)
        place, self._room = self._room[:n], self._room[n:]
        return place.as_strided(maps.shape, torch.empty_like(maps, device="meta").stride())

    def _sum(self, name: str, less: Tensor) -> None:
        none = torch.zeros((), dtype=torch.float64)
        whole = (resized(part, self.size) for part in less.split(AT_ONCE, 1))
        found = [(part.sum(0, dtype=torch.float64), part.double().square_().sum(0)) for part in whole]
        sums, squares = map(torch.cat, zip(*found, strict=True))
        self.sums[name] = self.sums.get(name, none) + sums
        self.squares[name] = self.squares.get(name, none) + squares


def kept_bytes(taps: Sequence[Tap], pictures: int, size: int, padding: int = 0) -> int:
    """How much memory the features of some pictures take."""
    own = size * size if not padding else (size + 2 * padding) ** 2
    return sum(4 * pictures * t.channels * (own if padding else min(own, t.shape[0] * t.shape[1])) for t in taps)


@dataclass(frozen=True)
class Design:
    """The matrix of a linear read-out: a row for each picture and position, a column for each shift and channel.

    Attributes:
        kept: the features.
        taps: in order; their channels are put together.
        shifts: (row, column) of the kernel's entries.
        out: height and width of what is predicted.
    """

    kept: Kept
    taps: tuple[Tap, ...]
    shifts: tuple[tuple[int, int], ...]
    out: int

    @staticmethod
    def of(kept: Kept, taps: Sequence[Tap], kernel: int) -> Design:
        """Of a k x k read-out."""
        shifts = tuple((i, j) for i in range(kernel) for j in range(kernel))
        return Design(kept, tuple(taps), shifts, kept.size - kernel + 1)

    def centre(self) -> Design:
        """Of the 1 x 1 read-out at the kernel's centre, at the same positions."""
        return Design(self.kept, self.taps, (self.shifts[len(self.shifts) // 2],), self.out)

    @property
    def rows(self) -> int:
        """Pictures times positions."""
        return len(self.kept) * self.out**2

    @cached_property
    def shift(self) -> Tensor:
        """(C,) of all taps."""
        return torch.cat([self.kept.shift[t.name] for t in self.taps])

    @cached_property
    def mean(self) -> Tensor:
        """(columns,) of the shifted features."""
        return self._windows(self.kept.sums) / self.rows

    @cached_property
    def scale(self) -> Tensor:
        """(columns,) one over the standard deviation; 0 where a column is constant."""
        spread = (self._windows(self.kept.squares) / self.rows - self.mean**2).clamp_min(0).sqrt()
        return inverse_spread(spread, self.mean, self.shift.repeat(len(self.shifts)))

    def _windows(self, maps: Mapping[str, Tensor]) -> Tensor:
        x = torch.cat([maps[t.name] for t in self.taps])
        return torch.cat([x[:, i : i + self.out, j : j + self.out].sum((1, 2)) for i, j in self.shifts])

    def times(self, weights: Tensor, mean: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """The matrix, less the columns' means, times weights.

        Args:
            weights: (columns, B), float64.
            mean: (columns,) to subtract.
            dtype: of the products.

        Returns:
            (N, B, out, out) for each batch.
        """
        b, offset = weights.shape[1], (mean @ weights).to(dtype).view(1, -1, 1, 1)
        flat = weights.unflatten(0, (len(self.shifts), -1)).transpose(1, 2).flatten(0, 1).to(dtype)  # (shifts·B, C)
        parts = flat.split([t.channels for t in self.taps], 1)
        return [self._added(self._mixed(maps, parts), b) - offset for maps in self.kept.parts]

    def _mixed(self, maps: Mapping[str, Tensor], weights: Sequence[Tensor]) -> Tensor:
        """(N, shifts·B, size, size): channels put together, then brought to size."""
        total: Tensor | None = None
        for tap, w in zip(self.taps, weights, strict=True):
            x = maps[tap.name]
            mixed = (w @ x.to(w.dtype).flatten(2)).unflatten(2, x.shape[2:])
            if x.shape[2:] != (self.kept.size, self.kept.size):
                rows, columns = (self._to_size(n).to(w.dtype) for n in x.shape[2:])
                mixed = rows @ mixed @ columns.T
            total = mixed if total is None else total.add_(mixed)
        assert total is not None
        return total

    def _added(self, mixed: Tensor, b: int) -> Tensor:
        """Every shift's map, moved to its place and added up."""
        every = mixed.unflatten(1, (len(self.shifts), b))
        out = torch.zeros(len(mixed), b, self.out, self.out, dtype=mixed.dtype)
        for k, (i, j) in enumerate(self.shifts):
            out += every[:, k, :, i : i + self.out, j : j + self.out]
        return out

    def transposed(self, maps: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """The transposed matrix, its columns' own means taken off, times maps.

        Args:
            maps: (N, B, out, out) for each batch.
            dtype: of the products; pictures are added up in float64.

        Returns:
            (columns, B), float64.
        """
        b = maps[0].shape[1]
        total = torch.zeros(len(self.shifts) * b, len(self.shift), dtype=torch.float64)
        sums = torch.zeros(b, dtype=torch.float64)
        for x, z in zip(self.kept.parts, maps, strict=True):
            total += self._gathered(x, z.to(dtype))
            sums += z.double().sum((0, 2, 3))
        columns = total.unflatten(0, (len(self.shifts), b)).transpose(1, 2).flatten(0, 1)
        return columns - torch.outer(self.mean, sums)

    def _gathered(self, maps: Mapping[str, Tensor], z: Tensor) -> Tensor:
        spread = z.new_zeros(len(z), len(self.shifts), z.shape[1], self.kept.size, self.kept.size)
        for k, (i, j) in enumerate(self.shifts):
            spread[:, k, :, i : i + self.out, j : j + self.out] = z
        return torch.cat([self._onto(maps[t.name], spread.flatten(1, 2)) for t in self.taps], 1)

    def _onto(self, x: Tensor, spread: Tensor) -> Tensor:
        if x.shape[2:] != spread.shape[2:]:
            rows, columns = (self._to_size(n).to(spread.dtype) for n in x.shape[2:])
            spread = rows.T @ spread @ columns
        return (spread.flatten(2) @ x.to(spread.dtype).flatten(2).transpose(1, 2)).sum(0, dtype=torch.float64)

    def _to_size(self, n: int) -> Tensor:
        """(size, n): what brings n positions of an axis to the read-out's size, as `resized` does."""
        eye = torch.eye(n, dtype=torch.float64)[None, :, :, None]
        size = (self.kept.size, 1)
        return functional.interpolate(eye, size=size, mode="bilinear", align_corners=True)[0, :, :, 0].T


def inverse_spread(spread: Tensor, mean: Tensor, shift: Tensor) -> Tensor:
    """One over the standard deviations of columns; 0 where one is constant, but for rounding.

    A channel that is alive at the border alone is constant in the windows of some shifts. What it is there may be zero,
    but it was shifted, and the spread was computed from squares of what it then is: their rounding is left.

    Args:
        spread: (columns,) standard deviations.
        mean: (columns,) of the shifted columns.
        shift: (columns,) what was subtracted.
    """
    level = torch.maximum(mean.abs(), (mean + shift).abs())
    useful = spread > CONSTANT * level.clamp_min(1e-30)
    return torch.where(useful, 1 / spread.clamp_min(1e-300), 0.0)
