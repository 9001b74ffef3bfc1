import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from whatwhere.intervals import Batch, Estimate, noise_of, over_pictures, over_scores, over_seeds, wilson
from whatwhere.lab.rows import difference

Z = 1.959963984540054
Draws = list[NDArray[np.bool_]]  # for each batch, (draws, pictures)


def estimate(batches: Draws, intact: float | NDArray[np.float64] | None = None) -> Estimate:
    rates = np.concatenate([b.mean(0) for b in batches])
    repeats = np.concatenate([np.full(b.shape[1], len(b)) for b in batches])
    totals = [Batch(b.shape[1], tuple(int(t) for t in b.sum(1))) for b in batches]
    return over_pictures(None if intact is None else intact - rates, rates, repeats, totals)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (707, 1000), (1, 1)])
def test_wilson(right: int, n: int) -> None:
    low, high = wilson(right, n)
    by_scipy = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-12)
    for bound in (low, high):  # where the score test just rejects: (p - bound)^2 = z^2 bound (1 - bound) / n
        assert (right / n - bound) ** 2 == pytest.approx(Z**2 * bound * (1 - bound) / n, abs=1e-12)
    assert 0 <= low < high <= 1


def test_over_seeds_is_students_interval() -> None:
    values = [0.71, 0.705, 0.72, 0.699]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = over_seeds(values, 1000)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.spread == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.repeats) == (1000, 4)
    assert found.half_width == pytest.approx((high - low) / 2)


def test_over_seeds_of_one_is_refused_and_of_equal_ones_a_point() -> None:
    with pytest.raises(ValueError, match="1 seeds have no spread"):
        over_seeds([0.7], 10)
    assert over_seeds([0.7, 0.7], 10) == Estimate(0.7, 0.7, 0.7, 0.0, 10, 2)


def test_no_interval_leaves_what_is_possible() -> None:
    assert over_seeds([0.5, 0.99], 10).high == 1.0
    assert over_seeds([-0.9, 0.5], 10).low == -1.0
    few = np.array([[True, False]])
    assert (estimate([few]).low, estimate([few]).high) == (0.0, 1.0)
    assert estimate([few], np.ones(2)).low < 0.0  # a difference may be negative


def test_parts_of_the_variance_by_hand() -> None:
    """Two batches of 3 and 2 pictures, two and three draws."""
    a = np.array([[1, 1, 0], [1, 0, 0]], bool)
    b = np.array([[1, 0], [1, 1], [0, 0]], bool)
    rates = np.array([1, 0.5, 0, 2 / 3, 1 / 3])
    harmonic = 5 / (3 / 2 + 2 / 3)
    within = (0 + 0.25 + 0 + 2 / 9 + 2 / 9) / 5 * harmonic / (harmonic - 1)
    of_a = np.var([2 / 3, 1 / 3], ddof=1) * (3 / 5) ** 2
    of_b = np.var([1 / 2, 1, 0], ddof=1) * (2 / 5) ** 2
    noise = noise_of(rates, rates, harmonic, [Batch(3, (2, 1)), Batch(2, (1, 2, 0))])
    assert noise.draws == pytest.approx(within)
    assert noise.shared == pytest.approx(of_a + of_b - within / 5)
    assert noise.pictures == pytest.approx(max(np.var(rates, ddof=1), Z**2 / 5) - within / harmonic)
    assert noise.freedom == pytest.approx((of_a + of_b) ** 2 / (of_a**2 / 1 + of_b**2 / 2))
    once = (within / 5 + noise.shared) / 4  # four draws
    of_pictures = noise.pictures / 5
    freedom = (of_pictures + once) ** 2 / (of_pictures**2 / 4 + once**2 / noise.freedom)
    assert noise.half_width(4) == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(of_pictures + once))
    found = estimate([a, b])
    assert found.mean == pytest.approx(rates.mean())
    # The accuracy of the two draws that all pictures had: (2 + 1) / 5 and (1 + 2) / 5.
    assert found.spread == pytest.approx(np.std([3 / 5, 3 / 5], ddof=1))


