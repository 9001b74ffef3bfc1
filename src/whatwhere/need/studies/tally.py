"""Tallies: how often pictures were right at each place, or their scores, and how many draws a place still needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.intervals import Batch, Estimate, Noise, noise_of, over_pictures, student
from whatwhere.lab.packed import pack, pack_arrays, unpack, unpack_arrays
from whatwhere.need.studies.set_tally import Groups, SetTally
from whatwhere.scores.score import Score

Place: TypeAlias = tuple[str, str]  # (method, site)
ONE_DRAW = (
    "Each shuffle was drawn once (repeats=1): the intervals hold for this draw and leave out what others would change. "
    "Give repeats of 2 or more."
)


@dataclass
class Tally:
    """How often pictures were right at one place; of another score of pictures, the sum over their draws.

    Attributes:
        hits: (n,) draws in which each picture was right, or the sum of its values.
        repeats: (n,) draws each picture had.
        batches: the same, per batch and draw.
        varied: (n,) of values that are not right or wrong, a picture's variance over its draws; 0 for a single one.
    """

    hits: NDArray[Any]
    repeats: NDArray[np.integer]
    batches: list[Batch] = field(default_factory=list)
    varied: NDArray[np.float64] | None = None

    @property
    def rates(self) -> NDArray[np.float64]:
        """(n,) share of its draws in which each picture was right, or the mean of its values."""
        return self.hits / self.repeats

    def estimate(self, score: Score, groups: Groups = None) -> Estimate:
        """The score, over pictures (or groups of them) and draws."""
        bounds = (score.low, score.high)
        return over_pictures(None, self.rates, self.repeats, self.batches, self.varied, groups, bounds)

    def loss(self, intact: Tally, score: Score, groups: Groups = None) -> Estimate:
        """What was lost against the intact network on the same pictures, positive where the score got worse."""
        lost = score.direction * (intact.rates - self.rates)
        return over_pictures(lost, self.rates, self.repeats, self.batches, self.varied, groups, score.losses)

    def draws(self, score: Score) -> tuple[float, ...]:
        """The score of each draw that all batches had."""
        common = min(b.repeats for b in self.batches)
        n = sum(b.n for b in self.batches)
        return tuple(sum(b.totals[r] for b in self.batches) / n for r in range(common))

    @staticmethod
    def of(runs: Tensor) -> Tally:
        """From (draws, n) right or wrong, or values in float64, of one batch."""
        draws, n = runs.shape
        if runs.dtype == torch.float64:
            varied = runs.var(0).numpy() if draws > 1 else np.zeros(n)
            return Tally(runs.sum(0).numpy(), np.full(n, draws), [Batch(n, tuple(runs.sum(1).tolist()))], varied)
        totals = tuple(int(t) for t in runs.sum(1))
        return Tally(runs.sum(0).numpy(), np.full(n, draws), [Batch(n, totals)])

    @staticmethod
    def join(parts: Sequence[Tally]) -> Tally:
        """One after the other."""
        hits, repeats = ([getattr(p, name) for p in parts] for name in ("hits", "repeats"))
        varied = [p.varied for p in parts if p.varied is not None]
        batches = [b for p in parts for b in p.batches]
        joint = np.concatenate(varied) if varied else None
        return Tally(np.concatenate(hits), np.concatenate(repeats), batches, joint)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a cell."""
        batches = [[b.n, list(b.totals)] for b in self.batches]
        if self.varied is not None:
            values = pack_arrays([self.hits, self.varied])
            return {"values": values, "repeats": pack(self.repeats), "batches": batches}
        return {"hits": pack(self.hits), "repeats": pack(self.repeats), "batches": batches}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Tally:
        """From a cell's plain values."""
        batches = [Batch(n, tuple(totals)) for n, totals in plain["batches"]]
        repeats = unpack(plain["repeats"]).astype(int)
        if "values" in plain:
            hits, varied = unpack_arrays(plain["values"])
            return Tally(hits, repeats, batches, varied)
        return Tally(unpack(plain["hits"]).astype(int), repeats, batches)


AnyTally: TypeAlias = Tally | SetTally
Tallies: TypeAlias = dict[Place | None, AnyTally]  # None: the intact network


def joined(parts: Sequence[Tallies]) -> Tallies:
    """Chunks one after the other."""
    return {place: joined_tally([p[place] for p in parts]) for place in parts[0]}


def joined_tally(parts: Sequence[AnyTally]) -> AnyTally:
    """Tallies of one kind, one after the other."""
    whole = [p for p in parts if isinstance(p, SetTally)]
    return SetTally.join(whole) if whole else Tally.join([p for p in parts if isinstance(p, Tally)])


def written(tallies: Tallies) -> dict[str, Any]:
    """Plain values, as in a chunk's cell."""
    return {" ".join(place) if place else "intact": t.to_dict() for place, t in tallies.items()}


def read(plain: Mapping[str, Any]) -> Tallies:
    """From the plain values of a chunk's cell."""
    return {None if name == "intact" else place_of(name): tally_of(t) for name, t in plain.items()}


def tally_of(plain: Mapping[str, Any]) -> AnyTally:
    """A tally of either kind, from a cell's plain values."""
    return SetTally.from_dict(plain) if "evidence" in plain else Tally.from_dict(plain)


def place_of(name: str) -> Place:
    """A place by its name in a cell."""
    method, _, site = name.partition(" ")
    return method, site


def draws_needed(tally: AnyTally, intact: AnyTally, most: int, tolerance: float) -> int:
    """The fewest draws whose paired interval is within a tolerance of the one that the most draws would give.

    Args:
        tally: of a place, so far.
        intact: of the intact network on the same pictures.
        most: the most draws.
        tolerance: 0.01 lets the interval be one per cent wider.
    """
    assert isinstance(tally, Tally)  # of a set's score every draw is made
    assert isinstance(intact, Tally)
    each = 1 / float(np.mean(1 / tally.repeats))
    noise = noise_of(tally.rates - intact.rates, tally.rates, each, tally.batches, tally.varied)
    widest = (1 + tolerance) * _expected_half_width(noise, most)
    return next(r for r in range(2, most + 1) if _expected_half_width(noise, r) <= widest or r == most)


def _expected_half_width(noise: Noise, repeats: int) -> float:
    """Half the interval that so many draws would give, roughly.

    The draws are in the names of cells, so this stays as it was when folders that exist were begun, whatever becomes of
    the interval itself.
    """
    pictures, once = max(0.0, noise.pictures) / noise.n, (noise.draws / noise.n + max(0.0, noise.shared)) / repeats
    known = noise.freedom if noise.shared > 0 else noise.n
    freedom = (pictures + once) ** 2 / (pictures**2 / max(1, noise.n - 1) + once**2 / known)
    return student(freedom) * math.sqrt(pictures + once)
