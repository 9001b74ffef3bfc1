"""The interval of a set's score against a bootstrap by loops, and where the exact one is known."""

import numpy as np
import pytest
from scipy import stats

from whatwhere.bootstrap import RESAMPLES, over_resamples, times_drawn

BOUNDS = (-np.inf, np.inf)


def test_whole_groups_are_drawn_as_many_as_there_are():
    groups = np.array([3, 3, 7, 9, 9, 9])
    times = times_drawn(groups, resamples=2000, seed=1)
    assert times.shape == (2000, 6)
    assert (times[:, [0, 3, 4]] == times[:, [1, 4, 5]]).all()
    assert (times[:, [0, 2, 3]].sum(1) == 3).all()
    assert times.mean(0) == pytest.approx(np.ones(6), abs=0.06)
    assert (times_drawn(groups) == times_drawn(groups)).all()


def test_a_ratio_has_the_standard_error_of_a_bootstrap_by_loops():
    """Groups of pictures with right and labelled pixels; the score is right pixels over labelled ones."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    labelled = rng.integers(5, 50, 60)
    right = (labelled * np.clip(0.6 + 0.2 * rng.normal(size=20)[groups], 0, 1)).round()
    slow = []
    for _ in range(1000):
        rows = [i for g in rng.integers(0, 20, 20) for i in range(60) if groups[i] == g]
        slow.append(right[rows].sum() / labelled[rows].sum())
    times = times_drawn(groups)
    resampled = (times @ right / (times @ labelled))[None]
    found = over_resamples(np.array([right.sum() / labelled.sum()]), resampled, groups, 60, (0.0, 1.0))
    expected = stats.t.ppf(0.975, 19) * np.std(slow) * np.sqrt(20 / 19)
    assert found.half_width == pytest.approx(expected, rel=0.1)
    assert (found.covers, found.n, found.repeats) == ("groups of test pictures", 60, 1)


def test_a_mean_of_single_pictures_has_students_interval():
    values = np.random.default_rng(1).normal(size=200)
    resampled = (times_drawn(np.arange(200)) @ values / 200)[None]
    found = over_resamples(np.array([values.mean()]), resampled, None, 200, BOUNDS)
    assert found.half_width == pytest.approx(
        stats.t.ppf(0.975, 199) * stats.sem(values), rel=4 / np.sqrt(2 * RESAMPLES)
    )


@pytest.mark.parametrize(("pictures", "draws", "own"), [(1.0, 0.0, 0.5), (0.2, 0.3, 1.0), (1.0, 0.1, 0.1)])
def test_pictures_and_draws_are_covered_together(pictures, draws, own):
    """Crossed effects of pictures, of draws on all of them, and of both: the truth is 0."""
    rng, held = np.random.default_rng(2), 0
    times = times_drawn(np.arange(40), resamples=200)
    for _ in range(300):
        shared = draws * rng.normal(size=(4, 1))
        values = pictures * rng.normal(size=40) + shared + own * rng.normal(size=(4, 40))
        found = over_resamples(values.mean(1), values @ times.T / 40, None, 40, BOUNDS)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 300 <= 1.0


def test_of_a_single_group_nothing_is_known():
    groups = np.zeros(5, int)
    found = over_resamples(np.array([0.4]), np.full((1, 10), 0.4), groups, 5, (0.0, 1.0))
    assert (found.mean, found.low, found.high) == (0.4, 0.0, 1.0)


def test_resamples_without_a_score_are_left_out():
    resampled = np.array([[0.2, np.nan, 0.4, 0.3]])
    found = over_resamples(np.array([0.3]), resampled, None, 9, (0.0, 1.0))
    same = over_resamples(np.array([0.3]), resampled[:, [0, 2, 3]], None, 9, (0.0, 1.0))
    assert found == same
