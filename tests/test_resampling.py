import math

import numpy as np
import pytest

from whatwhere.errors import InputError
from whatwhere.resampling import Resampled, over_groups


def share(total: np.ndarray) -> float:
    return float(total[0] / total[1])


def groups(rng: np.random.Generator, n: int = 40) -> np.ndarray:
    """Right pixels and pixels; all pixels of a group share their chance of being right, 0.7 on average."""
    pixels = rng.integers(50, 150, n)
    return np.stack([rng.binomial(pixels, rng.beta(7, 3, n)), pixels], 1)


def test_a_draw_is_a_sum_over_drawn_groups():
    counts = np.arange(24.0).reshape(4, 3, 2) ** 2
    seen = []
    over_groups(counts, lambda total: seen.append(total) or 0.0, draws=100, seed=3)
    times = np.random.default_rng(3).multinomial(4, [0.25] * 4, size=100)
    for total, row in zip(seen, times, strict=False):
        np.testing.assert_allclose(total, sum(k * c for k, c in zip(row, counts, strict=True)))
    assert len(seen) == 101  # and once of all groups


def test_the_interval_is_the_percentiles_of_a_slow_bootstrap():
    counts = groups(np.random.default_rng(0))
    fast = over_groups(counts, share, draws=4000)
    rng = np.random.default_rng(9)
    slow = [share(counts[rng.integers(0, 40, 40)].sum(0)) for _ in range(4000)]
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.004)
    assert fast.value == share(counts.sum(0))
    assert (fast.groups, fast.draws, fast.undefined) == (40, 4000, 0)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = wrongly = 0
    for seed in range(300):
        counts = groups(rng)
        seen = over_groups(counts, share, draws=300, seed=seed)
        held += seen.low <= 0.7 <= seen.high
        half = 1.96 * math.sqrt(seen.value * (1 - seen.value) / counts[:, 1].sum())
        wrongly += abs(seen.value - 0.7) <= half
    assert 0.89 <= held / 300 <= 0.98  # two standard errors are 0.025; 40 groups cost two points
    assert wrongly / 300 < 0.7  # what comes of taking dependent pixels for independent


def test_the_seed_decides():
    counts = groups(np.random.default_rng(0))
    assert over_groups(counts, share, draws=50, seed=1) == over_groups(counts, share, draws=50, seed=1)
    assert over_groups(counts, share, draws=50, seed=1) != over_groups(counts, share, draws=50, seed=2)


def test_equal_groups_leave_no_doubt():
    assert over_groups(np.array([[3, 4]] * 5), share, draws=70) == Resampled(0.75, 0.75, 0.75, 5, 70)


def test_draws_without_a_value_are_counted():
    counts = np.array([[0, 0], [1, 2], [1, 3]])
    seen = over_groups(counts, lambda t: share(t) if t[1] else math.nan, draws=500)
    assert seen.undefined == pytest.approx(500 / 27, abs=15)  # all three draws hit the empty group
    assert seen.draws + seen.undefined == 500
    assert 1 / 3 <= seen.low <= seen.high <= 1 / 2


def test_what_has_no_spread_is_refused():
    with pytest.raises(InputError, match="1 groups"):
        over_groups(np.ones((1, 2)), share)
    with pytest.raises(InputError, match="not defined"):
        over_groups(np.ones((3, 2)), lambda _: math.nan)
