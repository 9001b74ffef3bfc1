import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from whatwhere.intervals import (
    Batch,
    Estimate,
    binomial,
    grouped_variance,
    half_width,
    noise_of,
    over_counts,
    over_networks,
    over_pictures,
    over_scores,
    over_seeds,
)
from whatwhere.lab.rows import accuracy, accuracy_of_counts, difference, difference_of_counts

Z = 1.959963984540054
Draws = list[NDArray[np.bool_]]  # for each batch, (draws, pictures)


def estimate(batches: Draws, intact: float | NDArray[np.float64] | None = None) -> Estimate:
    rates = np.concatenate([b.mean(0) for b in batches])
    repeats = np.concatenate([np.full(b.shape[1], len(b)) for b in batches])
    totals = [Batch(b.shape[1], tuple(int(t) for t in b.sum(1))) for b in batches]
    return over_pictures(None if intact is None else intact - rates, rates, repeats, totals)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (707, 1000), (1, 1)])
def test_a_share_has_the_exact_interval(right: int, n: int) -> None:
    low, high = binomial(right, n)
    by_scipy = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-12)
    if right:  # where so many or more are seen in 2.5 of 100 cases
        assert stats.binom.sf(right - 1, n, low) == pytest.approx(0.025)
    if right < n:
        assert stats.binom.cdf(right, n, high) == pytest.approx(0.025)
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("n", [5, 20, 100])
def test_a_share_near_0_is_covered_of_few_pictures_too(n: int) -> None:
    """Every possible outcome, weighed: Wilson's interval covers 83 in 100 where 0.2 are right on average."""
    found = np.array([binomial(x, n) for x in range(n + 1)])
    for p in np.geomspace(0.02 / n, 0.5, 200):
        assert stats.binom.pmf(np.arange(n + 1), n, p)[(found[:, 0] <= p) & (p <= found[:, 1])].sum() >= 0.95


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
    assert over_seeds([0.7, 0.7], 10) == Estimate(0.7, 0.7, 0.7, 0.0, 10, 2, "seeds, on these test pictures")


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
    own = within / 5 / 4  # of four draws
    drawn, of_pictures = own + noise.shared / 4, noise.pictures / 5
    total = of_pictures + max(drawn, own)
    t, many = stats.t.ppf(0.975, noise.freedom), stats.t.ppf(0.975, 4)
    squared = (many**2 + (t**2 - many**2) * (drawn / total) ** 2) * total
    assert noise.half_width(4) == pytest.approx(math.sqrt(max(squared, t**2 * drawn)))
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
        ([256], [2], 1.0, 0.0),
        ([256], [2], 1.0, 0.3),  # one batch and two draws: Welch and Satterthwaite cover 84 to 89 in 100
        ([256], [3], 1.0, 0.3),
        ([128] * 2, [2] * 2, 1.0, 0.1),
        ([128] * 3, [2] * 3, 1.0, 0.2),
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
    held = coverage(lambda rng: simulated(sizes, draws, pictures, shared, rng))
    few = 0 < sum(d - 1 for d in draws) <= 16  # degrees of freedom: where draws hardly matter, more is covered
    assert 0.93 <= held <= (0.99 if few else 0.97)


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
def test_all_alike_is_as_wide_as_the_exact_interval(n: int, right: bool) -> None:
    found = estimate([np.full((3, n), right)])
    low, high = binomial(n * right, n)
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
    nothing = np.ones((1, 100), bool)
    for e in (difference(nothing, nothing), difference_of_counts([0], [0], 100)):
        assert e.mean == 0
        assert -e.low == e.high > 0.03


def test_half_a_width_between_pictures_alone_and_repeats_alone() -> None:
    assert half_width(0.01, 0.0, 0.0, 1, 2000) == pytest.approx(stats.t.ppf(0.975, 1999) * 0.1)
    assert half_width(0.0, 0.01, 0.0, 1, 2000) == pytest.approx(stats.t.ppf(0.975, 1) * 0.1)
    assert half_width(0.01, 0.01, 0.01, 1, 2000) == pytest.approx(stats.t.ppf(0.975, 1) * 0.1)  # the same noise, once
    assert half_width(0.0, 0.0, 0.0, 1, 10) == 0.0
    # With pictures it is not narrower than without.
    assert half_width(0.0001, 0.01, 0.0, 2, 2000) >= half_width(0.0, 0.01, 0.0, 2, 2000)
    # Repeats that happen to agree do not make an interval narrower than their own noise.
    assert half_width(0.02, 0.0, 0.01, 1, 2000) == pytest.approx(stats.t.ppf(0.975, 1999) * math.sqrt(0.02))
    # Of many degrees of freedom it is Welch and Satterthwaite's.
    freedom = (0.01 + 0.02) ** 2 / (0.02**2 / 200 + 0.01**2 / 9999)
    welch = stats.t.ppf(0.975, freedom) * math.sqrt(0.03)
    assert half_width(0.01, 0.02, 0.0, 200, 10_000) == pytest.approx(welch, rel=1e-4)


