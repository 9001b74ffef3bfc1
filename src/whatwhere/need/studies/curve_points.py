"""From tallies to the points of a curve: each paired with the intact network on the same pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import Point
from whatwhere.need.studies.set_tally import Groups
from whatwhere.need.studies.tally import AnyTally, Tallies
from whatwhere.need.studies.temporary import INPUT, at_input
from whatwhere.scores.score import Score
from whatwhere.site import Site, Sites

ITSELF = "nothing: it is compared with itself"


def groups_of(groups: Tensor, rows: Iterable[range] | None = None) -> Groups:
    """Which of some pictures belong together; None where each is alone.

    Args:
        groups: (N,) of all pictures.
        rows: those of some, in order; None: all.
    """
    chosen = groups if rows is None else groups[torch.tensor([r for part in rows for r in part], dtype=torch.int64)]
    return None if len(chosen.unique()) == len(chosen) else chosen.numpy()


def intact_estimate(tally: AnyTally, score: Score, groups: Groups) -> Estimate:
    """Of the intact network; with itself it agrees by definition, and no interval is about that."""
    found = tally.estimate(score, groups)
    if not score.of_intact:
        return found
    return replace(found, low=found.mean, high=found.mean, covers=ITSELF)


def points_of(tallies: Tallies, table: Sites, score: Score, groups: Groups) -> list[Point]:
    """The points of some tallies and the intact network on the same pictures; the last cut first."""
    places = {**{s.name: s for s in table}, INPUT: at_input(table)}
    removed: list[tuple[Site, str, Any]] = [(places[p[1]], p[0], t) for p, t in tallies.items() if p]
    found = []
    for site, method, t in sorted(removed, key=lambda r: -r[0].order):
        measured, drop = t.estimate(score, groups), t.loss(tallies[None], score, groups)
        found.append(Point(method, site.name, site.depth_share, measured, drop, values=t.draws(score)))
    return found
