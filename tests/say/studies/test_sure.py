"""Confidences, their thresholds and the intervals of their measures."""

import math

import numpy as np
import pytest
import torch

from whatwhere.say.selective import levels
from whatwhere.say.studies.measure import Cells
from whatwhere.say.studies.sure import BITS, _auroc_interval, _ranks, confidence


def drawn_scores(seed, n=8, sure=2.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n, 4, 5), generator=g)
    scores = torch.randn(n, 3, 4, 5, generator=g) + sure * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    labels[torch.rand(labels.shape, generator=g) < 0.1] = 255
    return Cells(scores, labels, torch.rand(n, 2, 4, 5, generator=g))


def test_the_threshold_comes_from_validation_alone():
    groups = (torch.arange(8), torch.arange(8) // 2)
    found = confidence(drawn_scores(0), drawn_scores(1), groups, ("a", "b"))
    assert list(found["measures"]) == [
        "max softmax",
        "entropy",
        "temperature scaling",
        "concepts",
        "concepts and max softmax",
    ]
    held, test = drawn_scores(0), drawn_scores(1)
    m = found["measures"]["max softmax"]
    p, q = (c.scores.softmax(1).amax(1) for c in (held, test))
    odd = (torch.arange(8) % 2 == 1)[:, None, None] & (held.labels != 255)
    right = held.said == held.labels
    limits = sorted(p[odd].tolist())
    expected = next((t for t in limits if right[odd & (p >= t)].float().mean() >= 0.99), math.inf)
    assert m["threshold"] == pytest.approx(expected)
    answered = (q >= expected) & (test.labels != 255)
    assert m["coverage"] == pytest.approx(float(answered.sum() / (test.labels != 255).sum()), abs=1e-6)
    assert m["accuracy"] == pytest.approx(float((test.said == test.labels)[answered].float().mean()))
    assert found["speaking"]
    assert all({name for name, _ in said} == {"a", "b"} for said in found["speaking"].values())


def test_all_right_is_no_reason_to_fail():
    groups = (torch.arange(8), torch.arange(8) // 2)
    sure = drawn_scores(0, sure=100.0)
    found = confidence(sure, sure, groups, ("a", "b"))
    assert "concepts" not in found["measures"]
    assert math.isnan(found["measures"]["max softmax"]["auroc"][0])


@pytest.mark.slow
def test_the_interval_of_an_auroc_holds_it_where_confidences_crowd_near_one():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(30), 500)
    margin = np.abs(10 * rng.random(15000) + np.repeat(rng.normal(0, 0.3, 30), 500))
    right = rng.random(15000) < 1 / (1 + np.exp(-margin))
    sure = 1 / (1 + np.exp(-3 * margin))  # over-confident: most pixels are above 1 - 2^-12
    ranks = _ranks(sure)
    assert (np.diff(ranks[sure.argsort()]) >= 0).all()
    value, low, high = _auroc_interval(
        levels(sure, right), [levels(ranks[group == g], right[group == g], BITS) for g in range(30)]
    )
    exact = [levels(ranks[group == g], right[group == g], 20) for g in range(30)]
    assert low < value < high
    assert [low, high] == pytest.approx(_auroc_interval(levels(sure, right), exact)[1:], abs=2e-4)
