"""From the joint study's cells to rows: a method's values at each site, and its differences from the plain network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whatwhere.intervals import SEEDS, Estimate, over_networks, over_seeds
from whatwhere.lab.packed import unpack, unpack_scores
from whatwhere.lab.rows import Row
from whatwhere.use.studies.compare_result import NONE
from whatwhere.use.studies.joint_cell import INTACT, Look
from whatwhere.use.studies.joint_result import ACCURACY, FRESH, LOST, MEAN, RGB, SPC, above, name_of

PAIRED = (SPC, FRESH, LOST)
Values = NDArray[np.float64]
Found = Mapping[tuple[str, int], Mapping[str, Any]]


def rows_of(name: str, seeds: Sequence[int], found: Found, look: Look) -> Iterator[Row]:
    """The rows of one method: the raw input, every site, the mean over depths, the intact network.

    Args:
        name: the method.
        seeds: those whose plain network is measured.
        found: results of the cells by method and seed.
        look: how they were measured.
    """
    there = [s for s in seeds if (name, s) in found]
    first = found[name, there[0]]
    for site in (RGB, *look.sites, MEAN, INTACT):
        own = [measures(found[name, s], site, look) for s in there]
        values = {m: tuple(v[m] for v in own) for m in own[0]}
        each = [pictured(found[name, s], site, look) for s in there]
        pictures = {m: np.array([e[m] for e in each]) for m in own[0] if all(m in e for e in each)}
        if name != NONE and site != RGB:  # the input is the same
            twin = [measures(found[NONE, s], site, look) for s in there]
            values |= {above(m): _gaps(own, twin, m) for m in PAIRED if m in own[0]}
            plain = [pictured(found[NONE, s], site, look) for s in there]
            same = [m for m in PAIRED if m in pictures and all(m in p for p in plain)]
            pictures |= {above(m): pictures[m] - np.array([p[m] for p in plain]) for m in same}
        measured = {
            m: _over(v, m, first["held" if m.startswith(SPC) else "kept"]["n"], pictures.get(m))
            for m, v in values.items()
        }
        yield Row(name_of(name, site), name, measured, values)


def measures(cell: Mapping[str, Any], site: str, look: Look) -> dict[str, float]:
    """What one network shows at a site, or averaged over all of them."""
    if site == MEAN:
        each = [measures(cell, s, look) for s in look.sites]
        return {m: float(np.mean([e[m] for e in each])) for m in each[0]}
    accuracy, held, fresh = cell["kept"]["accuracy"], cell["held"]["spc"], cell["untrained"]["spc"]
    found = {f"{SPC} {t}": held[t][site] for t in look.targets if site in held[t]}
    if found:
        found = {SPC: float(np.mean(list(found.values()))), **found}
    if site in look.sites:
        found[FRESH] = float(np.mean([fresh[t][site] for t in look.targets]))
        # A network that is never right has nothing to lose.
        found[LOST] = 1 - accuracy[site] / accuracy[INTACT] if accuracy[INTACT] else 0.0
    return {**found, ACCURACY: accuracy[site]} if site in accuracy else found


def pictured(cell: Mapping[str, Any], site: str, look: Look) -> dict[str, Values]:
    """Of every test picture what `measures` is the mean of; nothing where an earlier version kept means only."""
    if "scores" not in cell["held"] or "hits" not in cell["kept"]:
        return {}
    if site == MEAN:
        each = [pictured(cell, s, look) for s in look.sites]
        return {m: np.mean([e[m] for e in each], 0) for m in each[0]}
    held, fresh, hits = cell["held"]["scores"], cell["untrained"]["scores"], cell["kept"]["hits"]
    found = {f"{SPC} {t}": unpack_scores(held[t][site]) for t in look.targets if site in held[t]}
    if found:
        found = {SPC: np.mean(list(found.values()), 0), **found}
    right = unpack(hits[site]) / (1 if site == INTACT else look.repeats) if site in hits else None
    if site in look.sites and right is not None:
        found[FRESH] = np.mean([unpack_scores(fresh[t][site]) for t in look.targets], 0)
        found[LOST] = lost(right, unpack(hits[INTACT]).astype(float))
    return {**found, ACCURACY: right} if right is not None else found


def lost(right: Values, intact: Values) -> Values:
    """Of every picture its part in 1 - right / intact, linear around the means, so that their mean is that ratio."""
    if not intact.any():
        return np.zeros_like(intact)
    ratio = right.mean() / intact.mean()
    return 1 - ratio - (right - ratio * intact) / intact.mean()


def _gaps(own: Sequence[Mapping[str, float]], twin: Sequence[Mapping[str, float]], measure: str) -> tuple[float, ...]:
    return tuple(a[measure] - b[measure] for a, b in zip(own, twin, strict=True))


def _over(values: Sequence[float], measure: str, n: int, pictures: Values | None) -> Estimate:
    """Over seeds and pictures; a single network says nothing about others, so its interval is the whole range."""
    most = 2.0 if measure.endswith(above("")) else 1.0
    low = 0.0 if measure == ACCURACY else -most
    if len(values) == 1:
        return Estimate(values[0], low, most, 0.0, n, 1, SEEDS)
    if pictures is None:
        return over_seeds(values, n, low=low, high=most)
    return over_networks(pictures, counted=measure == ACCURACY, low=low, high=most)
