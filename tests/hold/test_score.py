"""SPC against SciPy, picture by picture."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from whatwhere.errors import InputError
from whatwhere.hold.score import best_constant, score
from whatwhere.hold.targets import Target


@pytest.mark.parametrize("name", ["H", "G", "HS"])
def test_spc_and_mae_are_scipys_and_numpys(name):
    g = torch.Generator().manual_seed(0)
    target = Target(name).at(11)
    predicted = (torch.rand(5, 11, 11, generator=g) * 4).round() / 4 + 0.5 * target  # with ties
    seen = score(predicted, target)
    expected = [spearmanr(p.flatten().numpy(), target.flatten().numpy())[0] for p in predicted]
    np.testing.assert_allclose(seen.spc, expected, atol=1e-12)
    np.testing.assert_allclose(seen.mae, (predicted - target).abs().mean((1, 2)).numpy(), rtol=1e-6)
    assert seen.constant == 0


def test_each_picture_may_have_a_target_of_its_own():
    a = torch.rand(3, 4, 4)
    assert score(a, a).spc == pytest.approx(np.ones(3))
    assert score(a, -a).spc == pytest.approx(-np.ones(3))


def test_a_constant_prediction_is_counted_and_scores_zero():
    target = Target("H").at(6)
    seen = score(torch.stack([target, torch.full_like(target, 0.5) + 1e-7 * target]), target)
    assert seen.constant == 1  # float32 rounding is no prediction
    assert seen.spc == pytest.approx([1.0, 0.0])


def test_shuffled_positions_score_nothing():
    g = torch.Generator().manual_seed(0)
    target = Target("H").at(28)
    shuffled = torch.stack([target.flatten()[torch.randperm(784, generator=g)].view(28, 28) for _ in range(200)])
    seen = score(shuffled, target)
    assert abs(seen.spc.mean()) < 3 / np.sqrt(783 * 200)  # the standard error of a rank correlation of noise


def test_the_best_constant_is_found_by_no_search():
    target = Target("G").at(9)
    tried = min(float((target - c).abs().mean()) for c in np.linspace(0, 1, 2001))
    assert best_constant(target) == pytest.approx(tried, abs=1e-3)


def test_bad_maps_are_refused():
    with pytest.raises(InputError, match="target"):
        score(torch.zeros(1, 3, 3), torch.zeros(4, 4))
    with pytest.raises(InputError, match="not finite"):
        score(torch.full((1, 3, 3), float("nan")), torch.zeros(3, 3))
