"""What runs a cell of the patch study: all pictures cut by one grid, or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data import Split
from whatwhere.intervals import Batch, Estimate, over_pictures
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.packed import pack, unpack
from whatwhere.lab.parts import Parts
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData, GivenNetwork
from whatwhere.need.patch_shuffling import INPUT, shuffle_patches
from whatwhere.need.studies.chunk import right, seed_of_draw
from whatwhere.need.studies.curve_worker import limited, placed
from whatwhere.network import Network
from whatwhere.site import evaluating
from whatwhere.training.scores import check_scores

WHOLE = 1  # the grid of a picture as it is


@dataclass(frozen=True)
class PatchesWorker(PreparedOnce):
    """Measures one grid.

    Attributes:
        network: where it is.
        pictures: where they are.
        limit: of test pictures.
        scope: see `shuffle_patches`.
        repeats: draws of a grid.
        seed: of the draws.
        batch_size: pictures in a forward pass.
        folder: of the study; what a cell under way has measured is kept in it.
        study: stands for all that the cells of the folder share.
        device: for a network by name; `auto` leaves an object where it is.
    """

    network: GivenNetwork
    pictures: GivenData
    limit: int | None
    scope: Any
    repeats: int
    seed: int
    batch_size: int
    folder: Path
    study: str
    device: str = "auto"

    @cached_property
    def split(self) -> Split:
        """The test pictures."""
        return limited(self.pictures.data, self.limit).test

    @cached_property
    def net(self) -> Network:
        """The network, on its device."""
        return placed(self.network, self.split, self.device)

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell; one that was interrupted goes on where it stopped."""
        cell = Cell(config)
        with Parts(self._kept(cell), {"study": self.study, "cell": config}) as parts:
            return self._measured(int(config["grid"]), parts)

    def stored(self, cell: Cell) -> None:
        """A cell whose result is stored needs no parts."""
        self._kept(cell).unlink(missing_ok=True)

    def _kept(self, cell: Cell) -> Path:
        return self.folder / "checkpoints" / f"{cell.key}.json"

    def _measured(self, grid: int, parts: Parts) -> dict[str, Any]:
        """The right pictures of every draw; a batch is decoded once for all of them."""
        count, size = len(self.split), self.batch_size
        draws = 1 if grid == WHOLE else self.repeats
        starts = list(range(0, count, size))
        left = [start for start in starts if str(start) not in parts]
        order = torch.tensor([row for s in left for row in range(s, min(s + size, count))], dtype=torch.int64)
        batches = self.split.batches(size, geometry=self.net.preprocessing, order=order)
        with evaluating(self.net.module), Meter(title_of(grid), count * draws) as meter:
            for start, (images, labels) in zip(left, batches, strict=True):
                x = self.net.prepared(images)
                runs = [self._right(x, labels.to(x.device), grid, draw, start) for draw in range(draws)]
                parts.add(str(start), [pack(run.cpu().numpy()) for run in runs])
                meter.update((start + len(x)) * draws)
        return {"draws": [pack(np.concatenate([unpack(parts[str(s)][d]) for s in starts])) for d in range(draws)]}

    def _right(self, x: Tensor, labels: Tensor, grid: int, draw: int, start: int) -> Tensor:
        seed = seed_of_draw(self.seed, f"patches {grid}", INPUT, draw, start // self.batch_size)
        with shuffle_patches(self.net, grid, scope=self.scope, seed=seed):
            scores = self.net.module(x)
        check_scores(scores, labels)
        return right(scores, labels)


def title_of(grid: int) -> str:
    """How a cell is called."""
    return "pictures as they are" if grid == WHOLE else f"{grid} x {grid} patches"


@dataclass(frozen=True)
class Runs:
    """Which pictures were right, draw by draw.

    Attributes:
        right: (draws, N), 0 or 1.
        batch: pictures that share a draw; 1 where each has its own.
    """

    right: NDArray[np.uint8]
    batch: int = 1

    @staticmethod
    def of(plain: Mapping[str, Any], batch: int = 1) -> Runs:
        """From a cell's result."""
        return Runs(np.stack([unpack(text) for text in plain["draws"]]), batch)

    @property
    def accuracy(self) -> Estimate:
        """Over pictures and draws."""
        return self._over(None)

    def drop(self, intact: Runs) -> Estimate:
        """What was lost on the same pictures."""
        return self._over(intact.right.mean(0) - self.right.mean(0))

    def _over(self, values: NDArray[np.float64] | None) -> Estimate:
        draws, count = self.right.shape
        parts = [self.right[:, i : i + self.batch] for i in range(0, count, self.batch)]
        batches = [Batch(part.shape[1], tuple(int(t) for t in part.sum(1, dtype=np.int64))) for part in parts]
        return over_pictures(values, self.right.mean(0), np.full(count, draws), batches)

    @property
    def each_draw(self) -> tuple[float, ...]:
        """The accuracy of each draw."""
        return tuple(self.right.mean(1).tolist())
