"""Moments: all that a linear read-out's closed form needs, gathered batch by batch; memory does not grow with pictures.

A k x k convolution is a linear map of C·k·k columns: every channel at every shift. The second moments of two shifted
channels depend on the window only near its border, so the sums over windows are put together from products of parts:
every position is multiplied once for each *difference* of shifts, (2k-1)² / 2 of them instead of k⁴.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.hold.features import AT_ONCE

LONG = 256  # positions of a row: a product of so many takes longer than adding it to the others


@dataclass(frozen=True)
class Axis:
    """How windows along one axis are put together, for one difference of shifts.

    Attributes:
        first: the shifts of the first factor that this difference allows.
        parts: half-open ranges of positions of the first factor, which do not overlap.
        uses: (shifts, parts) 1 where the window of a shift contains a part.
    """

    first: range
    parts: list[tuple[int, int]]
    uses: Tensor


def axis_of(size: int, kernel: int, difference: int) -> Axis:
    """Parts and windows of an axis with `size` positions; the second factor is `difference` further on."""
    length = size - kernel + 1  # of a window
    first = range(max(0, -difference), min(kernel, kernel - difference))
    edges = sorted({edge for d in first for edge in (d, d + length)})
    parts = [(a, b) for a, b in pairwise(edges)]
    uses = [[float(d <= a and b <= d + length) for a, b in parts] for d in first]
    return Axis(first, parts, torch.tensor(uses, dtype=torch.float64))


class Moments:
    """First and second moments of the columns of a k x k read-out, and of the targets.

    Columns are ordered by shift (row, then column of the kernel), then by channel. Everything is float64, products too:
    columns of small, nearly collinear features have eigenvalues far below float32's rounding, and a solve divides by
    them. Channels are shifted by a constant (their mean over the first batch), so that nothing is lost to a large mean.

    Attributes:
        rows: positions of all pictures so far.
        shift: (C,) what was subtracted.
        at: (A,) the channels that were alive in any batch, ascending; the others' columns are zero, and are not held: a
            third of an untrained SqueezeNet's, more than half of its products.
        column_sums: (k·k·A,).
        products: (k·k·A, k·k·A).
        target_sums: (T,).
        target_products: (T,), sums of squares.
        cross: (k·k·A, T).
    """

    def __init__(self, targets: int, kernel: int, padding: int, shift: Tensor) -> None:
        self.kernel, self.padding, self.shift = kernel, padding, shift.double()
        self.rows, self.at = 0, torch.arange(0)
        f64 = torch.float64
        self.column_sums, self.products = torch.zeros(0, dtype=f64), torch.zeros(0, 0, dtype=f64)
        self.target_sums, self.target_products = torch.zeros(targets, dtype=f64), torch.zeros(targets, dtype=f64)
        self.cross = torch.zeros(0, targets, dtype=f64)

    def add(self, maps: Tensor | Iterable[Tensor], targets: Tensor) -> None:
        """Take in a batch.

        Args:
            maps: (N, C, H, W) features, or some of the channels after the others, which are gone through twice.
            targets: (T, h, w), or (N, T, h, w) where they differ between pictures; h = H + 2·padding - k + 1.

        Raises:
            InputError: if the features are not finite, or the kernel is larger than the map.
        """
        parts = maps.split(AT_ONCE, 1) if isinstance(maps, Tensor) else maps
        at = alive(parts, self.shift, self.padding)
        x = self._laid_out(parts, at)
        size = (x.shape[0] - self.kernel + 1, x.shape[1] - self.kernel + 1)
        if tuple(targets.shape[-2:]) != size:
            raise InputError(f"targets are {tuple(targets.shape[-2:])}, the read-out's output is {size}.")
        self._widen(at)
        held = torch.searchsorted(self.at, at)
        self._add_columns(x, targets, size, held)
        self._add_targets(targets, x.shape[2])
        self._add_products(x, held)
        self.rows += x.shape[2] * size[0] * size[1]

    def part(self, channels: Tensor) -> Moments:
        """The moments of some channels.

        Args:
            channels: their numbers.
        """
        found = Moments(len(self.target_sums), self.kernel, self.padding, self.shift[channels])
        found.at = torch.isin(channels, self.at).nonzero().flatten()
        at = columns_of(torch.searchsorted(self.at, channels[found.at]), len(self.at), self.kernel)
        found.rows, found.column_sums, found.cross = self.rows, self.column_sums[at], self.cross[at]
        found.products = self.products[at[:, None], at]
        found.target_sums, found.target_products = self.target_sums.clone(), self.target_products.clone()
        return found

    def _widen(self, at: Tensor) -> None:
        """Make room for channels that are alive for the first time."""
        old, self.at = self.at, torch.cat([self.at, at]).unique()
        if len(self.at) == len(old):
            return
        columns = columns_of(torch.searchsorted(self.at, old), len(self.at), self.kernel)
        n, sums, cross, products = self.kernel**2 * len(self.at), self.column_sums, self.cross, self.products
        self.column_sums, self.cross = sums.new_zeros(n), cross.new_zeros(n, cross.shape[1])
        self.products = products.new_zeros(n, n)
        self.column_sums[columns], self.cross[columns] = sums, cross
        self.products[columns[:, None], columns] = products

    def _laid_out(self, parts: Iterable[Tensor], at: Tensor) -> Tensor:
        """(H, W, N, channels `at`), padded and shifted: any window is then a matrix of rows without a gather."""
        p, x, first, there = self.padding, torch.zeros(0), 0, 0
        for part in parts:
            n, c, height, width = part.shape
            if not first:
                x = torch.zeros(height + 2 * p, width + 2 * p, n, len(at), dtype=torch.float64)
            own = at[(at >= first) & (at < first + c)] - first
            some = part if len(own) == c else part[:, own]
            x[p : height + p, p : width + p, :, there : there + len(own)] = some.permute(2, 3, 0, 1)
            first, there = first + c, there + len(own)
        return x.sub_(self.shift[at])

    def _add_columns(self, x: Tensor, targets: Tensor, size: tuple[int, int], at: Tensor) -> None:
        alike = targets.ndim == 3  # in all pictures: then only the sum over pictures matters
        summed = x.sum(2) if alike else x
        goals = (targets if alike else targets.permute(1, 2, 3, 0)).double().flatten(1)
        for i in range(self.kernel * self.kernel):
            dy, dx = divmod(i, self.kernel)
            window = summed[dy : dy + size[0], dx : dx + size[1]].flatten(0, -2)
            self.column_sums[i * len(self.at) + at] += window.sum(0)
            self.cross[i * len(self.at) + at] += (goals @ window).T

    def _add_targets(self, targets: Tensor, pictures: int) -> None:
        every = targets.double() if targets.ndim == 4 else targets.double().expand(pictures, -1, -1, -1)
        self.target_sums += every.sum((0, 2, 3))
        self.target_products += (every**2).sum((0, 2, 3))

    def _add_products(self, x: Tensor, at: Tensor) -> None:
        k = self.kernel
        for i in range((2 * k - 1) ** 2 // 2, (2 * k - 1) ** 2):  # the other half is its mirror image
            dy, dx = i // (2 * k - 1) - (k - 1), i % (2 * k - 1) - (k - 1)
            down, right = axis_of(x.shape[0], k, dy), axis_of(x.shape[1], k, dx)
            for (row, column), window in _windows(x, down, right, (dy, dx)):
                first, second = row * k + column, (row + dy) * k + column + dx
                self._place(first, second, window, at)
                if first != second:
                    self._place(second, first, window.T, at)

    def _place(self, first: int, second: int, window: Tensor, at: Tensor) -> None:
        """Add the products of two shifts' columns."""
        c, k2 = len(self.at), self.kernel**2
        block = self.products.view(k2, c, k2, c)[first, :, second]
        if len(at) == c:
            block += window
        else:
            block[at[:, None], at] += window


