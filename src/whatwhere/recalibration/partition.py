"""Partitions of a map into cells: means over cells, and cell values brought back to positions.

Cell values are (N, cells, cells, C): channels last, so that a linear layer takes them as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cell_of(positions: int, cells: int, device: torch.device | None = None) -> Tensor:
    """The cell that each position of an axis belongs to, (positions,), whatever the two numbers.

    Cell j holds the positions from floor(j · positions / cells) on; some cells are empty where there are fewer
    positions than cells.
    """
    index = torch.arange(positions, device=device)
    return ((index + 1) * cells + positions - 1) // positions - 1  # ceil((i + 1) · cells / positions) - 1


def is_channels_last(x: Tensor) -> bool:
    """Whether a map lies in memory with its channels last (and not first as well)."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


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
    # Not adaptive pooling: its windows overlap where the cells do not divide the map.
    down, right = _averager(h, cells, x), _averager(w, cells, x)
    if not is_channels_last(x):
        return torch.matmul(torch.matmul(down, x), right.T).permute(0, 2, 3, 1)
    rows = torch.matmul(down, x.permute(0, 2, 3, 1).flatten(2))  # (N, cells, W · C): x is read once
    return torch.matmul(right, rows.unflatten(2, (w, x.shape[1])))


def _inside(positions: int, cells: int, like: Tensor) -> Tensor:
    return cell_of(positions, cells, like.device) == torch.arange(cells, device=like.device)[:, None]


def _averager(positions: int, cells: int, like: Tensor) -> Tensor:
    """(cells, positions) weights that average each cell."""
    inside = _inside(positions, cells, like)
    return (inside / inside.sum(1, keepdim=True).clamp_min(1)).to(like.dtype)


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
    down, right = (_union(size, fine, cells, means) for size in shape)
    rows = torch.matmul(down, means.flatten(2))
    return torch.matmul(right, rows.unflatten(2, (fine, means.shape[-1])))


def _union(positions: int, fine: int, cells: int, like: Tensor) -> Tensor:
    """(cells, fine) weights that average finer cells, each by how many positions it holds."""
    sizes = _inside(positions, fine, like).sum(1)
    member = (
        torch.arange(fine, device=like.device) // (fine // cells) == torch.arange(cells, device=like.device)[:, None]
    )
    held = member * sizes
    return (held / held.sum(1, keepdim=True).clamp_min(1)).to(like.dtype)


def scaled_by_cells(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply every position by the value of its cell.

    Where the cells divide the map, the gate is broadcast and never written at full size: x is read once and the result
    written once, the least that any gate needs. Not so while a gradient is wanted: the sum that goes backward through
    such a broadcast takes 1.2 to 7 times as long as through nearest upsampling (one thread of a CPU).

    Args:
        x: (N, C, H, W).
        gate: (N, cells, cells, C).

    Returns:
        (N, C, H, W), in the memory format of x.
    """
    (h, w), cells = x.shape[-2:], gate.shape[1]
    if cells == 1:
        return x * gate.permute(0, 3, 1, 2)
    last = is_channels_last(x)
    # A trace is checked with and without gradients, and must be the same.
    wanted = gate.requires_grad and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    if wanted and not (h % cells or w % cells):
        return x * functional.interpolate(gate.permute(0, 3, 1, 2), size=(h, w), mode="nearest")
    if h % cells or w % cells:
        rows, columns = cell_of(h, cells, x.device), cell_of(w, cells, x.device)
        if last:
            return x * gate.index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)
        return x * gate.permute(0, 3, 1, 2).index_select(2, rows).index_select(3, columns)
    if last:
        inner = x.permute(0, 2, 3, 1).unflatten(2, (cells, w // cells)).unflatten(1, (cells, h // cells))
        product = inner * gate[:, :, None, :, None]
        return product.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    inner = x.unflatten(3, (cells, w // cells)).unflatten(2, (cells, h // cells))
    return (inner * gate.permute(0, 3, 1, 2)[:, :, :, None, :, None]).flatten(4, 5).flatten(2, 3)
