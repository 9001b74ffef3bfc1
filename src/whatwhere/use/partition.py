"""Partitions of a map into cells: means over cells, and cell values brought back to positions.

Cell values are (N, cells, cells, C): channels last, so that a linear layer takes them as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def cell_sizes(positions: int, cells: int) -> list[int]:
    """How many positions of an axis each cell holds; the sizes differ by one at most.

    Cell j starts at position floor(j · positions / cells); some cells are empty if there are fewer positions than
    cells.
    """
    return [(j + 1) * positions // cells - j * positions // cells for j in range(cells)]


def cell_of(positions: int, cells: int, device: torch.device | None = None) -> Tensor:
    """The cell that each position of an axis belongs to, (positions,)."""
    index = torch.tensor([j for j, size in enumerate(cell_sizes(positions, cells)) for _ in range(size)])
    return index.to(device, non_blocking=True)  # without waiting for an accelerator


def cell_means(x: Tensor, cells: int) -> Tensor:
    """Means over the cells of a cells x cells partition; 0 in an empty cell.

    Args:
        x: (N, C, H, W).
        cells: per side.

    Returns:
        (N, cells, cells, C).
    """
    h, w = x.shape[-2:]
    if h % cells == 0 and w % cells == 0:
        return functional.adaptive_avg_pool2d(x, cells).permute(0, 2, 3, 1)
    # Not adaptive pooling: its windows overlap if the cells do not divide the map.
    return _part_means(_part_means(x.permute(0, 2, 3, 1), cells, 1), cells, 2)


def _part_means(x: Tensor, cells: int, axis: int) -> Tensor:
    """Means over the cells of one axis. Split, not sliced: the gradient is then written once."""
    parts = x.split(cell_sizes(x.shape[axis], cells), axis)
    return torch.stack([(p.mean if p.shape[axis] else p.sum)(axis) for p in parts], axis)


def coarser(means: Tensor, shape: tuple[int, int], cells: int) -> Tensor:
    """Means over a coarser partition whose cells are unions of finer ones, from the finer means.

    Args:
        means: (N, fine, fine, C), of a map of `shape`.
        shape: (H, W) of the map.
        cells: per side of the coarser partition; divides `fine`.

    Returns:
        (N, cells, cells, C).
    """
    fine = means.shape[1]
    step = fine // cells
    if shape[0] % fine == 0 and shape[1] % fine == 0:
        return functional.avg_pool2d(means.permute(0, 3, 1, 2), step).permute(0, 2, 3, 1)
    down, right = (_shares(size, fine, step) for size in shape)
    # The pooling divides by step². Its divisor_override would avoid that, but ONNX export drops it.
    share = torch.tensor([[[d * r * step**2] for r in right] for d in down], dtype=means.dtype)
    share = share.to(means.device, non_blocking=True)
    return functional.avg_pool2d((means * share).permute(0, 3, 1, 2), step).permute(0, 2, 3, 1)


def _shares(positions: int, fine: int, step: int) -> list[float]:
    """Each finer cell's share of the positions of the coarser cell that it belongs to, along one axis."""
    sizes = cell_sizes(positions, fine)
    whole = [sum(sizes[i // step * step :][:step]) for i in range(fine)]
    return [size / max(total, 1) for size, total in zip(sizes, whole, strict=True)]


def scaled_by_cells(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply every position by the value of its cell.

    Without gradients the gate is never written at full size: x is read once and the result written once, the minimum
    for any gate. With gradients it is written, because the backward sum through a broadcast takes 1.2 to 7 times as
    long as through nearest upsampling (one CPU thread).

    Args:
        x: (N, C, H, W).
        gate: (N, cells, cells, C).

    Returns:
        (N, C, H, W), in the memory format of x.
    """
    (h, w), cells = x.shape[-2:], gate.shape[1]
    if cells == 1:
        return x * gate.permute(0, 3, 1, 2)
    # A trace is checked with and without gradients, and both must agree.
    written = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if written and not (h % cells or w % cells):
        return x * functional.interpolate(gate.permute(0, 3, 1, 2), size=(h, w), mode="nearest")
    gate = gate.index_select(2, cell_of(w, cells, x.device))
    if not written:
        return _band_by_band(x, gate.permute(0, 3, 1, 2))
    return x * gate.index_select(1, cell_of(h, cells, x.device)).permute(0, 3, 1, 2)


def between_centres(gate: Tensor, size: tuple[int, int]) -> Tensor:
    """Cell values at every position, bilinear between the centres of non-empty cells, constant beyond the outer ones.

    Args:
        gate: (N, cells, cells, C).
        size: (H, W) of the map.

    Returns:
        (N, C, H, W).
    """
    cells = gate.shape[1]
    if size[0] % cells == 0 and size[1] % cells == 0:
        return functional.interpolate(gate.permute(0, 3, 1, 2), size=size, mode="bilinear")
    down, right = (_centre_shares(n, cells).to(gate.device, gate.dtype) for n in size)
    return torch.einsum("hi,wj,nijc->nchw", down, right, gate)


def _centre_shares(positions: int, cells: int) -> Tensor:
    """(positions, cells): the weight of each cell's value at each position of an axis."""
    sizes = cell_sizes(positions, cells)
    held = [j for j, size in enumerate(sizes) if size]
    centres = [sum(sizes[:j]) + sizes[j] / 2 for j in held]
    at = np.arange(positions) + 0.5
    shares = np.zeros((positions, cells), np.float32)
    for j, own in zip(held, np.eye(len(held)), strict=True):
        shares[:, j] = np.interp(at, centres, own)
    return torch.from_numpy(shares)


def _band_by_band(x: Tensor, gate: Tensor) -> Tensor:
    """A map (N, C, H, W) times a gate (N, C, cells, W), one row of cells at a time."""
    gate = gate.contiguous() if x.is_contiguous() else gate  # read in the order of x
    out = torch.empty_like(x, dtype=torch.result_type(x, gate))
    sizes = cell_sizes(x.shape[2], gate.shape[2])
    for given, weight, place in zip(x.split(sizes, 2), gate.split(1, 2), out.split(sizes, 2), strict=True):
        torch.mul(given, weight, out=place)
    return out
