"""Tallies by hand, and how many draws a place still needs."""

import numpy as np
import pytest
import torch

from whatwhere.intervals import Batch
from whatwhere.need.studies.set_tally import SetTally
from whatwhere.need.studies.tally import Tally, draws_needed, joined, place_of, read, written
from whatwhere.scores.against_intact import KL
from whatwhere.scores.classes import ACCURACY


def tally(rates: list[float], repeats: int, n: int = 400) -> Tally:
    """Pictures whose draws are right with their own probabilities, independently."""
    rng = np.random.default_rng(0)
    draws = rng.random((repeats, n)) < np.resize(rates, n)
    return Tally(draws.sum(0), np.full(n, repeats), [Batch(n, tuple(int(d.sum()) for d in draws))])


def test_a_cut_ends_when_draws_no_longer_narrow_its_interval():
    intact = Tally(np.ones(400, int), np.ones(400, int), [Batch(400, (400,))])
    settled = draws_needed(
        tally([0.0, 1.0], 10), intact, 10, 0.01
    )  # every draw says the same: pictures are all the noise
    noisy = draws_needed(tally([0.5], 10), intact, 10, 0.01)  # every picture is a coin: draws are all the noise
    assert settled == 2
    assert noisy == 10


FIRST = Tally.of(torch.tensor([[True, False, True], [True, False, False]]))  # two draws of three pictures
SECOND = Tally.of(torch.tensor([[False, True]] * 3))  # three draws of two


def test_hits_rates_and_totals_by_hand():
    assert FIRST.hits.tolist() == [2, 0, 1]
    assert FIRST.rates.tolist() == [1.0, 0.0, 0.5]
    assert FIRST.batches == [Batch(3, (2, 1))]
    assert FIRST.estimate(ACCURACY).mean == 0.5
    assert FIRST.draws(ACCURACY) == (2 / 3, 1 / 3)


def test_joined_batches_have_the_draws_that_all_of_them_had():
    both = Tally.join([FIRST, SECOND])
    assert both.hits.tolist() == [2, 0, 1, 0, 3]
    assert both.repeats.tolist() == [2, 2, 2, 3, 3]
    assert both.draws(ACCURACY) == (3 / 5, 2 / 5)
    assert both.estimate(ACCURACY).mean == pytest.approx((1 + 0 + 0.5 + 0 + 1) / 5)


def test_a_drop_is_paired_picture_by_picture():
    intact = Tally.of(torch.tensor([[True, True, False]]))
    assert FIRST.loss(intact, ACCURACY).mean == pytest.approx(((1 - 1) + (1 - 0) + (0 - 0.5)) / 3)


def test_what_is_written_is_read_back():
    tallies = {("per-channel", "layer 1"): FIRST, None: Tally.of(torch.tensor([[True, True, False]]))}
    plain = written(tallies)
    assert set(plain) == {"per-channel layer 1", "intact"}
    again = read(plain)
    assert {p: (t.hits.tolist(), t.repeats.tolist(), t.batches) for p, t in again.items()} == {
        p: (t.hits.tolist(), t.repeats.tolist(), t.batches) for p, t in tallies.items()
    }
    assert place_of("block features.0#2") == ("block", "features.0#2")


def test_chunks_are_joined_place_by_place():
    whole = joined([{("mean", "a"): FIRST, None: SECOND}, {("mean", "a"): SECOND, None: FIRST}])
    assert whole["mean", "a"].hits.tolist() == [2, 0, 1, 0, 3]
    assert whole[None].hits.tolist() == [0, 3, 2, 0, 1]


VALUES = torch.tensor([[0.5, 2.0, 1.0], [1.5, 2.0, 0.0]], dtype=torch.float64)  # two draws of three pictures


def test_values_that_are_not_right_or_wrong_keep_their_variance_over_draws():
    """The score is a divergence: a loss is positive where it grew."""
    values, intact = Tally.of(VALUES), Tally.of(torch.zeros(1, 3, dtype=torch.float64))
    assert values.rates.tolist() == [1.0, 2.0, 0.5]
    assert values.varied is not None
    assert values.varied.tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert values.draws(KL) == pytest.approx((3.5 / 3, 3.5 / 3))
    assert values.estimate(KL).mean == values.loss(intact, KL).mean == pytest.approx(3.5 / 3)
    assert values.estimate(KL).low == 0.0  # the interval of three pictures is wide, and no divergence is below 0
    assert values.estimate(KL).high > 2
    again = read(written({None: Tally.join([values, values])}))[None]
    assert isinstance(again, Tally)
    assert again.varied is not None
    assert (again.hits.tolist(), again.varied.tolist()) == ([2.0, 4.0, 1.0] * 2, values.varied.tolist() * 2)


def test_tallies_of_sets_are_read_back_and_joined_place_by_place():
    one = SetTally([[np.array([1.0, 2.0]), np.array([3.0])]])
    again = read(written({("mean", "a"): one, None: one}))
    whole = joined([again, {("mean", "a"): one, None: one}])["mean", "a"]
    assert isinstance(whole, SetTally)
    assert [e.tolist() for e in whole.evidence[0]] == [[1.0, 2.0], [3.0]] * 2