def columns_of(channels: Tensor, of: int, kernel: int) -> Tensor:
    """The columns of some channels, where there are `of` channels: by shift, then by channel."""
    return (torch.arange(kernel**2)[:, None] * of + channels).flatten()


def alive(parts: Iterable[Tensor], shift: Tensor, padding: int) -> Tensor:
    """The channels that are anywhere else than at what is subtracted: all others add nothing but zeros.

    Args:
        parts: (N, some channels, H, W) features, some channels after the others.
        shift: (C,) what is subtracted.
        padding: zeros around the features.

    Raises:
        InputError: if the features are not finite.
    """
    low, high = (torch.cat(ends) for ends in zip(*((p.amin((0, 2, 3)), p.amax((0, 2, 3))) for p in parts), strict=True))
    if not (torch.isfinite(low) & torch.isfinite(high)).all():
        raise InputError("the features hold values that are not finite; no read-out can be fitted to them.")
    same = (low == shift) & (high == shift)
    if padding:
        same &= shift == 0
    return (~same).nonzero().flatten()


def _windows(x: Tensor, down: Axis, right: Axis, by: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """For each allowed shift, the (C, C) product of its window with the window `by` further on."""
    c = x.shape[-1]
    whole = x.new_zeros(len(right.first), len(down.first), c, c)
    for columns, wide in zip(right.parts, right.uses.T, strict=True):
        rows = x.new_zeros(len(down.first), c, c)  # of one range of columns at a time: of all, they are many
        for part, high in zip(down.parts, down.uses.T, strict=True):
            product = _product(x, part, columns, by)
            for i in high.nonzero().flatten().tolist():
                rows[i] += product
        for j in wide.nonzero().flatten().tolist():
            whole[j] += rows
    for i, row in enumerate(down.first):
        yield from (((row, column), whole[j, i]) for j, column in enumerate(right.first))


def _product(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], by: tuple[int, int]) -> Tensor:
    """(C, C) of one part; a row is a matrix as it lies, and rows are copied into one only where they are narrow."""
    (a, b), (left, right), c = rows, columns, x.shape[-1]
    if (right - left) * x.shape[2] < LONG:
        first = x[a:b, left:right]
        second = x[a + by[0] : b + by[0], left + by[1] : right + by[1]]
        return first.flatten(0, 2).T @ second.flatten(0, 2)
    total = x.new_zeros(c, c)
    for row in range(a, b):
        second = x[row + by[0], left + by[1] : right + by[1]].flatten(0, 1)
        total.addmm_(x[row, left:right].flatten(0, 1).T, second)
    return total
