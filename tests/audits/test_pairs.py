"""Differences of two networks: against slow derivations, published numbers, and what is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.audits.pairs import ITSELF, Side, of_itself, paired, paired_scores, paired_sets, side_of, unpaired
from whatwhere.bootstrap import times_drawn
from whatwhere.intervals import Estimate
from whatwhere.need.studies.set_tally import SetTally
from whatwhere.need.studies.tally import Tally
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.label_maps import miou

N, BATCH = 90, 30
BOUNDS = (-1.0, 1.0)


def runs(seed: int, draws: int, ability: float = 0.6) -> torch.Tensor:
    """(draws, N) right or wrong: pictures differ, and so do draws as a whole."""
    g = np.random.default_rng(seed)
    easy = np.random.default_rng(0).normal(size=N)  # the same pictures are easy for every network
    shift = np.repeat(g.normal(scale=0.5, size=(draws, N // BATCH)), BATCH, axis=1)
    return torch.from_numpy(easy + shift + g.normal(scale=0.3, size=(draws, N)) < ability)


def tally(right: torch.Tensor) -> Tally:
    return Tally.join([Tally.of(part) for part in right.split(BATCH, dim=1)])


A, B = runs(1, 3), runs(2, 3, 0.2)
INTACT = runs(3, 1, 1.5)
ALL = np.arange(N)


def half_by_loops(a, b):
    """Of the mean difference of losses of two networks with the same intact one, picture by picture and draw by draw."""
    draws, n = len(a), a.shape[1]
    apart = [sum(int(a[d, i]) - int(b[d, i]) for d in range(draws)) / draws for i in range(n)]
    mean = sum(apart) / n
    pictures = sum((x - mean) ** 2 for x in apart) / (n - 1) / n
    own = over = 0.0
    parts = []
    for right in (a, b):
        one = sum(np.var([int(right[d, i]) for d in range(draws)], ddof=1) for i in range(n)) / n
        batches = [[int(right[d, s : s + BATCH].sum()) for d in range(draws)] for s in range(0, n, BATCH)]
        seen = [np.var([t / n for t in totals], ddof=1) for totals in batches]
        free = sum(seen) ** 2 / sum(v**2 / (draws - 1) for v in seen)
        own += one / n / draws
        parts.append((sum(seen) / draws, free))
    over = sum(v for v, _ in parts)
    freedom = over**2 / sum(v**2 / f for v, f in parts)
    total = max(pictures - own, 0.0) + max(over, own)
    share = min(1.0, over / total)
    many, few = stats.t.ppf(0.975, n - 1) ** 2, stats.t.ppf(0.975, freedom) ** 2
    return mean, math.sqrt(max((many + (few - many) * share**2) * total, few * over))


def test_the_paired_interval_is_that_of_a_slow_derivation():
    intact = tally(INTACT)
    found = paired(side_of(tally(A), ALL, intact), side_of(tally(B), ALL, intact), BOUNDS, counted=True).difference
    mean, half = half_by_loops(A, B)
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert (found.n, found.covers) == (N, "test pictures and draws")


@pytest.mark.parametrize("groups", [None, np.arange(N) // 3])
def test_of_all_pictures_each_networks_own_interval_is_the_studys(groups):
    intact = tally(INTACT)
    sides = (side_of(tally(A), ALL, intact), side_of(tally(B), ALL, intact))
    found = paired(*sides, ACCURACY.losses, counted=True, groups=groups)
    for one, right in ((found.first, A), (found.second, B)):
        whole = tally(right).loss(intact, ACCURACY, groups)
        assert (one.mean, one.low, one.high) == pytest.approx((whole.mean, whole.low, whole.high))
        assert one.covers == whole.covers


def test_it_is_narrower_than_the_unpaired_one():
    a, b = tally(runs(1, 1)), tally(runs(2, 1))
    together = paired(side_of(a, ALL), side_of(b, ALL), (0.0, 1.0), counted=True).difference
    alone = unpaired(a.estimate(ACCURACY), b.estimate(ACCURACY))
    assert together.mean == pytest.approx(alone.mean)
    assert together.half_width < 0.8 * alone.half_width


def test_on_some_pictures_only_these_count():
    rows = np.arange(0, N, 2)
    found = paired(side_of(tally(A), rows), side_of(tally(B), rows), (0.0, 1.0), counted=True)
    picked = A[:, ::2].double().mean() - B[:, ::2].double().mean()
    assert found.difference.mean == pytest.approx(-float(picked))
    assert found.second.mean == pytest.approx(float(B[:, ::2].double().mean()))
    assert found.difference.n == len(rows)


def test_numbers_that_are_not_counted():
    a, b = (tally(torch.from_numpy(np.random.default_rng(s).normal(size=(2, N)))) for s in (1, 2))
    found = paired(side_of(a, ALL), side_of(b, ALL), (-math.inf, math.inf))
    assert found.difference.mean == pytest.approx(b.rates.mean() - a.rates.mean())
    whole = a.estimate(ACCURACY)
    assert found.first.mean == pytest.approx(whole.mean)
    assert found.first.high - found.first.mean < math.inf


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    g, held = np.random.default_rng(0), 0
    for _ in range(300):
        easy = g.normal(size=60)
        a, b = easy + g.normal(scale=0.5, size=60), easy + 0.4 + g.normal(scale=0.5, size=60)
        e = paired(Side(a), Side(b), (-9.0, 9.0)).difference
        held += e.low <= 0.4 <= e.high
    assert 0.92 <= held / 300 <= 0.98


def test_one_group_tells_nothing():
    found = paired(side_of(tally(A), ALL), side_of(tally(B), ALL), (0.0, 1.0), groups=np.zeros(N, dtype=int))
    assert (found.difference.low, found.difference.high) == BOUNDS


def test_two_shares_as_published():
    """Newcombe 1998, table II: 56 of 70 against 48 of 80 from Wilson's intervals, method 10."""
    found = unpaired(wilson(48, 80), wilson(56, 70))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def wilson(k: int, n: int) -> Estimate:
    ends = stats.binomtest(k, n).proportion_ci(method="wilson")
    return Estimate(k / n, ends.low, ends.high, 0.0, n, 1, "test pictures")


