"""The plan of the study that takes position out: position first, then as many other directions as it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold.position_out import tap_of
from whatwhere.hold.studies.erasing import Step
from whatwhere.hold.studies.fold import FRESH
from whatwhere.hold.studies.pictures import Pictures, pictures_of
from whatwhere.hold.studies.variants import identity
from whatwhere.hold.studies.without import Without
from whatwhere.hold.studies.without_result import Left, WithoutResult
from whatwhere.hold.studies.without_worker import POSITION, RANDOM, SHUFFLED, UNTRAINED, WithoutWorker, step_of
from whatwhere.hold.targets import targets_of
from whatwhere.intervals import DRAWS, Estimate, over_networks, over_scores
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import checked_counts
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.network import Network
from whatwhere.redraw import untrained_notes
from whatwhere.training.evaluate import evaluate

FEW = 4  # pictures that are tried before anything is measured
POSITION_CELL = Cell({"removed": POSITION}, "position taken out")
ONE_ROUND = (
    "Directions are those of a linear 1 x 1 read-out: position that neighbours or products of channels hold together "
    "stays, and so does that of prefix tokens."
)


class WithoutPlan(Plan[Without, WithoutResult]):
    """A cell is one kind of directions, or an untrained network.

    Raises:
        InputError: for options that cannot work.
    """

    def __init__(self, study: Without) -> None:
        super().__init__(study)
        self.targets = tuple(t.name for t in targets_of(as_tuple(study.targets)))
        checked_counts(rounds=study.rounds, size=study.size, batch_size=study.batch_size)
        for name in ("random", "untrained"):
            if getattr(study, name) < 0:
                raise InputError(f"{name}={getattr(study, name)}: give how many, 0 for none.")
        if not study.site:
            raise InputError("site='': give the name of one site, such as one that `whatwhere sites` lists.")

    @property
    def data(self) -> Data:
        """The pictures; without labels there is no accuracy, and position alone is measured."""
        return self.study.data_source.data

    @property
    def net(self) -> Network:
        """The given network."""
        return self.study.network_source.net

    @cached_property
    def pictures(self) -> Pictures:
        """To fit, to choose the penalty and to test."""
        o = self.study
        return pictures_of(self.data, None, o.pictures, o.test_pictures, o.seed)

    def shared(self) -> Mapping[str, Any]:
        """The network, the pictures and what is read."""
        return {**identity(self.net), "pictures": self.pictures.describe(), "settings": self._settings}

    @property
    def _settings(self) -> dict[str, Any]:
        o = self.study
        return {"site": o.site, "targets": self.targets, "rounds": o.rounds, "size": o.size, "seed": o.seed}

    def check(self, how: Run) -> None:
        """Sites that cannot be projected and networks without scores are refused."""
        tap_of(self.net, self.study.site, input_size=self.pictures.fit.shape(self.net.preprocessing))
        if self.data.test.classes:
            evaluate(self.net, self.pictures.test.take(FEW))
        if self.study.untrained:
            untrained_notes(self.net)

    def cells(self, done: Finished) -> Iterable[Cell]:
        """Position, untrained networks, and then, as it is known how many, other directions."""
        fresh = [Cell({"removed": UNTRAINED, "draw": d}, f"untrained (seed {d})") for d in range(self.study.untrained)]
        rank = step_of(done[POSITION_CELL]["steps"][-1]).rank if POSITION_CELL in done else 0
        return [POSITION_CELL, *fresh, *(self._others(rank) if rank else [])]

    def _others(self, rank: int) -> list[Cell]:
        drawn = [{"removed": RANDOM, "rank": rank, "draw": d} for d in range(self.study.random)]
        shuffled = Cell({"removed": SHUFFLED, "rank": rank}, f"{rank} directions of shuffled positions")
        return [shuffled, *(Cell(c, f"{rank} random directions ({c['draw']})") for c in drawn)]

    def worker(self, how: Run) -> WithoutWorker:
        """Measures one cell."""
        o = self.study
        given, most = (o.network_source, o.data_source), (o.pictures, o.test_pictures)
        return WithoutWorker(*given, o.site, self.targets, o.rounds, most, o.size, o.seed, o.batch_size, how.device)

    def fold(self, done: Finished) -> WithoutResult:
        """A row for each kind of directions, paired with the network as it is.

        Raises:
            InputError: if position is not taken out yet.
        """
        if POSITION_CELL not in done:
            raise InputError("position is not taken out yet; run the study without fold_only.")
        steps = [step_of(s) for s in done[POSITION_CELL]["steps"]]
        intact = steps[0].right
        rows = [left_of("nothing" if not s.rank else POSITION, [s], intact) for s in steps]
        for kind in (SHUFFLED, RANDOM, UNTRAINED):
            cells = [c for c in self.cells(done) if c.config["removed"] == kind and c in done]
            if found := [step_of(done[c]["steps"][0]) for c in cells]:
                rows.append(left_of(kind, found, intact))
        tap, _ = tap_of(self.net, self.study.site, input_size=self.pictures.fit.shape(self.net.preprocessing))
        return WithoutResult(
            network=self.net.name,
            data=self.data.describe(),
            preprocessing=self.net.preprocessing.to_dict(),
            settings={**self._settings, "pictures": self.pictures.describe(), "channels": tap.channels},
            rows=tuple(rows),
            gone=not steps[-1].holds,
            notes=(*random_weights(self.net), ONE_ROUND, *done.notes()),
        )


def left_of(removed: str, steps: Sequence[Step], intact: NDArray[np.bool_] | None) -> Left:
    """What is left, over pictures and, where there are several, draws or networks.

    Args:
        removed: what was taken out.
        steps: measured alike, on the same pictures.
        intact: (N,) which of them the network recognises as it is.
    """
    fresh = removed == UNTRAINED
    right = [s.right for s in steps if s.right is not None]
    runs = np.array(right, dtype=float)
    covers = FRESH if fresh else DRAWS
    drop = None if fresh or not steps[0].rank or intact is None else intact.astype(float) - runs
    return Left(
        removed,
        steps[0].rank,
        float(np.mean([s.variance for s in steps])),
        {t: _scored([s.spc[t] for s in steps], covers) for t in steps[0].spc},
        {t: _scored([s.shuffled[t] for s in steps], covers) for t in steps[0].spc},
        None if fresh or not right else over_networks(runs, counted=True, low=0.0, covers=covers),
        None if drop is None else over_networks(drop, counted=True, covers=covers),
    )


def _scored(values: Sequence[NDArray[np.float64]], covers: str) -> Estimate:
    if len(values) == 1:
        return over_scores(values[0])
    return over_networks(np.array(values), counted=False, covers=covers)
