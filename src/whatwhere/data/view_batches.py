"""Training pictures in batches, each seen through a random view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from whatwhere.data.ahead import ahead
from whatwhere.data.loaders import LoaderSplit
from whatwhere.data.pixels import Raw, check_geometry
from whatwhere.data.split import Split
from whatwhere.data.views import Views, to_view, viewed
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

FEW = 16  # pictures that a thread decodes at a time


def view_batches(
    split: Split,
    size: int,
    views: Views,
    *,
    seed: int,
    geometry: Preprocessing | None = None,
    order: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Serve a random view of each picture, in batches.

    With a size, threads decode every picture, cut its view out and resize that, in every pass: nothing is kept. Without
    one, and of prepared floats, pictures have one size, are kept where they fit, and are cut in whole batches.

    Args:
        split: the pictures.
        size: pictures in a batch; the last one may be smaller.
        views: how they are drawn.
        seed: of this pass; a row's view depends on it and on the row alone.
        geometry: its size is that of the views; without one, they have the pictures' own.
        order: (M,) row numbers to serve, in this order; None is all rows once.

    Returns:
        Pairs of images (n, C, H, W), uint8 (or prepared floats), and labels (n,), int64.

    Raises:
        InputError: as by `Split.batches`; for a `DataLoader`, which crops itself.
    """
    if isinstance(split, LoaderSplit):
        raise InputError(
            "recipe: crop_area: a DataLoader gives its pictures cut already; give its Dataset, "
            "load_data(loader.dataset), or a recipe with crop_area=None."
        )
    rows = torch.arange(len(split)) if order is None else split.checked(order)
    if geometry is not None and geometry.size and not _prepared(split):
        return _cut(split, rows.split(size) if len(rows) else (), views, seed, geometry)
    return _cut_in_batches(split, size, views, seed, geometry, rows)


def _prepared(split: Split) -> bool:
    """Whether the pictures are floats."""
    first = split.source.read([0])[0]
    return isinstance(first, Tensor) and first.is_floating_point()


def _cut_in_batches(
    split: Split, size: int, views: Views, seed: int, geometry: Preprocessing | None, order: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    filters = geometry.interpolation if geometry else "bilinear"
    given = split.batches(size, geometry=geometry, order=order)
    for rows, (images, labels) in zip(order.split(size), given, strict=True):
        here = (images.shape[2], images.shape[3])
        yield viewed(images, [views.of(seed, row, *here) for row in rows.tolist()], here, filters), labels


def _cut(
    split: Split, batches: Sequence[Tensor], views: Views, seed: int, geometry: Preprocessing
) -> Iterator[tuple[Tensor, Tensor]]:
    check_geometry(geometry)

    def view(row: int, raw: Raw) -> Tensor:
        return split.usable(row, lambda: to_view(raw, geometry, views, seed, row))

    parts = (part.tolist() for rows in batches for part in rows.split(FEW))
    tasks = ((part, split.source.read(part)) for part in parts)
    cut = ahead(lambda task: [view(row, raw) for row, raw in zip(*task, strict=True)], tasks)
    for rows in batches:
        yield torch.stack([image for _ in range(0, len(rows), FEW) for image in next(cut)]), split.labels[rows]
