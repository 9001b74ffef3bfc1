import math

import numpy as np
import pytest
from scipy import stats

from whatwhere.errors import InputError
from whatwhere.intervals import binomial
from whatwhere.resampling import Resampled, over_groups, share_over_groups

QUANTILES = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)


def share(total: np.ndarray) -> float:
    return float(total[0] / total[1])


def groups(rng: np.random.Generator, n: int = 40) -> np.ndarray:
    """Right pixels and pixels; all pixels of a group share their chance of being right, 0.7 on average."""
    pixels = rng.integers(50, 150, n)
    return np.stack([rng.binomial(pixels, rng.beta(7, 3, n)), pixels], 1)


def test_the_statistic_sees_sums_without_a_group():
    counts = np.arange(24.0).reshape(4, 3, 2) ** 2
    seen = []
    over_groups(counts, lambda total: seen.append(total) or 0.0)
    np.testing.assert_allclose(seen[0], counts.sum(0))
    for i, total in enumerate(seen[1:]):
        np.testing.assert_allclose(total, sum(c for j, c in enumerate(counts) if j != i))
    assert len(seen) == 5


def test_the_interval_is_a_slow_jackknifes():
    counts = groups(np.random.default_rng(0), 7)
    found = over_groups(counts, share, low=0.0)
    whole = counts[:, 0].sum() / counts[:, 1].sum()
    without = [np.delete(counts, i, 0).sum(0) for i in range(7)]
    pseudo = [7 * whole - 6 * a / b for a, b in without]
    half = stats.t.ppf(0.975, 6) * stats.sem(pseudo)
    corrected = np.mean(pseudo)
    assert found.value == whole
    assert found.low == pytest.approx(min(whole, corrected) - half)
    assert found.high == pytest.approx(max(whole, corrected) + half)
    assert (found.groups, found.undefined, found.covers) == (7, 0, "groups of test pictures")


@pytest.mark.parametrize("n", [5, 10, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says(n):
    """The bootstrap's percentiles do so 82 times in 100 for 5 groups, 88 times for 10."""
    rng = np.random.default_rng(1)
    held = wrongly = 0
    for _ in range(600):
        counts = groups(rng, n)
        seen = over_groups(counts, share, low=0.0)
        held += seen.low <= 0.7 <= seen.high
        half = 1.96 * math.sqrt(seen.value * (1 - seen.value) / counts[:, 1].sum())
        wrongly += abs(seen.value - 0.7) <= half
    assert 0.91 <= held / 600 <= 0.98  # 93, and two standard errors
    assert wrongly / 600 < 0.7  # what comes of taking dependent pixels for independent


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_several_networks_on_the_same_groups(noise):
    rng, held, alone = np.random.default_rng(2), 0, 0
    for _ in range(400):
        pixels = np.full((3, 8), 200)
        p = 1 / (1 + np.exp(-(1 + 0.4 * rng.normal(size=8) + 0.3 * noise * rng.normal(size=(3, 1)))))
        counts = np.stack([rng.binomial(pixels, p), pixels], 2)
        truth = np.mean(1 / (1 + np.exp(-(1 + math.hypot(0.4, 0.3 * noise) * QUANTILES))))
        seen, mean = over_groups(counts, share, low=0.0, networks=True), over_groups(counts.mean(0), share, low=0.0)
        assert seen.value == mean.value
        held += seen.low <= truth <= seen.high
        alone += mean.low <= truth <= mean.high
    assert held / 400 >= 0.925
    assert seen.covers == "seeds and groups of test pictures"
    if noise:
        assert alone / 400 < 0.9  # over groups alone the noise of networks is left out


def test_one_network_is_no_other_than_its_groups():
    counts = groups(np.random.default_rng(3), 6)
    assert over_groups(counts[None], share, networks=True) == over_groups(counts, share)


def test_equal_groups_leave_no_doubt():
    assert over_groups(np.array([[3, 4]] * 5), share) == Resampled(0.75, 0.75, 0.75, 5)


def test_what_hangs_on_one_group_is_not_known():
    """Without its first group this share is not defined: nothing is known of other groups."""
    counts = np.array([[1, 2], [0, 0], [0, 0]])
    seen = over_groups(counts, lambda t: share(t) if t[1] else math.nan, low=0.0)
    assert (seen.value, seen.low, seen.high, seen.undefined) == (0.5, 0.0, 1.0, 1)


def test_an_interval_ends_where_the_statistic_does():
    seen = over_groups(np.array([[9, 10], [10, 10], [8, 10]]), share, low=0.0, high=1.0)
    assert seen.high == 1.0


def test_what_has_no_spread_is_refused():
    with pytest.raises(InputError, match="1 groups"):
        over_groups(np.ones((1, 2)), share)
    with pytest.raises(InputError, match="not defined"):
        over_groups(np.ones((3, 2)), lambda _: math.nan)


def test_a_share_of_nothing_or_all_is_not_sure():
    """In none of four groups is a pixel answered, which is no proof that none ever is."""
    none, every = np.zeros(4, int), np.array([10, 20, 30, 40])
    assert share_over_groups(none, every) == binomial(0, 4)
    assert share_over_groups(every, every) == binomial(4, 4)
    assert share_over_groups(np.array([3]), np.array([9])) == (0.0, 1.0)
    alike = np.array([5, 10, 15, 20])  # groups that do not differ are as good as their pixels
    assert share_over_groups(alike, every) == pytest.approx(binomial(50, 100))


def test_a_share_has_the_exact_interval_of_as_many_pixels_as_its_variance_tells():
    some, of = np.array([5, 11, 14, 29]), np.array([10, 20, 30, 40])
    whole = 59 / 100
    pseudo = [4 * whole - 3 * (59 - a) / (100 - b) for a, b in zip(some, of, strict=True)]
    alike = whole * (1 - whole) / stats.sem(pseudo) ** 2 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 3)) ** 2
    low = stats.beta.ppf(0.025, whole * alike, (1 - whole) * alike + 1)
    high = stats.beta.ppf(0.975, whole * alike + 1, (1 - whole) * alike)
    assert share_over_groups(some, of) == pytest.approx((low, high))


@pytest.mark.parametrize(("mean", "n"), [(0.6, 5), (0.95, 10), (0.05, 10)])
def test_a_share_near_its_end_is_held_too(mean, n):
    """Of ten groups, Student's interval holds a share of 5 % only 86 times in 100."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(500):
        of = rng.integers(500, 1500, n)
        low, high = share_over_groups(rng.binomial(of, rng.beta(10 * mean, 10 * (1 - mean), n)), of)
        held += low <= mean <= high
    assert held / 500 >= 0.9