def test_against_itself_there_is_nothing_else_to_draw():
    side = side_of(tally(A), ALL)
    found = of_itself(paired(side, side, (0.0, 1.0), counted=True).difference)
    assert (found.mean, found.low, found.high, found.covers) == (0, 0, 0, ITSELF)
    other = Estimate(0.1, 0.0, 0.2, 0.0, 9, 1)
    assert of_itself(other) is other  # with other draws it is not the same


def test_one_number_a_picture():
    a, b = np.random.default_rng(1).uniform(-1, 1, (2, 12))
    found = paired_scores(a, b).difference
    low, high = stats.ttest_rel(b, a).confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx(((b - a).mean(), low, high))


def evidence(g, n: int, classes: int) -> list[np.ndarray]:
    """Of each picture the pixels that are right, there and said."""
    right = g.integers(20, 90, (n, classes))
    return list(
        np.hstack([right, right + g.integers(0, 60, right.shape), right + g.integers(0, 60, right.shape)]) / 1.0
    )


def test_scores_of_sets_are_taken_of_the_same_resamples():
    """Against loops that write out every resample picture by picture."""
    g, score = np.random.default_rng(0), miou(3)
    first, second = evidence(g, 8, 3), evidence(g, 8, 3)
    rows = (np.array([1, 3, 5, 7, 0]), np.array([1, 3, 5, 7, 0]))
    found = paired_sets([SetTally([first])], [SetTally([second])], rows, score).difference
    resampled = []
    for counts in times_drawn(np.arange(5)):
        chosen = [row for row, times in zip(rows[0], counts, strict=True) for _ in range(times)]
        resampled.append(np.diff([score.value([draw[i] for i in chosen]) for draw in (first, second)])[0])
    own = [score.value([draw[i] for i in rows[0]]) for draw in (first, second)]
    half = stats.t.ppf(0.975, 4) * math.sqrt(5 / 4 * np.var(resampled, ddof=1))
    assert (found.mean, found.high - found.mean) == pytest.approx((own[1] - own[0], half))
    same = paired_sets([SetTally([first])], [SetTally([first])], rows, score).difference
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_losses_of_sets_are_against_each_networks_own_intact_one():
    g, score = np.random.default_rng(0), miou(2)
    tallies = [SetTally([evidence(g, 6, 2)]) for _ in range(4)]
    found = paired_sets(tallies[:2], tallies[2:], (np.arange(6), np.arange(6)), score)
    values = [score.value(t.evidence[0]) for t in tallies]
    assert found.first.mean == pytest.approx(values[1] - values[0])
    assert found.difference.mean == pytest.approx((values[3] - values[2]) - (values[1] - values[0]))