def test_networks_and_pictures_by_a_slow_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 7)) + 2 * rng.normal(size=7) + np.arange(3)[:, None]
    s, n = values.shape
    mean = values.mean()
    of_networks = n * sum((values[i].mean() - mean) ** 2 for i in range(s)) / (s - 1)
    of_pictures = s * sum((values[:, j].mean() - mean) ** 2 for j in range(n)) / (n - 1)
    rest = sum(
        (values[i, j] - values[i].mean() - values[:, j].mean() + mean) ** 2 for i in range(s) for j in range(n)
    ) / ((s - 1) * (n - 1))
    assert of_pictures > rest
    assert of_networks > rest
    variance = (of_networks + of_pictures - rest) / (s * n)  # unbiased in the two-way random model
    share = of_networks / (s * n) / variance
    few, many = stats.t.ppf(0.975, s - 1), stats.t.ppf(0.975, n - 1)
    half = math.sqrt(max((many**2 + (few**2 - many**2) * share**2) * variance, few**2 * of_networks / (s * n)))
    found = over_networks(values, counted=False, low=-9, high=9)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert found.fixed == pytest.approx(stats.t.interval(0.95, 2, values.mean(1).mean(), stats.sem(values.mean(1))))
    assert (found.n, found.repeats, found.covers, found.level) == (7, 3, "seeds and test pictures", 0.95)


def networks(rng: np.random.Generator, seeds: int, n: int, spread: float) -> tuple[NDArray[np.bool_], float]:
    """Which pictures networks get right whose accuracies vary by a spread around 75 %."""
    shift = spread / 0.285  # the slope of the accuracy
    pictures, own = rng.normal(size=n), 0.5 * rng.normal(size=(seeds, n))
    truth = float(stats.norm.cdf(0.8 / math.sqrt(1.25 + shift**2)))
    return 0.8 + pictures + own + shift * rng.normal(size=(seeds, 1)) > 0, truth


@pytest.mark.parametrize(("seeds", "fixed"), [(2, 0.95), (3, 0.92), (5, 0.85)])
def test_over_seeds_the_interval_holds_for_other_pictures_too(seeds: int, fixed: float) -> None:
    """The issue's case: spread 0.3 points, 2,000 pictures. Over seeds alone the truth of the population is missed."""
    rng = np.random.default_rng(7)
    found = [(accuracy(h), truth) for h, truth in (networks(rng, seeds, 2000, 0.003) for _ in range(400))]
    assert np.mean([e.low <= truth <= e.high for e, truth in found]) >= 0.93
    assert np.mean([e.fixed[0] <= truth <= e.fixed[1] for e, truth in found if e.fixed]) <= fixed


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_paired_difference_over_seeds_holds_the_truth(seeds: int, spread: float) -> None:
    rng, held = np.random.default_rng(8), []
    shift = spread / 0.285
    for _ in range(300):
        pictures = rng.normal(size=500)
        a, b = (
            m + pictures + 0.5 * rng.normal(size=(seeds, 500)) + shift * rng.normal(size=(seeds, 1)) > 0
            for m in (1.0, 0.8)
        )
        truth = np.diff(stats.norm.cdf(np.array([0.8, 1.0]) / math.sqrt(1.25 + shift**2)))[0]
        e = difference(a, b)
        held.append(e.low <= truth <= e.high)
    assert np.mean(held) >= 0.915  # 93 in 100, and two standard errors


def test_two_seeds_that_agree_are_not_narrower_than_their_pictures_allow() -> None:
    """Two networks that got 6 of 450 pictures wrong each, but not the same ones."""
    hits = np.ones((2, 450), bool)
    hits[0, :6] = hits[1, 3:9] = False
    e = accuracy(hits)
    assert e.spread == 0
    assert e.fixed is not None
    assert e.half_width > e.fixed[1] - e.mean
    assert e.half_width >= 1.96 * math.sqrt(np.var(hits.mean(0), ddof=1) / 450)
    one = accuracy(hits[:1])
    assert (one.low, one.high) == binomial(444, 450)
    assert one.covers == "test pictures"
    same = accuracy(np.repeat(hits[:1], 2, 0))  # a second network that says the same tells nothing about pictures
    assert same.half_width == pytest.approx((one.high - one.low) / 2, rel=0.25)


