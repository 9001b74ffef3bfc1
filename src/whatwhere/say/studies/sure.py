"""Confidence: is the network right here? Concepts against the usual scores, on the same pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.label_maps import IGNORE
from whatwhere.resampling import over_groups, share_over_groups
from whatwhere.say.confidence import ConfidenceModel, entropy, max_softmax, temperature
from whatwhere.say.selective import (
    Levels,
    aligned,
    at_threshold,
    aurc,
    auroc,
    brier,
    calibration_error,
    levels,
    of_counts,
    risk_coverage,
    threshold_for,
)
from whatwhere.say.studies.measure import Cells

ACCURACY = 0.99  # that is asked of the pixels answered
BITS = 12  # of the levels that the bootstrap draws from
POINTS = 101  # of the curve that is kept


def confidence(validation: Cells, test: Cells, groups: tuple[Tensor, Tensor], names: tuple[str, ...]) -> dict[str, Any]:
    """Measures of every confidence, fitted and thresholded on validation pictures, taken on test pictures.

    Half of the validation groups fit the temperature and the concepts' model, the other half sets the threshold.

    Args:
        validation: what the network says there.
        test: what it says on the test pictures.
        groups: of the validation and the test pictures.
        names: of the concepts.
    """
    _, index = groups[0].unique(return_inverse=True)
    fit, held = _some(validation, index % 2 == 0), _some(validation, index % 2 == 1)
    given, speaking = confidences(fit, names)
    found = {}
    for name, of in given.items():
        limit = threshold_for(ACCURACY, levels(*_flat(held, of)))
        found[name] = _measures(test, of, limit, groups[1])
    return {"accuracy": ACCURACY, "measures": found, "speaking": speaking}


def confidences(fit: Cells, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, list[tuple[str, float]]]]:
    """Functions from cells to confidences (N, h, w), and by predicted class what the concepts add to being right.

    A concept's weight depends on the predicted class: that a road is not flat speaks
    against it, that a car is not does not.
    """
    warmth = temperature(fit.scores, torch.where(fit.labels == IGNORE, -1, fit.labels))
    given: dict[str, Any] = {
        "max softmax": lambda c: max_softmax(c.scores.double()),
        "entropy": lambda c: entropy(c.scores.double()),
        "temperature scaling": lambda c: max_softmax(c.scores.double(), warmth),
    }
    if fit.maps is None:
        return given, {}
    labelled = fit.labels != IGNORE
    concepts, said = fit.maps.movedim(1, -1)[labelled], fit.said[labelled]
    right = said == fit.labels[labelled]
    if bool(right.all()) or not bool(right.any()):
        return given, {}
    model = ConfidenceModel.fit(concepts, said, right, classes=fit.scores.shape[1], interactions=True)
    given["concepts"] = lambda c: model(c.maps, c.said)
    both = torch.cat([concepts, _log_odds(max_softmax(fit.scores))[labelled][:, None]], 1)
    joined = ConfidenceModel.fit(both, said, right, classes=fit.scores.shape[1], interactions=True)
    given["concepts and max softmax"] = lambda c: joined(
        torch.cat([c.maps, _log_odds(max_softmax(c.scores))[:, None]], 1), c.said
    )
    return given, {str(c): model.ranked(names, c) for c in said.unique().tolist()}


def _log_odds(p: Tensor) -> Tensor:
    return torch.logit(p.double(), eps=1e-6).float()


def _some(cells: Cells, rows: Tensor) -> Cells:
    return Cells(cells.scores[rows], cells.labels[rows], None if cells.maps is None else cells.maps[rows])


def _flat(cells: Cells, of: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Confidence and correctness of the labelled cells."""
    labelled = cells.labels != IGNORE
    return of(cells)[labelled].double().numpy(), (cells.said == cells.labels)[labelled].numpy()


def _measures(test: Cells, of: Any, limit: float, groups: Tensor) -> dict[str, Any]:
    sure, right = _flat(test, of)
    seen = levels(sure, right)
    labelled = test.labels != IGNORE
    group = groups.view(-1, 1, 1).expand_as(test.labels)[labelled].numpy()
    ranked = _ranks(sure)  # all that the AUROC depends on; raw confidences crowd on few levels
    parts = [levels(ranked[group == g], right[group == g], BITS) for g in np.unique(group)]
    answered = at_threshold(limit, seen)
    return {
        "auroc": _auroc_interval(seen, parts),
        "aurc": aurc(seen),
        "brier": brier(seen),
        "ece": calibration_error(seen),
        "ece, equal mass": calibration_error(seen, equal_mass=True),
        "threshold": limit if math.isfinite(limit) else None,
        "coverage": answered.coverage,
        "accuracy": answered.accuracy if answered.pixels else None,
        **_answered_intervals(sure, right, group, limit),
        "curve": _thinned(seen),
    }


def _ranks(sure: NDArray[Any]) -> NDArray[np.float64]:
    """Mean ranks as shares of all, in (0, 1); ties stay ties."""
    _, at, counts = np.unique(sure, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - counts / 2)[at] / len(sure)
    return ranks


def _auroc_interval(seen: Levels, parts: list[Levels]) -> list[float]:
    if math.isnan(auroc(seen)):  # all are right, or all wrong
        return [math.nan] * 3
    values, counts = aligned(parts)
    drawn = over_groups(counts, lambda total: auroc(of_counts(values, total.astype(np.int64))), low=0.0)
    return [auroc(seen), drawn.low, drawn.high]


def _answered_intervals(
    sure: NDArray[Any], right: NDArray[np.bool_], group: NDArray[Any], limit: float
) -> Mapping[str, Any]:
    """Intervals over groups of the coverage and of the accuracy of what is answered, at this threshold."""
    on = sure >= limit
    ids = np.unique(group)
    counts = np.array([[np.sum(group == g), np.sum(on & (group == g)), np.sum(on & right & (group == g))] for g in ids])
    answering = counts[counts[:, 1] > 0]
    return {
        "coverage interval": list(share_over_groups(counts[:, 1], counts[:, 0])),
        "accuracy interval": list(share_over_groups(answering[:, 2], answering[:, 1])) if len(answering) else None,
    }


def _thinned(seen: Levels) -> list[list[float]]:
    """The risk-coverage curve at evenly spaced coverages."""
    curve = risk_coverage(seen)
    at = np.searchsorted(curve.coverage, np.linspace(0.01, 1, POINTS)).clip(max=len(curve.coverage) - 1)
    return [[round(float(curve.coverage[i]), 5), round(float(curve.risk[i]), 6)] for i in at]
