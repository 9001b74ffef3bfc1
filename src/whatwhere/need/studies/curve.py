"""The test-time curve: a trained network, spatial information removed from each site on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from whatwhere.data import Data, Split, load_data
from whatwhere.dependency.collapse import collapse
from whatwhere.dependency.cuts import cuts_of
from whatwhere.dependency.shuffle import MODES
from whatwhere.errors import InputError, unknown
from whatwhere.intervals import Estimate, noise_of, over_pictures
from whatwhere.models.load import random_weights
from whatwhere.network import Network, as_module
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import architecture, command, fingerprint, hardware, versions
from whatwhere.sites import Selection, Site, list_sites
from whatwhere.studies.dependency.chunk import MEAN, Curve, Place, Tally, measure
from whatwhere.studies.dependency.recommend import AT_CHANCE, check_within, recommend
from whatwhere.studies.dependency.result import DependencyResult, Point, Recommendation
from whatwhere.studies.packed import checked_repeats
from whatwhere.studies.rows import checked_counts
from whatwhere.training.evaluate import evaluate

GAP_FC = "gap_fc"
FIRST_BATCHES = 2  # measured with every draw, to learn how much draws matter
CHUNK_BATCHES = 4  # a kill loses at most one chunk


def dependency(
    net: nn.Module | Network,
    data: Data | str | os.PathLike[str],
    *,
    methods: Sequence[str] | str = ("per-channel", MEAN, GAP_FC),
    sites: Selection = None,
    reach: str | int = "from",
    repeats: int = 10,
    tolerance: float | None = None,
    within: float | None = 0.01,
    seed: int = 0,
    batch_size: int = 128,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> DependencyResult:
    """What a trained network loses when spatial information is removed at test time, at every depth.

    >>> curve = ww.dependency(net, data, repeats=10)
    >>> curve.plot(); curve.save("out"); print(curve.recommendation.text)

    The computation before a cut is shared by all methods and draws at the cut; the numbers are those that a full
    forward pass with `ww.shuffle` would give, draw by draw.

    Args:
        net: the network, trained, with its preprocessing.
        data: labelled pictures; the test split is used.
        methods: modes of `ww.shuffle`; `mean`, each map constant at its mean; `gap_fc`, the collapsed network with
            summed kernels and no retraining.
        sites: where to cut; None is every k x k convolution, or residual block.
        reach: `from` removes from the cut to the end, 1 at the cut only, n at the cut and the n - 1 after it.
        repeats: draws of every shuffle.
        tolerance: stop a cut early: give it only as many draws as keep its paired interval within this factor (0.01:
            one per cent) of the width that all `repeats` would give; None gives every cut all of them.
        within: loss that the recommendation may cost, in [0, 1]; None gives none, nor does a `reach` other than `from`.
        seed: of the draws.
        batch_size: pictures in a forward pass, which share a draw.
        out: folder for finished parts and the result; the same call goes on where it was stopped.
        quiet: print no progress.

    Returns:
        The curve, with intervals over pictures and draws, paired with the intact network.

    Raises:
        InputError: for unknown methods or sites, pictures without labels or in changing order, or a folder that holds
            another measurement.
    """
    data = data if isinstance(data, Data) else load_data(data)
    net = sized(net, data.test)
    methods = [methods] if isinstance(methods, str) else methods
    shuffles = _checked(methods, repeats, reach, tolerance)
    checked_counts(batch_size=batch_size)
    check_within(within)
    if not data.test.ordered:
        raise InputError("data: the DataLoader shuffles, and pictures are compared one by one; give shuffle=False.")
    curve = _curve(net, data.test, shuffles, sites, reach, seed, batch_size)
    started = time.perf_counter()
    identity = _identity(curve, data, repeats, tolerance)
    job = _Job(curve, data.test, repeats, tolerance, Store(Path(out), identity) if out else None, quiet)
    tallies = job.run() if shuffles else {}
    gaps, notes = job.collapsed() if GAP_FC in methods else ({}, [])
    everything = {**gaps, **tallies}
    intact = everything.pop(None)
    points = _points(curve, everything, intact)
    result = DependencyResult(
        protocol="test-time",
        network=net.name,
        data=data.describe(),
        preprocessing=net.preprocessing.to_dict(),
        settings={"repeats": repeats, "seed": seed, "batch_size": batch_size, "reach": reach, "tolerance": tolerance},
        intact=(Point("intact", "", 0.0, _estimate(intact)),),
        points=tuple(points),
        recommendation=None if within is None or reach != "from" else _advice(net, data.test, intact, points, within),
        notes=(*random_weights(net), *notes),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out:
        result.save(out)
    return result


def sized(net: nn.Module | Network, split: Split) -> Network:
    """A network that knows the size of its pictures; if it says none, those of the data.

    Raises:
        InputError: for what is no network.
    """
    as_module(net)
    named = net if isinstance(net, Network) else Network(net)
    return named if named.input_size else replace(named, input_size=split.shape(named.preprocessing))


def _checked(methods: Sequence[str], repeats: int, reach: str | int, tolerance: float | None) -> tuple[str, ...]:
    """The methods that are interventions; complains of anything else that is not GAP+FC."""
    for method in methods:
        if method not in (*MODES, MEAN, GAP_FC):
            raise unknown("methods", method, (*MODES, MEAN, GAP_FC))
    if not methods:
        raise InputError("methods is empty; give at least one, such as 'per-channel'.")
    checked_repeats(repeats)
    if reach != "from" and (not isinstance(reach, int) or reach < 1):
        raise InputError(f"reach={reach!r}: give 'from', or a number of cuts from 1.")
    if tolerance is not None and (tolerance < 0 or repeats < 3):
        raise InputError(f"tolerance={tolerance}: give 0 or more, and at least 3 repeats; None never stops early.")
    return tuple(m for m in methods if m != GAP_FC)


def _curve(
    net: Network, split: Split, methods: tuple[str, ...], sites: Selection, reach: str | int, seed: int, batch: int
) -> Curve:
    table = list_sites(net, input_size=split.shape(net.preprocessing))
    cuts = table.select(sites) if sites is not None else cuts_of(table)
    return Curve(net, table, cuts, methods, reach, seed, batch)


def _identity(curve: Curve, data: Data, repeats: int, tolerance: float | None) -> dict[str, Any]:
    return {
        "study": "dependency at test time", "network": curve.net.name, "weights": fingerprint(curve.net.module),
        "layers": architecture(curve.net.module), "preprocessing": curve.net.preprocessing.to_dict(),
        "data": data.test.fingerprint, "methods": curve.methods,
        "cuts": [s.name for s in curve.cuts], "reach": curve.reach, "seed": curve.seed, "repeats": repeats,
        "tolerance": tolerance, "batch_size": curve.batch_size,
    }  # fmt: skip


@dataclass
class _Job:
    curve: Curve
    split: Split
    repeats: int
    tolerance: float | None
    store: Store | None
    quiet: bool

    def run(self) -> dict[Place | None, Tally]:
        """Measure all pictures, chunk by chunk; finished chunks are read, not run."""
        parts: list[dict[Place | None, Tally]] = []
        with Meter(f"test-time curve of {self.curve.net.name}", len(self.split), quiet=self.quiet) as meter:
            for rows in self._chunks():
                parts.append(self._chunk(rows, self._draws(parts), meter))
        return joined(parts)

    def _chunks(self) -> list[range]:
        size, n = self.curve.batch_size, len(self.split)
        bounds = [0, *range(FIRST_BATCHES * size, n, CHUNK_BATCHES * size), n]
        return [range(a, b) for a, b in pairwise(bounds) if a < b]

    def _draws(self, parts: Sequence[dict[Place | None, Tally]]) -> dict[Place, int]:
        """How many draws each place gets next: all, or as few as its interval so far allows."""
        every = {
            (m, c.name): 1 if m == MEAN else self.repeats for c in self.curve.cuts for m in self.curve.methods
        }  # fmt: skip
        if self.tolerance is None or not parts:
            return every
        so_far = joined(parts)
        intact = so_far[None]
        return {
            place: most if most == 1 else draws_needed(so_far[place], intact, most, self.tolerance)
            for place, most in every.items()
        }

    def _chunk(self, rows: range, draws: Mapping[Place, int], meter: Meter) -> dict[Place | None, Tally]:
        plan = {f"{method} {site}": n for (method, site), n in draws.items()}
        cell = Cell({"rows": [rows.start, rows.stop], "draws": plan}, f"pictures {rows.start}-{rows.stop}")
        if self.store and self.store.has(cell):
            meter.advance(len(rows))
            return _read(self.store.load(cell))
        tallies = measure(self.curve, self.split, rows, draws, on_batch=meter.advance)
        if self.store:
            self.store.save(cell, _written(tallies))
        return tallies

    def collapsed(self) -> tuple[dict[Place | None, Tally], list[str]]:
        """The collapsed network at each cut, each a cell; and a note where there is none."""
        tallies: dict[Place | None, Tally] = {None: self._evaluated(None)}
        refused: dict[str, str] = {}
        with Meter("GAP+FC without retraining", len(self.curve.cuts), quiet=self.quiet) as meter:
            for cut in self.curve.cuts:
                try:
                    site = collapsible(self.curve.net, cut)
                    if (GAP_FC, site) not in tallies:
                        tallies[GAP_FC, site] = self._evaluated(site)
                except InputError as error:
                    refused.setdefault(str(error), cut.name)
                meter.advance()
        return tallies, [f"GAP+FC is left out at {site}: {why}" for why, site in refused.items()]

    def _evaluated(self, site: str | None) -> Tally:
        cell = Cell({"collapse": site}, f"GAP+FC from {site}")
        if self.store and self.store.has(cell):
            return Tally.from_dict(self.store.load(cell))
        net = _collapse(self.curve.net, site) if site else self.curve.net
        tally = Tally.of(evaluate(net, self.split, batch_size=self.curve.batch_size).correct[None])
        if self.store:
            self.store.save(cell, tally.to_dict())
        return tally


def _collapse(net: Network, site: str) -> Network:
    small = collapse(net, site)
    assert isinstance(small, Network)
    return small


def collapsible(net: Network, cut: Site) -> str:
    """Where to pool for a cut: there, or before the innermost module around it that nothing goes round.

    Raises:
        InputError: if there is no such place; the reason is that of the cut itself.
    """
    reasons = []
    for name in (cut.name, *reversed(cut.parents)):
        try:
            collapse(net, name)
            return name
        except InputError as error:
            reasons.append(error)
    raise reasons[0]


def draws_needed(tally: Tally, intact: Tally, most: int, tolerance: float) -> int:
    """The fewest draws whose paired interval is within a tolerance of the one that the most draws would give.

    Args:
        tally: what was right at a place so far.
        intact: the intact network on the same pictures.
        most: draws that there may be.
        tolerance: 0.01 lets the interval be one per cent wider.
    """
    each = 1 / float(np.mean(1 / tally.repeats))
    noise = noise_of(tally.rates - intact.rates, tally.rates, each, tally.batches)
    widest = (1 + tolerance) * noise.half_width(most)
    return next(r for r in range(2, most + 1) if noise.half_width(r) <= widest or r == most)


def joined(parts: Sequence[dict[Place | None, Tally]]) -> dict[Place | None, Tally]:
    """Chunks one after the other."""
    return {place: Tally.join([p[place] for p in parts]) for place in parts[0]}


def _written(tallies: Mapping[Place | None, Tally]) -> dict[str, Any]:
    return {" ".join(place) if place else "intact": t.to_dict() for place, t in tallies.items()}


def _read(plain: Mapping[str, Any]) -> dict[Place | None, Tally]:
    places = {name: tuple(name.split(" ", 1)) if name != "intact" else None for name in plain}
    return {places[name]: Tally.from_dict(t) for name, t in plain.items()}  # type: ignore[misc]


def _points(curve: Curve, tallies: Mapping[Any, Tally], intact: Tally) -> list[Point]:
    places = {s.name: s for s in curve.table}
    ordered = sorted(tallies.items(), key=lambda item: (item[0][0], -places[item[0][1]].order))
    return [
        Point(method, site, places[site].depth_share, _estimate(t), _paired(t, intact), values=_each_draw(t))
        for (method, site), t in ordered
    ]


def _estimate(t: Tally) -> Estimate:
    return over_pictures(None, t.rates, t.repeats, t.batches)


def _paired(t: Tally, intact: Tally) -> Estimate:
    return over_pictures(intact.rates - t.rates, t.rates, t.repeats, t.batches)


def _each_draw(t: Tally) -> tuple[float, ...]:
    common = min(b.repeats for b in t.batches)
    n = sum(b.n for b in t.batches)
    return tuple(sum(b.totals[r] for b in t.batches) / n for r in range(common))


def _advice(net: Network, split: Split, intact: Tally, points: Sequence[Point], within: float) -> Recommendation:
    if _estimate(intact).low <= 1 / max(1, len(split.classes)):
        return Recommendation(AT_CHANCE, within)
    return recommend(points, within, net, lambda site: _collapse(net, site), retrained=False)
