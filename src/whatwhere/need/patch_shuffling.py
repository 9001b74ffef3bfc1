"""Patch shuffling: cut the picture itself into a grid of patches, and put these elsewhere.

What a network still recognises is in the patches and not in their arrangement, as of a bag of local features
[brendel2019]. The patches stay whole, alike in all channels; their borders are new edges, which are part of the damage.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.interventions import Intervention, When
from whatwhere.need.shuffling import check_seed
from whatwhere.network import Network, as_module
from whatwhere.site import Site, expected_input_size

INPUT = "input"
SCOPES = ("sample", "batch")
Grid = int | tuple[int, int]


def shuffle_patches(
    net: nn.Module | Network,
    grid: Grid = 4,
    *,
    scope: Literal["sample", "batch"] = "sample",
    when: When = "always",
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Intervention:
    """Permute, for a while, the patches of the pictures that enter a network.

    >>> with ww.need.shuffle_patches(net, grid=4):      # 16 patches of each picture, in a new order each
    ...     ww.evaluate(net, data)

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        grid: patches along each side, or (rows, columns); each must divide the picture's side.
        scope: `sample`: an order for each picture; `batch`: one that the pictures of a batch share. Both are drawn anew
            in every forward pass.
        when: in training and evaluation, or in one of them.
        seed: of the draws.
        generator: draw from this CPU generator instead.

    Returns:
        A context manager; while it lasts, the network refuses pictures (N, C, H, W) that the grid does not divide.

    Raises:
        InputError: for a grid or scope that cannot be.
    """
    rows, columns = checked_grid(grid)
    if scope not in SCOPES:
        raise unknown("scope", scope, SCOPES)
    check_seed(seed)
    rng = generator or torch.Generator().manual_seed(seed)

    def change(pictures: Tensor) -> Tensor:
        check_divides((rows, columns), (pictures.shape[2], pictures.shape[3]))
        orders = [
            torch.randperm(rows * columns, generator=rng) for _ in range(len(pictures) if scope == "sample" else 1)
        ]
        return with_patches_at(pictures, torch.stack(orders).to(pictures.device), (rows, columns))

    return Intervention(as_module(net), {input_site(net): change}, when=when)


def input_site(net: nn.Module | Network) -> Site:
    """The network's input as a place: what enters the network as a whole."""
    size = expected_input_size(net)
    return Site(INPUT, "", 1, -1, "group", "NCHW", size, None, 1.0, 0)


def with_patches_at(pictures: Tensor, orders: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pictures with their patches elsewhere.

    Args:
        pictures: (N, C, H, W).
        orders: (N, rows·columns), or (1, rows·columns) for all: patch `orders[n, i]` comes to place i, row by row.
        grid: (rows, columns), which divide H and W.

    Returns:
        (N, C, H, W), in the memory format of `pictures`.
    """
    rows, columns = grid
    cut = pictures.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # (N, C, rows, h, columns, w)
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (N, rows·columns, C, h, w)
    order = orders.expand(len(pictures), -1)
    moved = patches[torch.arange(len(pictures), device=order.device)[:, None], order].unflatten(1, (rows, columns))
    whole = moved.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    last = pictures.is_contiguous(memory_format=torch.channels_last) and not pictures.is_contiguous()
    return whole.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def checked_grid(grid: Grid) -> tuple[int, int]:
    """(rows, columns) of a grid.

    Raises:
        InputError: for anything but one or two whole numbers above 0.
    """
    pair = grid if isinstance(grid, tuple | list) else (grid, grid)
    if len(pair) != 2 or not all(type(n) is int and n >= 1 for n in pair):
        raise InputError(f"grid={grid!r}: give how many patches lie along a side, such as 4, or (rows, columns).")
    return pair[0], pair[1]


def check_divides(grid: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse a grid that does not divide a picture: patches of several sizes cannot change places.

    Args:
        grid: (rows, columns).
        size: (H, W).

    Raises:
        InputError: naming the grids that do.
    """
    if not any(side % n for side, n in zip(size, grid, strict=True)):
        return
    common = [n for n in range(2, min(size) + 1) if size[0] % n == 0 and size[1] % n == 0]
    listed = ", ".join(map(str, common[:12])) or "none"
    shown = grid[0] if grid[0] == grid[1] else grid
    raise InputError(
        f"grid={shown} does not divide a picture of {size[0]} x {size[1]} pixels; grids that do: {listed}. "
        "Or give the network pictures of another size (its preprocessing's `size`)."
    )
