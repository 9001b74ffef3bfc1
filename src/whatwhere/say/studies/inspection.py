"""How well single channels line up with concepts: chosen on some pictures, scored on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from whatwhere.say.inspect import Overlap, auic, inspectability_curve, thresholds_of
from whatwhere.say.studies.broden_places import Places
from whatwhere.say.studies.features import SiteFeatures
from whatwhere.say.studies.measure import Cells
from whatwhere.say.studies.words import ON_BRODEN

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
SOME = 40  # pictures that thresholds are taken from


def in_scenes(
    validation: tuple[SiteFeatures, Cells], test: tuple[SiteFeatures, Cells], *, named: bool
) -> dict[str, Any]:
    """Chosen on the validation pictures, scored on the test pictures.

    Args:
        validation: features, and what the network says there.
        test: likewise.
        named: each channel bears the name of a concept.
    """
    held, seen = validation
    rows = torch.arange(len(held))
    limits = thresholds_of(_activations(held, seen, rows[:: max(1, len(rows) // SOME)]), SHARES)
    chosen, scored = (_counted(*half, limits) for half in (validation, test))
    return _found(chosen, scored, named=named)


def _counted(held: SiteFeatures, seen: Cells, limits: Tensor) -> Overlap:
    overlap = Overlap(len(limits), held.targets.shape[1], limits)
    for part in torch.arange(len(held)).split(8):
        overlap.update(_activations(held, seen, part), held.concepts_at(part))
    return overlap


def _activations(held: SiteFeatures, seen: Cells, rows: Tensor) -> Tensor:
    """Concept maps, or without a bottleneck the features."""
    return held.at(rows) if seen.maps is None else seen.maps[rows]


def in_broden(
    channels: Callable[[Tensor], Tensor], calibration: Places, validation: Places, *, named: bool
) -> dict[str, Any] | None:
    """Chosen on places of the calibration pictures, scored on those of the validation pictures; None without any.

    Args:
        channels: from features (P, C) to the channels (P, K) that are looked at.
        calibration: places of Broden+.
        validation: places of other pictures of Broden+.
        named: each channel bears the name of a concept.
    """
    if not len(calibration) or not len(validation):
        return None
    halves = [(_as_maps(channels(p.features)), _as_maps(p.centres)) for p in (calibration, validation)]
    limits = thresholds_of(halves[0][0], SHARES)
    chosen, scored = (Overlap(len(limits), targets.shape[1], limits) for _, targets in halves)
    for overlap, (activations, targets) in zip((chosen, scored), halves, strict=True):
        overlap.update(activations, targets)
    return {**_found(chosen, scored, named=named), "on": ON_BRODEN, "pictures": validation.pictures}


def _as_maps(values: Tensor) -> Tensor:
    """(P, K) to (1, K, P, 1)."""
    return values.T[None, :, :, None]


def _found(chosen: Overlap, scored: Overlap, *, named: bool) -> dict[str, Any]:
    best = chosen.best()
    iou = scored.matched(best)
    _, share = inspectability_curve(iou)
    return {
        "auic": auic(iou),
        "iou": [round(v, 4) for v in iou.tolist()],
        "own": scored.score(best).diagonal().tolist() if named else [],
        "concept": best.concept.tolist(),
        "always on": scored.always_on().tolist(),
        "curve": share.tolist(),
    }
