"""Measures of selective prediction against loops over pixels and scikit-learn."""

import math
from fractions import Fraction
from functools import reduce
from operator import add

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from whatwhere.errors import InputError
from whatwhere.say.selective import (
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


def drawn(n: int = 300, steps: int | None = 20, seed: int = 0):
    """Confidences, with ties where they are rounded to steps, and whether pixels are right."""
    rng = np.random.default_rng(seed)
    c = rng.random(n)
    right = rng.random(n) < c**0.5
    return (np.round(c * steps) / steps if steps else c), right


@pytest.mark.parametrize("steps", [20, None])
def test_the_curve_is_counted_threshold_by_threshold(steps):
    c, right = drawn(steps=steps)
    curve = risk_coverage(levels(c, right))
    assert curve.threshold.tolist() == sorted(set(c.tolist()), reverse=True)
    for t, coverage, risk in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
        answered = [r for v, r in zip(c, right, strict=True) if v >= t]
        assert coverage == pytest.approx(len(answered) / len(c))
        assert risk == pytest.approx(1 - sum(answered) / len(answered))


@pytest.mark.parametrize("steps", [20, None])
def test_aurc_is_the_mean_risk_at_entry(steps):
    c, right = drawn(steps=steps)
    risks = [1 - np.mean(right[c >= v]) for v in c]
    assert aurc(levels(c, right)) == pytest.approx(np.mean(risks))
    assert aurc(levels(np.zeros(300), right)) == pytest.approx(1 - right.mean())  # all tie: nothing is selected


@pytest.mark.parametrize("steps", [3, 20, None])
def test_auroc_is_scikit_learns(steps):
    c, right = drawn(steps=steps)
    assert auroc(levels(c, right)) == pytest.approx(roc_auc_score(right, c), abs=1e-12)
    assert auroc(levels(-c, right)) == pytest.approx(1 - roc_auc_score(right, c), abs=1e-12)
    assert math.isnan(auroc(levels(c, np.ones(300))))


def test_brier_is_scikit_learns():
    c, right = drawn()
    assert brier(levels(c, right)) == pytest.approx(brier_score_loss(right, c))


def slow_ece(c, right, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        held = [i for i in range(len(c)) if b / bins < c[i] <= (b + 1) / bins or (b == 0 and c[i] == 0)]
        if held:
            total += len(held) / len(c) * abs(np.mean(right[held]) - np.mean(c[held]))
    return total


@pytest.mark.parametrize(("steps", "bins"), [(None, 15), (16, 8), (None, 4)])
def test_ece_of_equal_width_is_a_loop(steps, bins):
    c, right = drawn(steps=steps)
    c[:2] = 0, 1
    assert calibration_error(levels(c, right), bins) == pytest.approx(slow_ece(c, right, bins))


def test_ece_of_equal_mass_is_a_loop():
    c, right = drawn(steps=None)
    chunks = np.argsort(c).reshape(10, 30)
    slow = np.mean([abs(right[i].mean() - c[i].mean()) for i in chunks])
    assert calibration_error(levels(c, right), 10, equal_mass=True) == pytest.approx(slow)
    tied = levels(np.full(10, 0.7), [1] * 6 + [0] * 4)
    assert calibration_error(tied, 5, equal_mass=True) == pytest.approx(0.1)  # one bin: ties are not split


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.9, 0.99])
def test_the_threshold_is_the_lowest_that_reaches_the_accuracy(accuracy):
    c, right = drawn(1000, 50, seed=3)
    reached = [t for t in set(c.tolist()) if right[c >= t].mean() >= accuracy]
    seen = levels(c, right)
    assert threshold_for(accuracy, seen) == (min(reached) if reached else math.inf)
    if reached:
        coverage = at_threshold(threshold_for(accuracy, seen), seen).coverage
        assert coverage == pytest.approx(max(np.mean(c >= t) for t in reached))


def test_an_accuracy_met_exactly_is_met():
    seen = levels(np.linspace(1, 0.5, 100), [1] * 99 + [0])
    assert at_threshold(threshold_for(0.99, seen), seen).coverage == 1.0


def test_a_threshold_is_applied_to_other_pixels():
    c, right = drawn(seed=5)
    seen = at_threshold(0.4, levels(c, right))
    assert seen.coverage == np.mean(c >= 0.4)
    assert seen.accuracy == right[c >= 0.4].mean()
    assert (seen.pixels, seen.threshold) == (np.sum(c >= 0.4), 0.4)
    nothing = at_threshold(threshold_for(0.9, levels(c, np.zeros(300))), levels(c, right))
    assert (nothing.coverage, nothing.pixels) == (0.0, 0)
    assert math.isnan(nothing.accuracy)


