"""Tallies: how often pictures were right at each place, and how many draws a place still needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.intervals import Batch, Estimate, Noise, noise_of, over_pictures, student
from whatwhere.lab.packed import pack, unpack

Place: TypeAlias = tuple[str, str]  # (method, site)
ONE_DRAW = (
    "Each shuffle was drawn once (repeats=1): the intervals hold for this draw and leave out what others would change. "
    "Give repeats of 2 or more."
)


@dataclass
class Tally:
    """How often pictures were right at one place.

    Attributes:
        hits: (n,) draws in which each picture was right.
        repeats: (n,) draws each picture had.
        batches: the same, per batch and draw.
    """

    hits: NDArray[np.integer]
    repeats: NDArray[np.integer]
    batches: list[Batch] = field(default_factory=list)

    @property
    def rates(self) -> NDArray[np.float64]:
        """(n,) share of its draws in which each picture was right."""
        return self.hits / self.repeats

    @property
    def accuracy(self) -> Estimate:
        """Over pictures and draws."""
        return over_pictures(None, self.rates, self.repeats, self.batches)

    def drop(self, intact: Tally) -> Estimate:
        """What was lost against the intact network on the same pictures."""
        return over_pictures(intact.rates - self.rates, self.rates, self.repeats, self.batches)

    @property
    def each_draw(self) -> tuple[float, ...]:
        """The accuracy of each draw that all batches had."""
        common = min(b.repeats for b in self.batches)
        n = sum(b.n for b in self.batches)
        return tuple(sum(b.totals[r] for b in self.batches) / n for r in range(common))

    @staticmethod
    def of(runs: Tensor) -> Tally:
        """From (draws, n) right or wrong, of one batch."""
        draws, n = runs.shape
        totals = tuple(int(t) for t in runs.sum(1))
        return Tally(runs.sum(0).numpy(), np.full(n, draws), [Batch(n, totals)])

    @staticmethod
    def join(parts: Sequence[Tally]) -> Tally:
        """One after the other."""
        hits, repeats = ([getattr(p, name) for p in parts] for name in ("hits", "repeats"))
        return Tally(np.concatenate(hits), np.concatenate(repeats), [b for p in parts for b in p.batches])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a cell."""
        batches = [[b.n, list(b.totals)] for b in self.batches]
        return {"hits": pack(self.hits), "repeats": pack(self.repeats), "batches": batches}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Tally:
        """From a cell's plain values."""
        batches = [Batch(n, tuple(totals)) for n, totals in plain["batches"]]
        return Tally(unpack(plain["hits"]).astype(int), unpack(plain["repeats"]).astype(int), batches)


Tallies: TypeAlias = dict[Place | None, Tally]  # None: the intact network


def joined(parts: Sequence[Tallies]) -> Tallies:
    """Chunks one after the other."""
    return {place: Tally.join([p[place] for p in parts]) for place in parts[0]}


def written(tallies: Tallies) -> dict[str, Any]:
    """Plain values, as in a chunk's cell."""
    return {" ".join(place) if place else "intact": t.to_dict() for place, t in tallies.items()}


def read(plain: Mapping[str, Any]) -> Tallies:
    """From the plain values of a chunk's cell."""
    return {None if name == "intact" else place_of(name): Tally.from_dict(t) for name, t in plain.items()}


def place_of(name: str) -> Place:
    """A place by its name in a cell."""
    method, _, site = name.partition(" ")
    return method, site


def draws_needed(tally: Tally, intact: Tally, most: int, tolerance: float) -> int:
    """The fewest draws whose paired interval is within a tolerance of the one that the most draws would give.

    Args:
        tally: of a place, so far.
        intact: of the intact network on the same pictures.
        most: the most draws.
        tolerance: 0.01 lets the interval be one per cent wider.
    """
    each = 1 / float(np.mean(1 / tally.repeats))
    noise = noise_of(tally.rates - intact.rates, tally.rates, each, tally.batches)
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
