"""From finished cells to points: means over seeds, drops paired by seed, and the matrix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whatwhere.errors import InputError
from whatwhere.intervals import Batch, Estimate, over_networks, over_pictures
from whatwhere.lab.packed import unpack
from whatwhere.lab.rows import SEEDS
from whatwhere.lab.study import Finished
from whatwhere.need.studies.result import GAP_FC, INTACT, Entry, Point
from whatwhere.need.studies.tally import ONE_DRAW
from whatwhere.need.studies.trained_cells import Grid, TrainedCells

Content: TypeAlias = Mapping[str, Any]  # a cell's result

PLAIN = "no augmentation"
LAST_EPOCH = "Accuracies are those of the last epoch; the best one on the test set is in the cells, and not reported."
ONE_SEED = (
    "Where there is one seed, the 95 % interval is over test pictures and draws only: it does not contain the noise of "
    "training, which alone moves such accuracies by 0.3 points or more."
)


@dataclass(frozen=True)
class Fold:
    """Means over the seeds that are finished.

    Attributes:
        cells: names them.
        grid: what may be finished.
        done: what is.
    """

    cells: TrainedCells
    grid: Grid
    done: Finished

    def check(self) -> None:
        """Refuse a folder without a trained network.

        Raises:
            InputError: if no cell is finished.
        """
        if not any(cell in self.done for cell in self.cells.training(self.grid)):
            raise InputError(
                f"{self.done.store.folder} holds no finished cell of this study; run the study without fold_only."
            )

    def intact(self) -> Iterator[Point]:
        """The intact networks of each group."""
        for plain in (False, True) if 0 in self.grid.plain_shares else (False,):
            if found := list(self._trained(INTACT, 0, plain).values()):
                group = PLAIN if plain else ""
                yield Point(INTACT, "", 0.0, accuracy_of(found), group=group, values=accuracies(found))

    def points(self) -> Iterator[Point]:
        """The loss of each removal, by group, method and share."""
        yield from (p for m in self.grid.methods for s in self.grid.shares for p in self._point(m, s, plain=False))
        yield from (p for s in self.grid.plain_shares for p in self._point(GAP_FC, s, plain=True))

    def _point(self, method: str, share: float, *, plain: bool) -> Iterator[Point]:
        """The point of a removal, if one of its networks is trained."""
        found = self._trained(method, share, plain) if share else {}
        if found:
            site, intact = self.cells.cut(share), self._trained(INTACT, 0, plain)
            pairs = [(intact[seed], r) for seed, r in found.items() if seed in intact]
            accuracy, drop = accuracy_of(list(found.values())), drop_of(pairs) if pairs else None
            group = PLAIN if plain else ""
            yield Point(method, site.name, site.depth_share, accuracy, drop, group, accuracies(found.values()))

    def example(self, p: Point) -> str:
        """The key of a cell that trained a network of a point."""
        share = next(s for s in self.grid.shares if s and self.cells.site(s) == p.site)
        cells = (self.cells.train(p.method, share, seed) for seed in self.grid.seeds)
        return next(c.key for c in cells if c in self.done)

    def matrix(self) -> Iterator[Entry]:
        """Train-mode x test-mode, the diagonal from the training cells."""
        for share in self.grid.matrix:
            for method in self.grid.shuffles:
                for trained, tested, found in self._fields(method, share):
                    if found:
                        yield Entry(trained, tested, self.cells.cut(share).depth_share, accuracy_of(found))

    def _fields(self, method: str, share: float) -> Iterator[tuple[str, str, list[Content]]]:
        """The four fields of a method and share, with the finished cells of each."""
        yield INTACT, INTACT, list(self._trained(INTACT, 0).values())
        yield INTACT, method, self._tested(INTACT, 0, method, share)
        yield method, INTACT, self._tested(method, share, INTACT, 0)
        yield method, method, list(self._trained(method, share).values())

    def _trained(self, method: str, share: float, plain: bool = False) -> dict[int, Content]:
        """The finished training cells by seed."""
        cells = {s: self.cells.train(method, share, s, plain=plain) for s in self.grid.seeds}
        return {seed: self.done[cell] for seed, cell in cells.items() if cell in self.done}

    def _tested(self, trained: str, share: float, tested: str, at: float) -> list[Content]:
        """The finished testing cells."""
        training = (self.cells.train(trained, share, s) for s in self.grid.seeds)
        return [self.done[cell] for t in training if (cell := self.cells.test(t, tested, at)) in self.done]

    def notes(self) -> Iterator[str]:
        """Which cells are missing, and what the intervals contain."""
        counts: Counter[str] = Counter()
        for cell in self.cells.training(self.grid):
            counts[re.sub(r", seed \d+", "", cell.label)] += cell in self.done
        seeds = len(self.grid.seeds)
        if min(counts.values()) < seeds:
            there = "; ".join(f"{label}: {n}" for label, n in counts.items())
            yield f"The grid is not complete. Finished seeds of the {seeds} planned: {there}."
        if untested := [c for c in self.done.missing if c.config["do"] == "test"]:
            yield f"Not finished: {'; '.join(c.label for c in untested)}."
        yield ONE_SEED if min(counts.values()) < 2 else SEEDS
        if min(counts.values()) < 2 and self.cells.repeats == 1 and self.grid.shuffles:
            yield ONE_DRAW
        yield LAST_EPOCH


def accuracies(found: Iterable[Content]) -> tuple[float, ...]:
    """The accuracy of each network."""
    return tuple(r["accuracy"] for r in found)


def accuracy_of(found: Sequence[Content]) -> Estimate:
    """Accuracy over seeds and pictures; of one seed, over its pictures and draws."""
    if len(found) > 1:
        return over_networks(np.array([_rates(r)[0] for r in found]), counted=True, low=0.0)
    rates, repeats, batches = _rates(found[0])
    return over_pictures(None, rates, repeats, batches)


def drop_of(pairs: Sequence[tuple[Content, Content]]) -> Estimate:
    """Intact minus removed, paired by seed and picture, over both; of one seed, over its pictures and draws."""
    if len(pairs) > 1:
        return over_networks(np.array([_rates(a)[0] - _rates(b)[0] for a, b in pairs]), counted=True)
    intact, removed = pairs[0]
    rates, repeats, batches = _rates(removed)
    return over_pictures(_rates(intact)[0] - rates, rates, repeats, batches)


def _rates(result: Content) -> tuple[NDArray[np.float64], NDArray[np.integer], list[Batch]]:
    hits, n, repeats = unpack(result["hits"]).astype(int), result["n"], result["repeats"]
    totals = tuple(round(a * n) for a in result["accuracies"])
    return hits / repeats, np.full(n, repeats), [Batch(n, totals)]
