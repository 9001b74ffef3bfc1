"""The course of a fine-tuning: what is frozen, what is learned of each picture, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.data.sources import Rows
from whatwhere.data.split import balanced_rows
from whatwhere.errors import InputError
from whatwhere.frozen import NOTHING, Frozen
from whatwhere.graph.halves import Halves
from whatwhere.lab.rows import difference
from whatwhere.need.studies.chunk import measure_plain
from whatwhere.need.studies.recover_values import BATCH, Behind, Values, behind, fits, in_parts, scores_of
from whatwhere.need.studies.tally import Tally
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.named import ALONE
from whatwhere.scores.score import Score
from whatwhere.site import Site, evaluating
from whatwhere.site_table import list_sites
from whatwhere.training.distil import Asked, Distil, Remembered, Teacher
from whatwhere.training.fit import ENOUGH
from whatwhere.training.recipes import Recipe

if TYPE_CHECKING:
    from whatwhere.need.studies.recover import Recover

FREEZE, FROM, NORMS, DISTILL, UNTIL, SCORE = (
    "freeze",
    "frozen_before",
    "norms",
    "distill",
    "until",
    "score",
)  # in a cell's configuration
COUNTED = ("accuracy", "top5", "agreement")  # scores of right and wrong pictures
LEARNED, HELD = "learned", "held out"  # the parts of the training pictures
BATCH_NORM = nn.modules.batchnorm._BatchNorm
Kept: TypeAlias = dict[tuple[str | None, ...], Tensor]

LOW, MEAN, HIGH = "behind_low", "behind", "behind_high"  # in an epoch's record, of the accuracy, in [0, 1]


def asked_of(study: Recover) -> dict[str, Any]:
    """What a study asks of its fine-tunings beyond the recipe, for the configurations of cells.

    Raises:
        InputError: for a value out of range.
    """
    _check(study)
    asked: dict[str, Any] = {}
    if study.freeze != "nothing":
        asked[FREEZE] = study.freeze
    if study.norms != "learn":
        asked[NORMS] = study.norms
    if study.distill:
        asked[DISTILL] = {"weight": float(study.distill), "temperature": float(study.temperature)}
    if study.score != "accuracy":
        asked[SCORE] = study.score
    if study.until != "end":
        asked[UNTIL] = {"allowed": float(study.allowed), "validation": float(study.validation)}
    return asked


def _check(study: Recover) -> None:
    choices = {"freeze": ("nothing", "prefix"), "norms": ("learn", "keep"), "until": ("end", "allowed")}
    for name, known in (choices | {"score": COUNTED}).items():
        if getattr(study, name) not in known:
            raise InputError(f"{name}={getattr(study, name)!r}: choose {' or '.join(map(repr, known))}.")
    ranges = {
        "distill": (0 <= study.distill <= 1, "a weight from 0 (labels alone) to 1 (the original's scores alone)"),
        "temperature": (0 < study.temperature < 1000, "a number above 0, such as 2"),
        "allowed": (0 <= study.allowed <= 100, "points of accuracy, from 0 to 100"),
        "validation": (0 < study.validation < 1, "a share of the training pictures between 0 and 1, such as 0.2"),
    }
    for name, (right, wanted) in ranges.items():
        if not right:
            raise InputError(f"{name}={getattr(study, name)!r}: give {wanted}.")


def parted(train: Split, asked: Mapping[str, Any]) -> tuple[Split, Split | None]:
    """The pictures to learn from, and those that are held out to say when it is enough, if any.

    Raises:
        InputError: if too few could be held out for any training to end.
    """
    if UNTIL not in asked:
        return train, None
    held = round(asked[UNTIL]["validation"] * len(train))
    _check_held(held, asked[UNTIL]["allowed"])
    rows = balanced_rows(train.labels, held, 0)
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[rows] = False
    return _part(train, rest.nonzero()[:, 0]), _part(train, rows)


def _check_held(held: int, allowed: float) -> None:
    alike = np.zeros((1, held), dtype=bool)
    least = difference(alike, alike).high if held > 1 else 1.0
    if 100 * least > allowed:
        raise InputError(
            f"until='allowed': {held} pictures would be held out, on which even equal answers leave {100 * least:.2f} "
            f"points open, more than allowed={allowed:g}; give more training pictures, or a larger validation or "
            "allowed."
        )


def _part(split: Split, rows: Tensor) -> Split:
    return Split(split.name, Rows(split.source, rows), split.labels[rows], split.classes)


def _named(split: Split, scores: Tensor) -> Split:
    """The same pictures, or values in their place, with the classes that scores (N, classes) name as labels."""
    other = Split(split.name, split.source, scores.argmax(1), [str(i) for i in range(scores.shape[1])])
    return Values(other, split.values) if isinstance(split, Values) else other


@dataclass
class Within:
    """Says after an epoch whether a network is shown to be within what is allowed of the intact one.

    Attributes:
        held: pictures that nothing is learned from.
        right: (N,) which of them the intact network has right.
        allowed: points of the score.
        score: of right and wrong pictures, by their labels.
    """

    held: Split
    right: NDArray[np.bool_]
    allowed: float
    score: Score = ACCURACY

    def __call__(self, net: Network) -> dict[str, float]:
        """How far the network is below the intact one on these pictures, with its 95 % interval."""
        own = right_of(net, self.held, self.score)
        e = difference(self.right[None], own[None])
        ends = {LOW: e.low, MEAN: e.mean, HIGH: e.high, "held_out": e.n}
        return {**ends, ENOUGH: e.high <= self.allowed / 100}


@dataclass(frozen=True)
class Course:
    """One fine-tuning.

    Attributes:
        net: to be trained, placed on its device.
        original: the intact network as it was given, likewise.
        train: the training pictures, those included that are held out.
        config: of the cell.
        kept: what other cells computed of the same pictures, with the same frozen prefix.
    """

    net: Network
    original: Network
    train: Split
    config: Mapping[str, Any]
    kept: Kept = field(default_factory=dict, repr=False)

    @cached_property
    def recipe(self) -> Recipe:
        """How to train."""
        return Recipe.of(self.config["recipe"])

    @cached_property
    def same_pictures(self) -> bool:
        """Whether pictures are the same in each epoch."""
        return self.recipe == self.recipe.without_augmentation()

    @cached_property
    def parts(self) -> tuple[Split, Split | None]:
        """The pictures to learn from, and those held out where this training may end early."""
        learned, held = parted(self.train, self.config)
        return learned, held if self.config["site"] else None

    @cached_property
    def site(self) -> Site:
        """Where the frozen prefix ends."""
        where = self.config["site"] or self.config[FROM]
        return next(s for s in list_sites(self.original) if s.name == where)

    @cached_property
    def halves(self) -> Halves | None:
        """Of the network, where its prefix is frozen."""
        return Halves(self.net, self.site) if FREEZE in self.config else None

    @cached_property
    def behind(self) -> Behind | None:
        """What lies behind the frozen prefix, where it can be trained alone on values that are computed once."""
        if self.halves is None or not self.same_pictures or self.recipe.precision != "32-true":
            return None
        return behind(self.net, self.halves, self._splits)

    @property
    def _splits(self) -> Sequence[Split]:
        return [s for s in self.parts if s is not None]

    def given(self) -> tuple[Network, Split, dict[str, Any]]:
        """What `fit` gets: a network, its pictures or their values, and further options."""
        learned, held = self.parts
        options = {"frozen": self.frozen, "objective": self.objective}
        if self.behind is None:
            return self.net, learned, {**options, "until": self._within(held, held)}
        served = held and self._values(held, HELD)
        return self.behind.net, self._values(learned, LEARNED), {**options, "until": self._within(held, served)}

    @cached_property
    def intact(self) -> Behind | None:
        """Likewise of the original, whose prefix is the same: one pass serves network, control and teacher."""
        return self.behind and behind(self.original, Halves(self.original, self.site), self._splits)

    def _values(self, split: Split, part: str) -> Split:
        return Values(split, self._once(lambda: self._pooled(split, part), self.config["site"], self.site.name, part))

    def _pooled(self, split: Split, part: str) -> Tensor:
        assert self.behind
        if self.intact is None:
            return self.behind.values(split)
        maps, module = self._maps(self.intact, split, part), self.net.module
        return in_parts(module.get_submodule(str(module.pooled_by)), maps) if self.config["site"] else maps

    def _maps(self, intact: Behind, split: Split, part: str) -> Tensor:
        return self._once(lambda: intact.values(split), self.site.name, part)

    def _once(self, compute: Callable[[], Tensor], *key: str | None) -> Tensor:
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]

    @property
    def frozen(self) -> Frozen:
        """What stays as it is."""
        found = NOTHING if self.halves is None else self.halves.before
        if NORMS not in self.config:
            return found
        norms = [n for n, m in self.net.module.named_modules() if isinstance(m, BATCH_NORM)]
        return replace(found, modules=tuple(dict.fromkeys([*found.modules, *norms])))

    @property
    def objective(self) -> Distil | None:
        """The task, where it is more than that of the recipe."""
        asked = self.config.get(DISTILL)
        return None if asked is None else Distil(self.recipe, self._teacher(), **asked)

    def _teacher(self) -> Teacher:
        learned, _ = self.parts
        if not self.same_pictures or not fits(len(learned), [len(learned.classes) or 1]):
            return Asked(self.original)
        return Remembered(self._once(lambda: self._scores(learned), "scores"))

    def _scores(self, learned: Split) -> Tensor:
        if self.intact is None:
            return scores_of(self.original, learned)
        tail, maps = self.intact.net, self._maps(self.intact, learned, LEARNED)
        with evaluating(tail.module):
            return in_parts(lambda part: tail.module(tail.prepared(part)).float(), maps)

    def _within(self, held: Split | None, served: Split | None) -> Within | None:
        if held is None or served is None:
            return None
        score, allowed = ALONE[self.config.get(SCORE, ACCURACY.name)], self.config[UNTIL]["allowed"]
        if not score.of_intact:
            return Within(served, right_of(self.original, held, score), allowed, score)
        # To agree with the intact network is to be right where its classes are the labels.
        scores = scores_of(self.original, held)
        return Within(_named(served, scores), np.ones(len(held), dtype=bool), allowed)


def right_of(net: Network, split: Split, score: Score) -> NDArray[np.bool_]:
    """(N,) which pictures a network has right."""
    found = measure_plain(net, split, BATCH, score=score)
    assert isinstance(found, Tally)
    return found.hits.astype(bool)
