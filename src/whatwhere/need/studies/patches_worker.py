"""What runs a cell of the patch study: all pictures cut by one grid, or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whatwhere.lab.cells import Cell
from whatwhere.lab.parts import Parts
from whatwhere.lab.progress import Meter
from whatwhere.need.patch_shuffling import INPUT, shuffle_patches
from whatwhere.need.studies.chunk import beside, packed, seed_of_draw, tally_of_draws, unpacked
from whatwhere.need.studies.on_pictures import OnPictures
from whatwhere.need.studies.tally import AnyTally, joined_tally
from whatwhere.scores.score import Score
from whatwhere.site import evaluating

WHOLE = 1  # the grid of a picture as it is


@dataclass(frozen=True, kw_only=True)
class PatchesWorker(OnPictures):
    """Measures one grid.

    Attributes:
        scope: see `shuffle_patches`.
        repeats: draws of a grid.
    """

    scope: Any
    repeats: int

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell; one that was interrupted goes on where it stopped."""
        cell = Cell(config)
        with Parts(self.kept(cell), {"study": self.study, "cell": config}) as parts:
            return self._measured(int(config["grid"]), parts)

    def _measured(self, grid: int, parts: Parts) -> dict[str, Any]:
        """The evidence of every draw; a batch is decoded once for all of them."""
        count, size, score = len(self.split), self.batch_size, self.score
        draws = 1 if grid == WHOLE else self.repeats
        starts = list(range(0, count, size))
        left = [start for start in starts if str(start) not in parts]
        order = torch.tensor([row for s in left for row in range(s, min(s + size, count))], dtype=torch.int64)
        batches = self.split.batches(size, geometry=self.net.preprocessing, order=order)
        with evaluating(self.net.module), Meter(title_of(grid), count * draws) as meter:
            for start, (images, targets) in zip(left, batches, strict=True):
                x = self.net.prepared(images)
                given, intact = beside(targets, x), self.net.module(x) if score.of_intact else None
                runs = [score.evidence(self._outputs(x, given, grid, d, start), given, intact) for d in range(draws)]
                parts.add(str(start), [packed(score, run) for run in runs])
                meter.update((start + len(x)) * draws)
        whole = [[e for s in starts for e in unpacked(score, parts[str(s)][d])] for d in range(draws)]
        return {"draws": [packed(score, evidence) for evidence in whole]}

    def _outputs(self, x: Tensor, targets: Any, grid: int, draw: int, start: int) -> Any:
        seed = seed_of_draw(self.seed, f"patches {grid}", INPUT, draw, start // self.batch_size)
        with shuffle_patches(self.net, grid, scope=self.scope, seed=seed):
            outputs = self.net.module(x)
        self.score.check(outputs, targets)
        return outputs


def title_of(grid: int) -> str:
    """How a cell is called."""
    return "pictures as they are" if grid == WHOLE else f"{grid} x {grid} patches"


def tally_of_cell(plain: Mapping[str, Any], score: Score, together: int = 1) -> AnyTally:
    """What a cell measured.

    Args:
        plain: its result.
        score: that was measured.
        together: how many pictures share a draw; 1 where each has its own.
    """
    draws = [unpacked(score, text) for text in plain["draws"]]
    pieces = [[draw[i : i + together] for draw in draws] for i in range(0, len(draws[0]), together)]
    return joined_tally([tally_of_draws(score, piece) for piece in pieces])