def test_without_draws_it_is_the_interval_of_a_mean() -> None:
    right = np.random.default_rng(0).random((1, 400)) < 0.7
    found = estimate([right])
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 399) * stats.sem(right[0].astype(float)))
    assert found.spread == 0.0


def test_many_draws_leave_only_the_pictures() -> None:
    rng = np.random.default_rng(1)
    rates = rng.random(300)
    runs = rng.random((200, 300)) < rates
    batch = [Batch(300, tuple(int(t) for t in runs.sum(1)))]
    noise = noise_of(runs.mean(0), runs.mean(0), 200, batch)
    assert noise.pictures == pytest.approx(np.var(rates, ddof=1), rel=0.05)
    assert noise.draws == pytest.approx(np.mean(rates * (1 - rates)), rel=0.05)
    widths = [noise.half_width(r) for r in (1, 2, 5, 50, 1e9)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(stats.t.ppf(0.975, 299) * math.sqrt(noise.pictures / 300), rel=1e-6)


def test_the_parts_are_unbiased_for_unequal_draws() -> None:
    """Half of the pictures have 2 draws, half have 8; the true parts are known."""
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        p = rng.beta(2, 1, 200)  # mean 2/3, variance 1/18, E p(1-p) = 1/6
        rates = np.concatenate([rng.binomial(r, p[half]) / r for r, half in ((2, slice(100)), (8, slice(100, 200)))])
        noise = noise_of(rates, rates, 3.2, [])  # the harmonic mean of 2 and 8
        found.append((noise.pictures, noise.draws))
    assert np.mean(found, 0) == pytest.approx((1 / 18, 1 / 6), rel=0.03)


def simulated(
    sizes: list[int], draws: list[int], pictures: float, shared: float, rng: np.random.Generator
) -> tuple[Draws, float]:
    """Pictures of several difficulties under draws that move whole batches; and the true accuracy."""
    data: Draws = []
    for n, repeats in zip(sizes, draws, strict=True):
        latent = 0.4 + pictures * rng.normal(size=n) + shared * rng.normal(size=(repeats, 1))
        data.append(latent + rng.normal(size=(repeats, n)) > 0)
    return data, float(stats.norm.cdf(0.4 / math.sqrt(1 + pictures**2 + shared**2)))


def coverage(make: Callable[[np.random.Generator], tuple[Draws, float]], times: int = 1000) -> float:
    rng = np.random.default_rng(3)
    found = [(estimate(data), truth) for data, truth in (make(rng) for _ in range(times))]
    return float(np.mean([e.low <= truth <= e.high for e, truth in found]))


@pytest.mark.parametrize(
    ("sizes", "draws", "pictures", "shared"),
    [
        ([256], [1], 1.0, 0.0),
        ([32] * 8, [10] * 8, 1.0, 0.0),
        ([32] * 8, [3] * 8, 0.7, 0.0),
        ([32] * 8, [10] * 8, 1.0, 0.3),
        ([32] * 8, [10] * 8, 0.5, 1.0),
        ([128, 128, 44], [3] * 3, 1.0, 0.3),
        ([128, 16], [10] * 2, 0.5, 1.0),
        ([256], [10], 1.0, 0.3),
        ([32] * 16, [10] * 2 + [3] * 14, 1.0, 0.3),
        ([32] * 16, [10] * 2 + [3] * 14, 0.5, 1.0),
    ],
)
def test_the_interval_covers_the_truth_95_times_in_100(
    sizes: list[int], draws: list[int], pictures: float, shared: float
) -> None:
    assert 0.93 <= coverage(lambda rng: simulated(sizes, draws, pictures, shared, rng)) <= 0.97


def test_the_paired_interval_covers_the_truth() -> None:
    """Intact minus shuffled on the same pictures: much narrower than two intervals side by side."""
    rng, hits, widths = np.random.default_rng(4), 0, []
    for _ in range(800):
        difficulty = rng.normal(size=300)
        intact = (0.5 + difficulty > 0).astype(float)
        runs = [0.2 + difficulty[i : i + 100] + 0.3 * rng.normal(size=(5, 100)) > 0 for i in (0, 100, 200)]
        truth = stats.norm.cdf(0.5) - stats.norm.cdf(0.2 / math.sqrt(1.09))
        found = estimate(runs, intact)
        hits += found.low <= truth <= found.high
        widths.append((found.half_width, estimate(runs).half_width))
    assert 0.93 <= hits / 800 <= 0.97
    assert np.mean(widths, 0)[0] < 0.8 * np.mean(widths, 0)[1]


@pytest.mark.parametrize("lost", [0.3, 1, 2, 3, 5])
def test_few_differences_are_covered_too(lost: float) -> None:
    """Of 200 pictures, so many are lost on average: the sample variance alone would cover 26 to 91 in 100."""
    rng = np.random.default_rng(5)
    found = [estimate([rng.random((1, 200)) >= lost / 200], np.ones(200)) for _ in range(400)]
    assert np.mean([e.low <= lost / 200 <= e.high for e in found]) >= 0.93


@pytest.mark.parametrize("n", [2, 50, 1000])
@pytest.mark.parametrize("right", [True, False])
def test_all_alike_is_as_wide_as_wilson(n: int, right: bool) -> None:
    found = estimate([np.full((3, n), right)])
    low, high = wilson(n * right, n)
    assert found.mean == float(right)
    assert 0 <= found.low < found.high <= 1
    if n >= 50:
        assert found.high - found.low == pytest.approx(high - low, rel=0.12)


@pytest.mark.parametrize("runs", [[[True]], [[True], [False]], [[False], [False], [False]]])
def test_one_picture_is_finite_and_says_nothing(runs: list[list[bool]]) -> None:
    found = estimate([np.array(runs)])
    assert (found.low, found.high) == (0.0, 1.0)
    json.dumps(asdict(found), allow_nan=False)


def test_batches_of_one_picture_and_no_batches() -> None:
    runs = np.random.default_rng(6).random((4, 60)) < 0.5
    split = estimate([runs[:, i : i + 1] for i in range(60)])
    whole = estimate([runs])
    assert split.mean == whole.mean
    assert 0 < split.half_width < whole.half_width  # four totals of one batch tell less than 60 times four
    rates = runs.mean(0)
    assert over_pictures(None, rates, np.full(60, 4), []).spread == 0.0


def test_scores_have_students_interval():
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.2])
    low, high = stats.t.interval(0.95, 4, loc=scores.mean(), scale=stats.sem(scores))
    seen = over_scores(scores)
    assert (seen.mean, seen.low, seen.high) == pytest.approx((scores.mean(), low, high))
    assert over_scores(np.array([0.99, 1.0, 0.5])).high == 1.0
    alone = over_scores(np.array([0.3]))
    assert (alone.low, alone.high, alone.n) == (0.3, 0.3, 1)


def test_a_single_difference_of_nothing_reaches_to_both_sides():
    e = difference([0], [0], 100)
    assert e.mean == 0
    assert -e.low == e.high > 0.03


def test_equal_counts_are_not_equal_accuracies():
    """Two seeds whose counts happen to agree: the interval is as wide as rounding to a picture hides."""
    e = difference([5, 7], [2, 4], 450)
    assert e.spread == 0
    assert e.half_width == pytest.approx(12.7062 / 450 / math.sqrt(12) / math.sqrt(2), rel=1e-4)
    far = difference([5, 50], [2, 4], 450)
    assert far.half_width == pytest.approx(12.7062 * far.spread / math.sqrt(2), rel=1e-4)
