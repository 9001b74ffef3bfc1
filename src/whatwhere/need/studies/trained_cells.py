"""The study's cells: every network that is trained, and every one that is tested the other way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import checked_names, checked_seeds
from whatwhere.need.cuts import cut_at_share
from whatwhere.need.shuffling import MODES
from whatwhere.need.studies.removals import REMOVALS, share_left
from whatwhere.need.studies.result import GAP_FC, INTACT
from whatwhere.need.studies.trained import Trained
from whatwhere.scores.classes import ACCURACY
from whatwhere.site import Site
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class Grid:
    """Which networks are trained and tested; see `Trained` for the meaning of each entry."""

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    matrix: tuple[float, ...]
    plain_shares: tuple[float, ...]

    @staticmethod
    def of(study: Trained) -> Grid:
        """What a study asks for.

        Raises:
            InputError: for options that cannot work.
        """
        shares = checked_shares("shares", study.shares, intact=False)
        matrix = checked_shares("matrix", shares[:1] if study.matrix is None else study.matrix, intact=False)
        if strange := set(matrix) - set(shares):
            raise InputError(f"matrix={sorted(strange)}: give some of shares={list(shares)}, which are trained.")
        methods = checked_names("methods", as_tuple(study.methods), (*REMOVALS, *MODES))
        seeds = checked_seeds(as_tuple(study.seeds))
        plain = checked_shares("plain_shares", study.plain_shares)
        if not shares and not plain:
            raise InputError("shares is empty; give at least one, such as 0.31.")
        return Grid(methods, shares, seeds, matrix, plain)

    @property
    def shuffles(self) -> tuple[str, ...]:
        """The methods that leave the network as it is."""
        return tuple(m for m in self.methods if m not in REMOVALS)


@dataclass(frozen=True)
class TrainedCells:
    """Makes cells from methods, shares and seeds.

    Attributes:
        model: a network by name.
        options: of `load_model` (classes, width).
        data: fingerprints of the pictures.
        recipe: how every network is trained.
        repeats: draws for each test under a shuffle.
        cuts: where the network can be cut.
        pictures: to train and to test on.
        flops: of the intact network, for one picture.
        score: that is measured.
    """

    model: str
    options: Mapping[str, Any]
    data: Mapping[str, str]
    recipe: Recipe
    repeats: int
    cuts: Sequence[Site]
    pictures: tuple[int, int]
    flops: int
    score: str = ACCURACY.name

    def cut(self, share: float) -> Site:
        """The site from which on a share of the convolutions loses spatial information."""
        return cut_at_share(self.cuts, share)

    def site(self, share: float) -> str | None:
        """Its name; None for share 0, the intact network."""
        return self.cut(share).name if share else None

    def shared(self) -> dict[str, Any]:
        """All but seeds, shares and methods, which may be added later."""
        return {
            "model": self.model,
            "options": self.options,
            "data": self.data,
            "recipe": self.recipe.to_dict(),
            "repeats": self.repeats,
            **({} if self.score == ACCURACY.name else {"score": self.score}),
        }

    def train(self, method: str, share: float, seed: int, *, plain: bool = False) -> Cell:
        """The cell that trains one network.

        Args:
            method: one of `REMOVALS`, or a mode of `shuffle`.
            share: of the convolutions; 0 is the intact network.
            seed: of the network.
            plain: without augmentation.
        """
        site = self.site(share)
        recipe = self.recipe.without_augmentation() if plain else self.recipe
        config = {
            **self.shared(),
            "do": "train",
            "method": method if site else INTACT,
            "site": site,
            "recipe": recipe.to_dict(),
            "seed": seed,
            "watch": True,
        }
        note = ", no augmentation" if recipe != self.recipe else ""
        label = f"{config['method']} {100 * share:.0f} %, seed {seed}{note}"
        # A step is a forward pass and a backward one, which takes twice as long; each epoch ends with a test.
        passes = recipe.epochs * (3 * self.pictures[0] + self.pictures[1]) + self._tests(method if site else INTACT)
        return Cell(config, label, float(passes * self._flops(method, share)))

    def _flops(self, method: str, share: float) -> float:
        """Of a picture, about; behind its site a collapsed network hardly costs anything."""
        if method not in REMOVALS or not share:
            return self.flops
        before = self.cut(share).flops_before
        return before + share_left(method) * (self.flops - before)

    def _tests(self, method: str) -> int:
        """Pictures that a test looks at, each draw's."""
        return self.pictures[1] * (1 if method in (INTACT, *REMOVALS) else self.repeats)

    def test(self, trained: Cell, method: str, share: float) -> Cell:
        """The cell that tests a trained network under a method."""
        config = {
            "do": "test",
            "trained": trained.config,
            "method": method,
            "site": self.site(share) if method != INTACT else None,
            "repeats": self.repeats,
        }
        return Cell(config, f"{trained.label}, tested {method}", float(self._tests(method) * self.flops))

    def training(self, grid: Grid) -> Iterator[Cell]:
        """All cells that train, seed by seed, the most telling ones first."""
        for seed in grid.seeds:
            yield self.train(INTACT, 0, seed)
            for share in grid.shares:
                for method in grid.methods:
                    yield self.train(method, share, seed)
            for share in grid.plain_shares:
                yield self.train(GAP_FC, share, seed, plain=True)

    def testing(self, grid: Grid) -> Iterator[tuple[Cell, Cell]]:
        """Pairs of a training cell and the cell that tests its network the other way.

        Networks tested as they were trained are in the training cells.
        """
        for seed in grid.seeds:
            for share in grid.matrix:
                for method in grid.shuffles:
                    intact, shuffled = self.train(INTACT, 0, seed), self.train(method, share, seed)
                    yield intact, self.test(intact, method, share)
                    yield shuffled, self.test(shuffled, INTACT, 0)

    def widened(self, grid: Grid, configs: Sequence[Mapping[str, Any]]) -> Grid:
        """A grid with all that earlier calls finished in the same folder.

        Args:
            grid: what is asked for now.
            configs: of all finished cells.
        """
        trained = [c for c in configs if c["do"] == "train"]
        own = json.loads(json.dumps(self.recipe.to_dict()))
        usual, plain = ([c for c in trained if (c["recipe"] == own) == same] for same in (True, False))
        crossed = [c["trained"] for c in configs if c["do"] == "test"]
        return Grid(
            methods=tuple(dict.fromkeys([*grid.methods, *sorted({c["method"] for c in usual} - {INTACT})])),
            seeds=tuple(dict.fromkeys([*grid.seeds, *sorted({c["seed"] for c in trained})])),
            shares=self._with(grid.shares, [c for c in usual if c["site"]]),
            plain_shares=self._with(grid.plain_shares, plain),
            matrix=self._with(grid.matrix, [c for c in crossed if c["site"]]),
        )

    def _with(self, given: Sequence[float], configs: Iterable[Mapping[str, Any]]) -> tuple[float, ...]:
        """Shares, and those of the finished cells at other sites."""
        depth: dict[str | None, float] = {None: 0.0, **{c.name: c.depth_share for c in self.cuts}}
        more = {c["site"] for c in configs} - {self.site(s) for s in given}
        return (*given, *sorted(depth[site] for site in more))


def checked_shares(name: str, given: Any, *, intact: bool = True) -> tuple[float, ...]:
    """Shares, each once.

    Args:
        name: of the option.
        given: one or several.
        intact: whether share 0, the intact network, is a choice.

    Raises:
        InputError: for anything other than numbers from 0 to 1.
    """
    shares = as_tuple(given)
    for share in shares:
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share <= 1:
            as_share = f"; {share:g} % is {share / 100:g}" if number and 1 < share <= 100 else ""
            raise InputError(f"{name}={list(shares)}: give shares from 0 to 1, such as 0.31,0.54{as_share}.")
    if 0 in shares and not intact:
        raise InputError(f"{name}={list(shares)}: 0 is the intact network, which is trained anyway; give more than 0.")
    return shares
