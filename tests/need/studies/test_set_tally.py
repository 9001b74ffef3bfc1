"""Scores of sets: their estimate and their paired loss, against a bootstrap by loops."""

import numpy as np
import pytest
import torch
from scipy import stats

from whatwhere.need.studies.set_tally import SetTally
from whatwhere.scores.label_maps import miou

CLASSES = 3
SCORE = miou(CLASSES)


def drawn(wrong: float, seed: int, n: int = 24) -> list[np.ndarray]:
    """Evidence of pictures of which some pixels are said to be another class; the labels are those of seed 0."""
    rng, labels = np.random.default_rng(seed), np.random.default_rng(0).integers(0, CLASSES, (n, 6, 6))
    said = np.where(rng.random(labels.shape) < wrong, rng.integers(0, CLASSES, labels.shape), labels)
    scores = torch.nn.functional.one_hot(torch.from_numpy(said), CLASSES).permute(0, 3, 1, 2).float()
    return SCORE.evidence(scores, torch.from_numpy(labels), None)


INTACT, REMOVED = SetTally([drawn(0.1, 1)]), SetTally([drawn(0.5, 2), drawn(0.5, 3)])
GROUPS = np.repeat(np.arange(12), 2)


def test_values_of_draws_and_their_mean():
    each = [SCORE.value(draw) for draw in REMOVED.evidence]
    assert REMOVED.draws(SCORE) == pytest.approx(tuple(each))
    found = REMOVED.estimate(SCORE)
    assert found.mean == pytest.approx(np.mean(each))
    assert (found.n, found.repeats, found.covers) == (24, 2, "test pictures and draws")


def test_a_loss_is_paired_in_the_same_groups_drawn_again():
    one, rng, slow = SetTally(REMOVED.evidence[:1]), np.random.default_rng(5), []
    for _ in range(1000):
        rows = [i for g in rng.integers(0, 12, 12) for i in (2 * g, 2 * g + 1)]
        slow.append(
            SCORE.value([INTACT.evidence[0][i] for i in rows]) - SCORE.value([one.evidence[0][i] for i in rows])
        )
    found = one.loss(INTACT, SCORE, GROUPS)
    assert found.mean == pytest.approx(SCORE.value(INTACT.evidence[0]) - SCORE.value(one.evidence[0]))
    expected = stats.t.ppf(0.975, 11) * np.std(slow) * np.sqrt(12 / 11)
    assert found.half_width == pytest.approx(expected, rel=0.1)
    assert found.covers == "groups of test pictures"


def test_a_network_loses_nothing_against_itself():
    found = INTACT.loss(INTACT, SCORE)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_joined_and_read_back_it_is_the_same():
    parts = [SetTally([draw[:10] for draw in REMOVED.evidence]), SetTally([draw[10:] for draw in REMOVED.evidence])]
    again = SetTally.join([SetTally.from_dict(p.to_dict()) for p in parts])
    assert len(again) == 24
    assert all(
        np.array_equal(a, b)
        for one, other in zip(again.evidence, REMOVED.evidence, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert again.estimate(SCORE) == REMOVED.estimate(SCORE)
