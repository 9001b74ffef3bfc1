"""The study's plan: train, test what is trained, and fold all that is finished in the folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.packed import checked_repeats
from whatwhere.lab.rows import checked_names
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.load import load_model
from whatwhere.need.cuts import cuts_of
from whatwhere.need.gap_fc import collapse
from whatwhere.need.studies.labels import check_labels
from whatwhere.need.studies.recommend import at_chance, check_within, recommend
from whatwhere.need.studies.removals import REMOVALS
from whatwhere.need.studies.result import NeedResult, Point, Recommendation, title_of
from whatwhere.need.studies.scored import chance_of, described
from whatwhere.need.studies.trained import Trained
from whatwhere.need.studies.trained_cells import Grid, TrainedCells
from whatwhere.need.studies.trained_fold import Fold
from whatwhere.need.studies.trained_worker import TrainedWorker, score_in
from whatwhere.need.studies.typed import trained_network
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY, TOP5, TopK
from whatwhere.site_table import list_sites
from whatwhere.training.recipes import Recipe


class TrainedPlan(Plan[Trained, NeedResult]):
    """A cell is a network that is trained and tested alike, or a trained one that is tested the other way.

    Raises:
        InputError: for options that cannot work.
    """

    keeps_weights: ClassVar[bool] = True

    def __init__(self, study: Trained) -> None:
        super().__init__(study)
        self.grid = Grid.of(study)
        if not isinstance(study.recipe, str | Recipe):
            raise InputError(f"recipe={study.recipe!r}: give a name such as 'fast', or a Recipe.")
        if not isinstance(study.width, int | float):
            raise InputError(f"width={study.width!r}: give a number above 0.")
        self.recipe = study.how
        checked_repeats(study.repeats)
        checked_names("score", (study.score,), (ACCURACY.name, TOP5.name))
        check_within(study.within)

    @cached_property
    def data(self) -> Data:
        """The pictures, which have labels."""
        data = self.study.data_source.data
        check_labels(self.study.data, data.test)
        return data

    @cached_property
    def options(self) -> dict[str, Any]:
        """Of `load_model`."""
        width = {"width": self.study.width} if self.study.width != 1.0 else {}
        return {"classes": len(self.data.classes), **width}

    @cached_property
    def net(self) -> Network:
        """The network with fresh weights, for its sites, its preprocessing and its cost."""
        return load_model(self.study.model, **self.options)

    @cached_property
    def named(self) -> TrainedCells:
        """Makes the cells."""
        data, net = self.data, self.net
        table = list_sites(net, input_size=data.train.shape(net.preprocessing))
        return TrainedCells(
            self.study.model,
            self.options,
            {"train": data.train.fingerprint, "test": data.test.fingerprint},
            self.recipe,
            self.study.repeats,
            cuts_of(table),
            (len(data.train), len(data.test)),
            table.total_flops,
            self.study.score,
        )

    def shared(self) -> Mapping[str, Any]:
        """The model, its options, the pictures, the recipe and the draws of a test."""
        return self.named.shared()

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The networks to train, and the tests of those that are trained."""
        testing = [test for trained, test in self.named.testing(self.grid) if trained in done]
        # Tests first: they are short, and that weights were not kept is said before hours of training.
        return [*testing, *self.named.training(self.grid)]

    def worker(self, how: Run) -> TrainedWorker:
        """Trains or tests one network."""
        return TrainedWorker(self.study.data_source, how.files, how.device)

    def fold(self, done: Finished) -> NeedResult:
        """A point for each method and share, of all that is finished in the folder."""
        grid = self.named.widened(self.grid, [config for config, _ in done])
        folded = Fold(self.named, grid, done)
        folded.check()
        points, intact = tuple(folded.points()), tuple(folded.intact())
        settings = {"recipe": self.recipe.to_dict(), "seeds": grid.seeds, "repeats": self.study.repeats}
        return NeedResult(
            protocol="train-and-test",
            network=self._title(),
            data=self.data.describe(),
            preprocessing=self.net.preprocessing.to_dict(),
            settings={**settings, **self.options},
            intact=intact,
            points=points,
            matrix=tuple(folded.matrix()),
            recommendation=self._advice([p for p in intact if not p.group], [p for p in points if not p.group]),
            notes=tuple(folded.notes()),
            commands=self._commands(folded, points),
            score=described(self.score),
        )

    @property
    def score(self) -> TopK:
        """What is measured."""
        return score_in({"score": self.study.score})

    def _title(self) -> str:
        model, width = self.study.model, self.study.width
        return model if width == 1.0 else f"{model} (width {width:g})"

    def _commands(self, folded: Fold, points: Sequence[Point]) -> dict[str, str]:
        """What loads one of the networks of each surgery."""
        places = [p for p in points if p.method in REMOVALS and not p.group]
        return {title_of(p): trained_network(self.named, p.method, p.site, folded.example(p)) for p in places}

    def _advice(self, intact: Sequence[Point], points: Sequence[Point]) -> Recommendation | None:
        within, chance = self.study.within, chance_of(self.score, self.data.test)
        if not points:
            return None
        if intact and chance is not None and intact[0].score.low <= chance:
            return Recommendation(at_chance(intact[0].score, chance, self.score), within)
        return recommend(
            points, within, self.net, lambda site: collapse(self.net, site), retrained=True, score=self.score
        )