def test_a_stream_adds_up_to_the_whole():
    c, right = drawn(seed=2)
    whole = levels(c, right)
    parts = [levels(c[i : i + 70], right[i : i + 70]) for i in range(0, 300, 70)]
    values, counts = aligned(parts)
    for seen in (reduce(add, parts), of_counts(values, counts.sum(0))):
        for name in ("confidence", "pixels", "correct"):
            np.testing.assert_array_equal(getattr(seen, name), getattr(whole, name))
    for part, row in zip(parts, counts, strict=True):
        assert auroc(of_counts(values, row)) == auroc(part)
    assert whole.accuracy == right.mean()


def test_rounding_keeps_thresholds_and_bounds_the_rest():
    c, right = drawn(5000, None, seed=4)
    exact, coarse = levels(c, right), levels(c.astype(np.float64), right, bits=5)
    curve, at = risk_coverage(exact), risk_coverage(coarse)
    for t, coverage, risk in zip(at.threshold, at.coverage, at.risk, strict=True):
        last = np.flatnonzero(curve.threshold >= t)[-1]
        assert (coverage, risk) == (curve.coverage[last], pytest.approx(curve.risk[last], abs=1e-12))
    assert at_threshold(threshold_for(0.8, coarse), exact).accuracy >= 0.8
    wrong = coarse.pixels - coarse.correct
    shared = np.sum(coarse.correct * wrong) / (coarse.correct.sum() * wrong.sum())
    assert 0 < abs(auroc(coarse) - auroc(exact)) <= shared / 2
    assert 0 < abs(brier(coarse) - brier(exact)) <= 2 * 2**-5
    finer = levels(c, right, bits=16)
    assert calibration_error(finer) == pytest.approx(calibration_error(exact), abs=2**-16)  # no pixel changes bins here


def test_ends_of_the_range_keep_their_levels():
    seen = levels([0.0, 1.0, 1.0, 1 - 2**-24], [0, 1, 0, 1], bits=4)
    assert seen.confidence.tolist() == [1.0, 15 / 16, 0.0]
    assert (seen.pixels.tolist(), seen.correct.tolist()) == ([2, 1, 1], [1, 1, 0])


def test_wrong_inputs_are_refused():
    with pytest.raises(InputError, match="as many"):
        levels([0.5], [1, 0])
    with pytest.raises(InputError, match="at least one"):
        levels([], [])
    with pytest.raises(InputError, match="not finite"):
        levels([math.nan], [1])
    with pytest.raises(InputError, match="bits=25"):
        levels([0.5], [1], bits=25)
    with pytest.raises(InputError, match="from 0 to 1"):
        levels([-0.5], [1], bits=3)
    for measure in (brier, calibration_error):
        with pytest.raises(InputError, match="probabilities"):
            measure(levels([1.5, 0.2], [1, 0]))


def test_counts_beyond_single_precision_are_exact():
    """More pixels than 2**24, after which float32 no longer counts, and more pairs than 2**53."""
    g = np.random.default_rng(0)
    c = np.linspace(1, 0.1, 40)
    pixels = g.integers(2**24, 2**27, 40)
    correct = (pixels * c).astype(np.int64) + 1
    seen = of_counts(c, np.stack([pixels, correct], 1))
    n, right = int(pixels.sum()), int(correct.sum())
    wrong = [int(p - r) for p, r in zip(pixels, correct, strict=True)]
    pairs = sum(
        Fraction(int(r)) * (sum(wrong[i + 1 :]) + Fraction(wrong[i], 2)) for i, r in enumerate(correct.tolist())
    )
    assert auroc(seen) == pytest.approx(float(pairs / (right * sum(wrong))), rel=1e-13)
    risk = [1 - Fraction(int(correct[: i + 1].sum()), int(pixels[: i + 1].sum())) for i in range(40)]
    assert aurc(seen) == pytest.approx(float(sum(r * int(p) for r, p in zip(risk, pixels, strict=True)) / n), rel=1e-13)
    assert seen.accuracy == float(Fraction(right, n))
    assert (seen + seen).pixels.sum() == 2 * n
    one_more = of_counts(np.array([0.5]), np.array([[2**24 + 1, 2**24]]))
    assert one_more.accuracy == 2**24 / (2**24 + 1) < 1
