"""The paper's study: train and test without spatial information, at every depth, method and seed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from whatwhere.data import load_data
from whatwhere.dependency.cuts import cut_at_share, cuts_of
from whatwhere.dependency.shuffle import MODES
from whatwhere.errors import InputError, unknown
from whatwhere.models.load import load_model
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.sites import Site, Sites, list_sites
from whatwhere.studies.dependency.cell import GAP_FC, INTACT, Bench
from whatwhere.studies.packed import checked_repeats
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class Grid:
    """What to train and test.

    Attributes:
        model: a network by name.
        options: of `load_model` (classes, width).
        recipe: how to train every network.
        methods: `gap_fc` and modes of `shuffle`.
        shares: of the convolutions, from the last, that lose spatial information, in [0, 1].
        seeds: of weights, order, augmentation and draws.
        matrix: those of `shares` at which networks trained intact and shuffled are each tested both ways (train-mode x
            test-mode), for every shuffle in `methods`.
        plain_shares: shares (0 is intact) also trained without augmentation, by GAP+FC.
        repeats: draws for each test under a shuffle.
    """

    model: str
    recipe: Recipe
    options: dict[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = (GAP_FC, "per-channel")
    shares: tuple[float, ...] = (0.31, 0.54, 0.77, 1.0)
    seeds: tuple[int, ...] = (0,)
    matrix: tuple[float, ...] = (0.31,)
    plain_shares: tuple[float, ...] = ()
    repeats: int = 10


@dataclass(frozen=True)
class Planned:
    """A grid's cells for one data set, with the network's sites."""

    grid: Grid
    data: dict[str, str]
    table: Sites
    cuts: list[Site]

    def train(self, method: str, share: float, seed: int, recipe: Recipe) -> Cell:
        """The cell that trains one network; share 0 is the intact one."""
        site = self.site(share)
        config = {
            "do": "train", "model": self.grid.model, "options": self.grid.options, "data": self.data,
            "method": method if site else INTACT, "site": site, "recipe": recipe.to_dict(), "seed": seed,
            "repeats": self.grid.repeats, "watch": True,
        }  # fmt: skip
        plain = "" if recipe == self.grid.recipe else ", no augmentation"
        return Cell(config, f"{config['method']} {100 * share:.0f} %, seed {seed}{plain}")

    def test(self, trained: Cell, method: str, share: float) -> Cell:
        """The cell that tests a trained network under a method."""
        config = {
            "do": "test", "trained": trained.config, "method": method,
            "site": self.site(share) if method != INTACT else None, "repeats": self.grid.repeats,
        }  # fmt: skip
        return Cell(config, f"{trained.label}, tested {method}")

    def site(self, share: float) -> str | None:
        """The name of the site from which on a share of the convolutions loses spatial information."""
        return self.cut(share).name if share else None

    def cut(self, share: float) -> Site:
        """That site."""
        return cut_at_share(self.cuts, share)

    def identity(self) -> dict[str, Any]:
        """What all cells of one folder share; seeds, shares and methods may be added later."""
        return {
            "study": "dependency", "model": self.grid.model, "options": self.grid.options, "data": self.data,
            "recipe": self.grid.recipe.to_dict(), "repeats": self.grid.repeats,
        }  # fmt: skip

    def training(self) -> Iterator[Cell]:
        """All cells that train, seed by seed, the most telling ones first."""
        for seed in self.grid.seeds:
            yield self.train(INTACT, 0, seed, self.grid.recipe)
            for share in self.grid.shares:
                for method in self.grid.methods:
                    yield self.train(method, share, seed, self.grid.recipe)
            for share in self.grid.plain_shares:
                yield self.train(GAP_FC, share, seed, self.grid.recipe.without_augmentation())

    def testing(self) -> Iterator[Cell]:
        """The train-mode x test-mode cells off the diagonal; the diagonal is in the training cells."""
        for seed in self.grid.seeds:
            for share in self.grid.matrix:
                for method in (m for m in self.grid.methods if m != GAP_FC):
                    yield self.test(self.train(INTACT, 0, seed, self.grid.recipe), method, share)
                    yield self.test(self.train(method, share, seed, self.grid.recipe), INTACT, 0)


def plan(grid: Grid, source: str) -> Planned:
    """Check a grid against a network and a data set, before anything runs.

    Raises:
        InputError: for an unknown method, too many repeats, or a matrix of networks that nobody trains.
    """
    checked_repeats(grid.repeats)
    for method in grid.methods:
        if method not in (GAP_FC, *MODES):
            raise unknown("methods", method, (GAP_FC, *MODES))
    if strange := set(grid.matrix) - set(grid.shares):
        raise InputError(f"matrix={sorted(strange)}: give some of shares={list(grid.shares)}, which are trained.")
    data = load_data(source)
    options = {"classes": len(data.classes), **grid.options}
    net = load_model(grid.model, **options)
    table = list_sites(net, input_size=data.train.shape(net.preprocessing))
    fingerprints = {"train": data.train.fingerprint, "test": data.test.fingerprint}
    return Planned(Grid(**{**vars(grid), "options": options}), fingerprints, table, cuts_of(table))


def everything(planned: Planned, store: Store) -> Planned:
    """The plan, and what earlier calls finished in the same folder."""
    grid, configs = planned.grid, store.configs()
    trained, own = [c for c in configs if c["do"] == "train"], json.loads(json.dumps(grid.recipe.to_dict()))
    usual = [c for c in trained if c["recipe"] == own]
    plain = [c for c in trained if c["recipe"] != own]
    crossed = [c["trained"] for c in configs if c["do"] == "test"]

    def shares(given: Sequence[float], cells: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
        asked = {planned.site(s) for s in given}
        depth = {c.name: c.depth_share for c in planned.cuts}
        more = {c["site"] for c in cells} - asked
        return (*given, *sorted(depth[site] if site else 0.0 for site in more))

    return replace(planned, grid=replace(
        grid,
        methods=tuple(dict.fromkeys([*grid.methods, *sorted({c["method"] for c in usual} - {INTACT})])),
        seeds=tuple(dict.fromkeys([*grid.seeds, *sorted({c["seed"] for c in trained})])),
        shares=shares(grid.shares, [c for c in usual if c["site"]]),
        plain_shares=shares(grid.plain_shares, plain),
        matrix=shares(grid.matrix, [c for c in crossed if c["site"]]),
    ))  # fmt: skip


def run_grid(
    planned: Planned, source: str, folder: Path, *, weights: Path | None = None, workers: int = 0, device: str = "auto",
    quiet: bool = False,
) -> Store:  # fmt: skip
    """Run the cells that are missing; interrupted by anything, the same call goes on.

    Args:
        planned: from `plan`.
        source: where the pictures are.
        folder: gets `study.json` and `cells/`.
        weights: gets checkpoints and trained weights; None is `folder`.
        workers: processes; 0 is this one.
        device: Fabric's accelerator.
        quiet: print no progress.
    """
    store = Store(folder, planned.identity())
    bench = Bench(os.fspath(source), Path(weights or folder), device)
    for cells in (list(planned.training()), list(planned.testing())):
        run_cells(cells, bench, store, workers=workers, quiet=quiet, stored=bench.forget)
    return store
