"""Errors of numbers against loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score

from whatwhere.errors import InputError
from whatwhere.scores.numbers import MAE, R2, predictions

G = torch.Generator().manual_seed(0)
WANTED = 1000 + torch.randn(20, 2, generator=G)
SAID = WANTED + 0.3 * torch.randn(20, 2, generator=G)


def test_errors_are_those_of_scikit_learn():
    assert MAE.value(MAE.evidence(SAID, WANTED, None)) == pytest.approx(mean_absolute_error(WANTED, SAID), rel=1e-5)
    evidence = R2.evidence({"out": SAID}, WANTED, None)
    assert R2.value(evidence) == pytest.approx(r2_score(WANTED, SAID), abs=1e-6)
    rows = [0, 0, 3, 5, 5, 5]
    times = np.bincount(rows, minlength=20)[None]
    assert R2.resampled(evidence, times) == pytest.approx(r2_score(WANTED[rows], SAID[rows]), abs=1e-6)
    assert MAE.higher_is_better is False


def test_numbers_that_do_not_vary_have_no_share_of_variance():
    assert np.isnan(R2.value(R2.evidence(torch.zeros(3, 1), torch.full((3, 1), 7.0), None)))


def test_predictions_are_one_for_each_number():
    assert predictions(torch.zeros(4), torch.zeros(4, 1)).shape == (4, 1)
    with pytest.raises(InputError, match=r"values of shape \(4, 3\), and each picture comes with 1 numbers"):
        predictions(torch.zeros(4, 3), torch.zeros(4, 1))
