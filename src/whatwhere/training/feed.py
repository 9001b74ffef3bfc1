"""How pictures reach a training: kept on its device where they fit, and of each batch the share of one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from whatwhere.network import Preprocessing

CPU = torch.device("cpu")
PART = 0.4  # of a GPU's free memory that pictures may take


@dataclass
class Feed:
    """Serves a split's batches on a device.

    On a GPU all pictures of a split are kept as bytes, from the first batch on, if they fit: a batch is then a choice
    of rows there, and no picture crosses the bus again.

    Attributes:
        geometry: how pictures are resized.
        device: where batches go.
        rank: of this process among `ranks`; each gets its share of every batch.
        ranks: processes that train together.
    """

    geometry: Preprocessing
    device: torch.device = CPU
    rank: int = 0
    ranks: int = 1
    _kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, along the first axis."""
        return batch if self.ranks == 1 else batch.tensor_split(self.ranks)[self.rank]

    def batches(self, train: Any, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The shares of all batches, on the device.

        Args:
            train: pictures with labels, as `Split`.
            order: (M,) row numbers.
            size: pictures in a batch of all processes.

        Returns:
            Pairs of images (n, C, H, W) and labels (n,).
        """
        if not len(order):
            return
        shares = [self.share(rows) for rows in order.split(size)]
        rows, n = torch.cat(shares), len(shares[0])
        kept = self._on_device(train)
        if kept is None:
            for images, labels in train.batches(n, geometry=self.geometry, order=rows):
                yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            return
        for part in rows.to(self.device).split(n):
            yield kept[0][part], kept[1][part]

    def _on_device(self, train: Any) -> tuple[Tensor, Tensor] | None:
        """All pictures and labels, moved once; None where they are served as they come."""
        if not _apart(self.device) or not hasattr(train, "whole"):
            return None
        if id(train) not in self._kept:
            images = train.whole(self.geometry)
            if images is None or not _fits(images, self.device):
                return None
            self._kept[id(train)] = images.to(self.device), train.labels.to(self.device)
        return self._kept[id(train)]


def _apart(device: torch.device) -> bool:
    """Whether pictures cross a bus to get there."""
    return device.type != "cpu"


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True  # memory is the computer's own, and the pictures are in it already
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * images.element_size() <= PART * free
