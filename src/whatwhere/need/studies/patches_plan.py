"""The plan of the patch study: a cell is one grid on all test pictures; the intact pictures are the grid of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from whatwhere.data import Data, Split
from whatwhere.errors import InputError, unknown
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.packed import checked_repeats
from whatwhere.lab.rows import checked_counts
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.need.patch_shuffling import SCOPES, check_divides, checked_grid
from whatwhere.need.shuffling import check_seed
from whatwhere.need.studies.chunk import measure_plain
from whatwhere.need.studies.curve_points import intact_estimate
from whatwhere.need.studies.on_pictures import check_steady, limited, placed, sized
from whatwhere.need.studies.patches import Patches
from whatwhere.need.studies.patches_result import Cut, PatchesResult
from whatwhere.need.studies.patches_worker import WHOLE, PatchesWorker, tally_of_cell, title_of
from whatwhere.need.studies.recommend import at_chance, check_within
from whatwhere.need.studies.scored import chance_of, described, first_outputs, score_of
from whatwhere.need.studies.tally import ONE_DRAW
from whatwhere.network import Network
from whatwhere.scores.against_intact import main_tensor
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score

FEW = 8  # pictures that are tried before anything is measured
SEAMS = (
    "Borders of patches are edges that no picture has: a loss is of the arrangement and of these edges together, and "
    "small patches have more of them."
)


class PatchesPlan(Plan[Patches, PatchesResult]):
    """A cell is a grid.

    Raises:
        InputError: for options that cannot work.
    """

    def __init__(self, study: Patches) -> None:
        super().__init__(study)
        self.grids = tuple(sorted(checked_grid(g)[0] for g in as_tuple(study.grids)))
        if not self.grids or WHOLE in self.grids:
            raise InputError(f"grids={study.grids!r}: give patches along a side, 2 or more each, such as 2,4,8.")
        if study.scope not in SCOPES:
            raise unknown("scope", study.scope, SCOPES)
        checked_repeats(study.repeats)
        checked_counts(batch_size=study.batch_size)
        check_seed(study.seed)
        if study.limit is not None:
            checked_counts(limit=study.limit)

    @cached_property
    def data(self) -> Data:
        """The pictures, at most `limit` of them.

        Raises:
            InputError: if they are scenes, or have no fixed order.
        """
        found: Any = limited(self.study.data_source.data, self.study.limit)
        check_steady(found)
        data: Data = found
        return data

    @property
    def split(self) -> Split:
        """The test pictures."""
        return self.data.test

    @property
    def measured(self) -> list[Split]:
        """The splits that its numbers come from."""
        return [self.split]

    @cached_property
    def score(self) -> Score:
        """What is measured.

        Raises:
            InputError: for a score that these pictures or this network cannot have, and for a network that gives maps,
                which move with the patches.
        """
        given = self.study.data
        score = score_of(
            self.study.score, self.split, self.net, f"data={given!r}" if isinstance(given, str) else "data"
        )
        check_within(self.study.within, score)
        if (axes := main_tensor(first_outputs(self.net, self.split, 1)[0]).ndim) != 2:
            raise InputError(
                f"model: the network gives a tensor of {axes} axes for pictures, a map whose positions move with the "
                "patches; give one that gives scores or features (N, C)."
            )
        return score

    @cached_property
    def net(self) -> Network:
        """The network, with the size of its pictures."""
        return sized(self.study.network_source.net, self.split)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the prepared pictures."""
        return self.split.shape(self.net.preprocessing)[1:]

    def shared(self) -> Mapping[str, Any]:
        """The network with its weights, the test pictures, and all that decides a draw."""
        return {
            "network": self.net.name,
            "weights": fingerprint(self.net.module),
            "layers": architecture(self.net.module),
            "preprocessing": self.net.preprocessing.to_dict(),
            "data": self.split.fingerprint,
            **self._settings,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        own = {name: getattr(self.study, name) for name in ("scope", "repeats", "seed", "batch_size")}
        return own if self.score is ACCURACY else {**own, "score": self.score.identity}

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The intact pictures, then every grid."""
        return [cell_of(grid) for grid in (WHOLE, *self.grids)]

    def check(self, how: Run) -> None:
        """Grids that do not divide the pictures are refused, and a device that is not there."""
        for grid in self.grids:
            check_divides((grid, grid), self.size)
        measure_plain(
            placed(self.study.network_source, self.split, how.device), self.split.take(FEW), FEW, score=self.score
        )

    def worker(self, how: Run) -> PatchesWorker:
        """Measures one grid."""
        o = self.study
        return PatchesWorker(
            network=o.network_source,
            pictures=o.data_source,
            limit=o.limit,
            scope=o.scope,
            repeats=o.repeats,
            seed=o.seed,
            batch_size=o.batch_size,
            folder=how.folder,
            study=Cell(self.shared()).key,
            device=how.device,
            score=self.score,
        )

    def fold(self, done: Finished) -> PatchesResult:
        """A row for each grid, paired with the intact pictures.

        Raises:
            InputError: if these are not measured.
        """
        if cell_of(WHOLE) not in done:
            raise InputError("the pictures as they are are not measured yet; run the study without fold_only.")
        together = self.study.batch_size if self.study.scope == "batch" else 1
        there = [g for g in (WHOLE, *self.grids) if cell_of(g) in done]
        measured = {g: tally_of_cell(done[cell_of(g)], self.score, together) for g in there}
        rows = [self._cut(g, tally, measured[WHOLE]) for g, tally in measured.items()]
        return PatchesResult(
            network=self.net.name,
            data=self.data.describe(),
            preprocessing=self.net.preprocessing.to_dict(),
            settings=self._settings,
            rows=tuple(rows),
            within=self.study.within,
            chance=chance_of(self.score, self.split),
            score=described(self.score),
            notes=(*self._notes(rows[0]), *done.notes()),
        )

    def _cut(self, grid: int, tally: Any, intact: Any) -> Cut:
        height, width = (side // grid for side in self.size)
        if grid == WHOLE:
            return Cut(grid, (height, width), intact_estimate(tally, self.score, None))
        drop = tally.loss(intact, self.score)
        return Cut(grid, (height, width), tally.estimate(self.score), drop, tally.draws(self.score))

    def _notes(self, intact: Cut) -> Iterable[str]:
        yield from random_weights(self.net)
        chance = chance_of(self.score, self.split)
        if chance is not None and intact.score.low <= chance:
            yield at_chance(intact.score, chance, self.score)
        yield SEAMS
        if self.study.repeats == 1:
            yield ONE_DRAW


def cell_of(grid: int) -> Cell:
    """The cell that measures a grid."""
    return Cell({"grid": grid}, title_of(grid), cost=float(grid != WHOLE) + 1)