def test_a_difference_of_one_picture_is_known_by_its_pictures() -> None:
    """Two seeds whose counts happen to agree: over seeds alone, as wide as rounding to a picture hides."""
    better, worse = np.zeros((2, 450), bool), np.zeros((2, 450), bool)
    better[0, :5], worse[0, 5:7], better[1, 7:14], worse[1, 14:18] = True, True, True, True
    e = difference(better, worse)
    assert e.mean == pytest.approx(3 / 450)
    assert e.spread == 0
    assert e.fixed is not None
    assert e.fixed[1] - e.mean == pytest.approx(12.7062 / 450 / math.sqrt(12) / math.sqrt(2), rel=1e-4)
    assert e.half_width > 1.96 * math.sqrt(Z**2) / 450


def test_seeds_with_pictures_of_their_own() -> None:
    """They differ by at least what their pictures explain, however well two of them agree."""
    e = accuracy_of_counts([900, 901], 1000)
    assert e.half_width >= 1.95 * math.sqrt(0.9 * 0.1 / 2000)
    assert e.covers == "seeds and test pictures"
    far = accuracy_of_counts([500, 900], 1000)
    assert far.low == 0
    assert far.high == 1
    t = over_counts([0.5, 0.9], [0.25, 0.09], 10**9)  # pictures without number leave the networks: Student's t
    assert t.high == 1
    many = over_counts([0.5, 0.52, 0.54, 0.5], [0.25] * 4, 10**9)
    low, high = stats.t.interval(0.95, 3, 0.515, stats.sem([0.5, 0.52, 0.54, 0.5]))
    assert (many.low, many.high) == pytest.approx((low, high), rel=1e-5)
    pair = difference_of_counts([30, 40], [10, 10], 100)
    assert pair.mean == pytest.approx(0.25)
    assert pair.half_width >= 1.96 * math.sqrt(np.mean([0.4 - 0.2**2, 0.5 - 0.3**2]) / 200)


def test_of_counts_alone_the_interval_is_never_narrower_than_with_the_pictures() -> None:
    rng = np.random.default_rng(9)
    for spread in (0.0, 0.001, 0.01):
        hits, _ = networks(rng, 3, 800, spread)
        alone = accuracy_of_counts(hits.sum(1).tolist(), 800, same=True)
        assert alone.mean == pytest.approx(accuracy(hits).mean)
        assert alone.half_width >= accuracy(hits).half_width


def test_scores_that_are_no_counts_take_their_variance_over_draws_as_it_is() -> None:
    """A picture's values over draws are normal; the parts are known, and coverage is that of right and wrong ones."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(300):
        values = 0.5 * rng.normal(size=60) + 0.2 * rng.normal(size=(3, 1)) + rng.normal(size=(3, 60))
        batch = [Batch(60, tuple(values.sum(1)))]
        mean, varied = values.mean(0), values.var(0, ddof=1)
        found = over_pictures(None, mean, np.full(60, 3), batch, varied, bounds=(-math.inf, math.inf))
        held += found.low <= 0 <= found.high
    assert 0.93 <= held / 300 <= 1.0
    noise = noise_of(mean, mean, 3, batch, varied)
    assert noise.draws == pytest.approx(varied.mean())
    assert noise.pictures == pytest.approx(np.var(mean, ddof=1) - varied.mean() / 3)


def test_pictures_of_a_group_count_as_one_where_they_are_alike() -> None:
    """Twenty groups of ten copies: the interval is that of twenty pictures. Groups of one are no groups."""
    rng = np.random.default_rng(6)
    one = rng.normal(size=20)
    wide = (-math.inf, math.inf)
    many, groups = np.repeat(one, 10), np.repeat(np.arange(20), 10)

    def of(values: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
        batch = [Batch(len(values), (float(values.sum()),))]
        zeros = np.zeros(len(values))
        return over_pictures(None, values, np.ones(len(values), int), batch, zeros, groups, wide)

    assert of(many, groups).half_width == pytest.approx(of(one).half_width)
    assert of(one, np.arange(20)).half_width == pytest.approx(of(one).half_width)
    assert of(many).half_width < 0.5 * of(one).half_width
    assert (of(many, groups).covers, of(one).covers) == ("groups of test pictures", "test pictures")
    single = of(one, np.zeros(20, int))
    assert (single.low, single.high) == wide


def test_groups_of_which_none_differs_could_still() -> None:
    ones, groups = np.ones(40), np.repeat(np.arange(8), 5)
    assert grouped_variance(ones, groups) == 0.0
    assert grouped_variance(ones, groups, counted=True) / 40 == pytest.approx(Z**2 / 8 / 8)
