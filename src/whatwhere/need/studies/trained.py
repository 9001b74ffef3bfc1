"""The paper's study as one call: train and test without spatial information at every depth, fold, report."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whatwhere.data import load_data
from whatwhere.errors import InputError
from whatwhere.intervals import Batch, Estimate, over_pictures, over_seeds
from whatwhere.network import Network
from whatwhere.runs.cells import Store
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.studies.dependency.cell import GAP_FC, INTACT, build
from whatwhere.studies.dependency.grid import Grid, Planned, everything, plan, run_grid
from whatwhere.studies.dependency.recommend import AT_CHANCE, check_within, recommend
from whatwhere.studies.dependency.result import DependencyResult, Entry, Point, Recommendation
from whatwhere.studies.packed import unpack
from whatwhere.training.recipes import Recipe, recipe_named

PLAIN = "no augmentation"


def dependency_study(
    model: str,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    recipe: Recipe | str = "fast",
    width: float = 1.0,
    methods: Sequence[str] = (GAP_FC, "per-channel"),
    shares: Sequence[float] = (0.31, 0.54, 0.77, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    matrix: Sequence[float] | None = None,
    plain_shares: Sequence[float] = (),
    repeats: int = 10,
    within: float = 0.01,
    weights: str | os.PathLike[str] | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
    quiet: bool = False,
) -> DependencyResult:
    """Train and test a network without spatial information, at every depth, method and seed.

    >>> study = ww.dependency_study("cifar/vgg16", "hf/uoft-cs/cifar100", out="fan2020", workers=2)

    Every trained network is a cell, written when it is finished; a training that was interrupted goes on from its
    last epoch. Seeds, shares and methods may be added later with the same `out`: only what is new is run, and the
    result is of all that is finished there.

    Args:
        model: a network by name; it is built anew for every seed.
        data: pictures by name or path.
        out: folder for cells and the result.
        recipe: how to train: a `Recipe`, or a name of `ww.RECIPES`.
        width: width factor of `cifar/…` networks.
        methods: `gap_fc`, and modes of `ww.shuffle` (shuffled in training and in testing).
        shares: of the convolutions, from the last, that lose spatial information, in (0, 1].
        seeds: at least two, for intervals that contain the noise of training.
        matrix: those of `shares` at which networks trained intact and shuffled are each tested both ways; None is the
            first.
        plain_shares: shares (0 is intact) also trained without augmentation, by GAP+FC.
        repeats: draws for each test under a shuffle.
        within: loss that the recommendation may cost, in [0, 1].
        weights: folder for checkpoints and trained weights; None is `out`.
        workers: processes that run cells side by side; 0 runs them in this one.
        device: `auto`, `cpu`, `cuda`, `mps`.
        run: False folds the cells that are there and runs nothing.
        quiet: print no progress.

    Raises:
        InputError: for anything unknown, before anything runs; for a folder that holds another study.
    """
    grid = Grid(
        model, recipe_named(recipe) if isinstance(recipe, str) else recipe, {"width": width} if width != 1.0 else {},
        tuple(methods), tuple(shares), tuple(seeds), tuple(shares[:1] if matrix is None else matrix),
        tuple(plain_shares), repeats,
    )  # fmt: skip
    check_within(within)
    started = time.perf_counter()
    planned, folder = plan(grid, os.fspath(data)), Path(out)
    if run:
        run_grid(
            planned, os.fspath(data), folder, weights=Path(weights) if weights else None, workers=workers,
            device=device, quiet=quiet,
        )  # fmt: skip
    store = Store(folder, planned.identity())
    result = fold(everything(planned, store), store, os.fspath(data), within, time.perf_counter() - started)
    result.save(folder)
    return result


def fold(planned: Planned, store: Store, source: str, within: float, seconds: float) -> DependencyResult:
    """The cells that are there, as one result."""
    grid, data = planned.grid, load_data(source)
    folded = _Fold(planned, store)
    points = [*folded.points(grid.shares, grid.methods, ""), *folded.points(grid.plain_shares, (GAP_FC,), PLAIN)]
    net = build(planned.train(INTACT, 0, grid.seeds[0], grid.recipe).config)
    return DependencyResult(
        protocol="train-and-test",
        network=_name(grid),
        data=data.describe(),
        preprocessing=net.preprocessing.to_dict(),
        settings={"recipe": grid.recipe.to_dict(), "seeds": grid.seeds, "repeats": grid.repeats, **grid.options},
        intact=tuple(folded.intact()),
        points=tuple(points),
        matrix=tuple(folded.matrix()),
        recommendation=_advice(points, within, net, planned, len(data.classes)),
        notes=tuple(folded.notes()),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(), "seconds": round(seconds, 1),
        },
    )  # fmt: skip


def _name(grid: Grid) -> str:
    width = grid.options.get("width", 1.0)
    return grid.model if width == 1.0 else f"{grid.model} (width {width:g})"


def _advice(
    points: Sequence[Point], within: float, net: Network, planned: Planned, classes: int
) -> Recommendation | None:
    def collapsed(site: str) -> Network:
        share = next(p.depth_share for p in points if p.site == site)
        return build(planned.train(GAP_FC, share, planned.grid.seeds[0], planned.grid.recipe).config)

    judged = [p for p in points if not p.group]
    if judged and judged[0].drop and judged[0].accuracy.mean + judged[0].drop.mean <= 1 / classes:
        return Recommendation(AT_CHANCE, within)
    return recommend(judged, within, net, collapsed, retrained=True) if judged else None


class _Fold:
    """Reads cells and takes their means over seeds."""

    def __init__(self, planned: Planned, store: Store) -> None:
        self.planned, self.store, self.grid = planned, store, planned.grid
        if not any(store.has(c) for c in planned.training()):
            raise InputError(f"{store.folder} holds no finished cell of this study yet.")

    def _recipe(self, group: str) -> Recipe:
        return self.grid.recipe.without_augmentation() if group else self.grid.recipe

    def _trained(self, method: str, share: float, group: str) -> dict[int, dict[str, Any]]:
        """By seed, the train cells that are there."""
        cells = {s: self.planned.train(method, share, s, self._recipe(group)) for s in self.grid.seeds}
        return {seed: self.store.load(cell) for seed, cell in cells.items() if self.store.has(cell)}

    def intact(self) -> Iterable[Point]:
        """Of each group, the intact networks."""
        for group in ("", PLAIN) if 0 in self.grid.plain_shares else ("",):
            if found := list(self._trained(INTACT, 0, group).values()):
                yield Point(INTACT, "", 0.0, accuracy_of(found), group=group, values=_accuracies(found))

    def points(self, shares: Iterable[float], methods: Iterable[str], group: str) -> Iterable[Point]:
        """Of each method and share, what the removal costs."""
        intact = self._trained(INTACT, 0, group)
        for method in methods:
            for share in (s for s in shares if s):
                if found := self._trained(method, share, group):
                    pairs = [(intact[seed], r) for seed, r in found.items() if seed in intact]
                    site = self.planned.cut(share)
                    yield Point(
                        method, site.name, site.depth_share, accuracy_of(list(found.values())),
                        drop_of(pairs) if pairs else None, group, _accuracies(found.values()),
                    )  # fmt: skip

    def matrix(self) -> Iterable[Entry]:
        """Train-mode x test-mode, the diagonal from the trained cells."""
        for share in self.grid.matrix:
            for method in (m for m in self.grid.methods if m != GAP_FC):
                intact, shuffled = self._trained(INTACT, 0, ""), self._trained(method, share, "")
                crossed = self._tested(INTACT, 0, method, share), self._tested(method, share, INTACT, 0)
                fields = (
                    (INTACT, INTACT, intact), (INTACT, method, crossed[0]), (method, INTACT, crossed[1]),
                    (method, method, shuffled),
                )  # fmt: skip
                for trained, tested, found in fields:
                    if found:
                        yield Entry(
                            trained, tested, self.planned.cut(share).depth_share, accuracy_of(list(found.values()))
                        )

    def _tested(self, trained: str, share: float, tested: str, at: float) -> dict[int, dict[str, Any]]:
        train = {s: self.planned.train(trained, share, s, self.grid.recipe) for s in self.grid.seeds}
        cells = {s: self.planned.test(cell, tested, at) for s, cell in train.items()}
        return {seed: self.store.load(cell) for seed, cell in cells.items() if self.store.has(cell)}

    def notes(self) -> Iterable[str]:
        """What is missing, and what the intervals hold."""
        counts: Counter[str] = Counter()
        for cell in self.planned.training():
            counts[re.sub(r", seed \d+", "", cell.label)] += self.store.has(cell)
        seeds = len(self.grid.seeds)
        if min(counts.values()) < seeds:
            there = "; ".join(f"{label}: {n}" for label, n in counts.items())
            yield f"The grid is not complete. Seeds there, of the {seeds} planned: {there}."
        if min(counts.values()) < 2:
            yield (
                "Where there is one seed, the interval is over test pictures and draws only: it does not contain the "
                "noise of training, which alone moves such accuracies by 0.3 points or more."
            )
        else:
            yield "Intervals are Student's t over seeds: they contain the noise of training, on these test pictures."
        yield "Accuracies are those of the last epoch; the best one on the test set is in the cells, and not reported."


def _accuracies(found: Iterable[dict[str, Any]]) -> tuple[float, ...]:
    return tuple(r["accuracy"] for r in found)


def accuracy_of(found: Sequence[dict[str, Any]]) -> Estimate:
    """Accuracy over seeds; of one seed, over its pictures and draws."""
    if len(found) > 1:
        return over_seeds([r["accuracy"] for r in found], found[0]["n"], step=_step(found[0]), low=0.0)
    rates, repeats, batches = _rates(found[0])
    return over_pictures(None, rates, repeats, batches)


def drop_of(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Estimate:
    """Intact minus removed, over seeds; of one seed, over its pictures and draws."""
    if len(pairs) > 1:
        return over_seeds([a["accuracy"] - b["accuracy"] for a, b in pairs], pairs[0][0]["n"], step=_step(pairs[0][1]))
    intact, removed = pairs[0]
    rates, repeats, batches = _rates(removed)
    return over_pictures(_rates(intact)[0] - rates, rates, repeats, batches)


def _step(result: dict[str, Any]) -> float:
    """What an accuracy is a multiple of."""
    return 1 / (result["n"] * result["repeats"])


def _rates(result: dict[str, Any]) -> tuple[Any, Any, list[Batch]]:
    hits, n, repeats = unpack(result["hits"]).astype(int), result["n"], result["repeats"]
    totals = tuple(round(a * n) for a in result["accuracies"])
    return hits / repeats, np.full(n, repeats), [Batch(n, totals)]
