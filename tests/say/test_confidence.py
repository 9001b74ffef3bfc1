"""Confidences against loops, a grid of temperatures, and scikit-learn's logistic regression."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from whatwhere.errors import InputError
from whatwhere.say import confidence
from whatwhere.say.confidence import ConfidenceModel, entropy, max_softmax, temperature


def logits_and_labels(p: int = 500, k: int = 4):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(p, k, generator=g, dtype=torch.float64)
    return 3 * z, torch.multinomial((1.2 * z).softmax(1), 1, generator=g)[:, 0]


def test_max_softmax_and_entropy_are_loops():
    z, _ = logits_and_labels(20)
    for i, row in enumerate(z.tolist()):
        p = [math.exp(v / 2) / sum(math.exp(u / 2) for u in row) for v in row]
        assert float(max_softmax(z, 2.0)[i]) == pytest.approx(max(p))
        assert float(entropy(z, 2.0)[i]) == pytest.approx(1 + sum(q * math.log(q) for q in p) / math.log(4))
    sure = torch.tensor([[0.0, 0.0], [-math.inf, 0.0]])
    assert entropy(sure).tolist() == [0.0, 1.0]


def test_maps_are_pixels():
    z = torch.randn(2, 5, 3, 4)
    rows = z.movedim(1, -1).flatten(0, 2)
    for measure in (max_softmax, entropy):
        assert torch.allclose(measure(z).flatten(), measure(rows))
        assert measure(z.half()).dtype == torch.float32


def test_temperature_is_the_best_of_a_grid():
    z, y = logits_and_labels()
    grid = torch.linspace(0.5, 6, 5501, dtype=torch.float64)
    losses = [float(torch.nn.functional.cross_entropy(z / t, y)) for t in grid]
    found = temperature(z, y)
    assert found == pytest.approx(float(grid[int(np.argmin(losses))]), abs=1e-3)
    assert found == pytest.approx(2.5, rel=0.2)  # the labels were drawn at 3 / 1.2
    assert temperature(2 * z, y) == pytest.approx(2 * found)


def test_temperature_of_maps_ignores_unlabelled_pixels():
    z, y = logits_and_labels(480)
    maps, labels = z.T.reshape(4, 2, 12, 20).transpose(0, 1), y.view(2, 12, 20).clone()
    labels[0, :4] = -1
    held = labels.flatten() >= 0
    assert temperature(maps, labels) == pytest.approx(temperature(z[held], y[held]))


def test_temperature_stops_at_its_ends():
    z, _ = logits_and_labels()
    assert temperature(z, z.argmax(1)) == 0.01
    assert temperature(z, z.argmin(1)) == 100.0
    with pytest.raises(InputError, match="one label"):
        temperature(z, torch.full((500,), -1))
    with pytest.raises(InputError, match="one label"):
        temperature(z, torch.zeros(3))


def sample(p: int = 600, concepts: int = 5, classes: int = 3):
    """Concept 0 speaks for a prediction, concept 1 against it, concept 2 for class 2 only."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(p, concepts, generator=g) * torch.tensor([1, 3, 0.2, 1, 5]) + 2
    predicted = torch.randint(classes, (p,), generator=g)
    s = (x - 2) / torch.tensor([1, 3, 0.2, 1, 5])
    log_odds = 1.0 + s[:, 0] - s[:, 1] + 2 * s[:, 2] * (predicted == 2) + 0.5 * (predicted == 0)
    return x, predicted, torch.rand(p, generator=g) < log_odds.sigmoid()


def design(x, predicted, interactions: bool) -> np.ndarray:
    """The columns that the model stands for, one by one."""
    s = ((x.double() - x.double().mean(0)) / x.double().std(0, correction=0)).numpy()
    one_hot = np.eye(3)[predicted.numpy()]
    products = [one_hot[:, [c]] * s for c in range(3)] if interactions else []
    return np.concatenate([one_hot, s, *products], 1)


@pytest.mark.parametrize("interactions", [False, True])
@pytest.mark.parametrize("penalty", [1e-2, 1e-3])
def test_the_model_is_scikit_learns(interactions, penalty):
    x, predicted, correct = sample()
    model = ConfidenceModel.fit(x, predicted, correct, classes=3, interactions=interactions, penalty=penalty)
    columns = design(x, predicted, interactions)
    known = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=5000).fit(columns, correct.numpy())
    expected = known.predict_proba(columns)[:, 1]
    np.testing.assert_allclose(model(x.double(), predicted).numpy(), expected, atol=2e-5)
    w = torch.from_numpy(known.coef_[0])
    table = w[3:8] + (w[8:].view(3, 5) if interactions else torch.zeros(3, 5))
    assert torch.allclose(model.weight, table, atol=1e-4)
    assert torch.allclose(model.bias, known.intercept_[0] + w[:3], atol=1e-4)


def test_concepts_speak_for_and_against():
    x, predicted, correct = sample(3000)
    model = ConfidenceModel.fit(x, predicted, correct, classes=3, interactions=True)
    names = ["wheel", "fog", "window", "a", "b"]
    assert model.ranked(names, 2)[0][0] == "window"
    assert model.ranked(names, 2)[0][1] == pytest.approx(2, abs=0.5)
    for k in range(3):
        assert model.ranked(names, k)[-1] == ("fog", pytest.approx(-1, abs=0.35))
    assert abs(float(model.weight[0, 2])) < 0.4


def test_evidence_adds_up_on_pixels_and_maps():
    x, predicted, correct = sample()
    model = ConfidenceModel.fit(x, predicted, correct, classes=3, interactions=True)
    evidence = model.evidence(x, predicted)
    for i in range(5):
        k = int(predicted[i])
        slow = [float(model.weight[k, j] * (x[i, j] - model.mean[j]) / model.spread[j]) for j in range(5)]
        assert evidence[i].tolist() == pytest.approx(slow, rel=1e-4)
        assert float(model(x, predicted)[i]) == pytest.approx(
            1 / (1 + math.exp(-float(model.bias[k]) - sum(slow))), rel=1e-4
        )
    maps = x.view(2, 15, 20, 5).permute(0, 3, 1, 2)
    seen = model(maps, predicted.view(2, 15, 20))
    assert torch.allclose(seen.flatten(), model(x, predicted))
    assert model.evidence(maps, predicted.view(2, 15, 20)).shape == maps.shape


def test_the_model_is_the_same_again_and_needs_no_change_of_a_concept():
    x, predicted, correct = sample()
    x[:, 3] = 7.0
    first, second = (ConfidenceModel.fit(x, predicted, correct, classes=4) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert first.weight[:, 3].abs().max() == 0
    assert torch.isfinite(first(x + 1, predicted)).all()
    assert float(first.bias[3]) == pytest.approx(float(first.bias[:3].mean()), abs=0.5)  # a class never predicted


def test_samples_that_say_nothing_are_refused():
    x, predicted, correct = sample()
    fit = ConfidenceModel.fit
    with pytest.raises(InputError, match="all 600 pixels are right"):
        fit(x, predicted, torch.ones(600), classes=3)
    with pytest.raises(InputError, match="classes=2"):
        fit(x, predicted, correct, classes=2)
    with pytest.raises(InputError, match=r"give \(P, K\)"):
        fit(x, predicted[:3], correct, classes=3)
    with pytest.raises(InputError, match="penalty=0"):
        fit(x, predicted, correct, classes=3, penalty=0)
    with pytest.raises(InputError, match="not finite"):
        fit(x / 0, predicted, correct, classes=3)


def test_a_concept_in_another_unit_says_as_much():
    """One concept counts in millions, one in billionths: each is measured by its own spread."""
    x, predicted, correct = sample()
    units = torch.tensor([1e-9, 1e-3, 1.0, 1e3, 1e6], dtype=torch.float64)
    plain = ConfidenceModel.fit(x.double(), predicted, correct, classes=3)
    other = ConfidenceModel.fit(x.double() * units, predicted, correct, classes=3)
    assert torch.allclose(other.weight, plain.weight, atol=1e-6)
    assert torch.allclose(other(x.double() * units, predicted), plain(x.double(), predicted), atol=1e-6)
    assert plain.weight[0].abs().min() > 0


def test_nearly_collinear_concepts_far_from_0_are_newtons():
    """Against Newton's method in double precision; the model is evaluated on single precision as it was given."""
    g = np.random.default_rng(0)
    latent = g.standard_normal((900, 2))
    x = torch.from_numpy(latent @ g.standard_normal((2, 5)) + 0.01 * g.standard_normal((900, 5)) + 1000.0).float()
    predicted = torch.from_numpy(g.integers(0, 3, 900))
    correct = torch.from_numpy(latent[:, 0] + g.standard_normal(900) > 0)
    model = ConfidenceModel.fit(x, predicted, correct, classes=3, penalty=1e-4)
    columns = np.concatenate([np.ones((900, 1)), design(x, predicted, interactions=False)], 1)
    shrink, w = np.r_[0, np.full(columns.shape[1] - 1, 1e-4)], np.zeros(columns.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-columns @ w))
        slope = columns.T @ (p - correct.numpy()) / 900 + shrink * w
        w -= np.linalg.solve((columns.T * (p * (1 - p))) @ columns / 900 + np.diag(shrink), slope)
    expected = 1 / (1 + np.exp(-columns @ w))
    np.testing.assert_allclose(model(x, predicted).numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(model(x.double(), predicted).numpy(), expected, atol=2e-6)


def test_many_pixels_are_taken_in_parts(monkeypatch):
    x, predicted, correct = sample()
    model = ConfidenceModel.fit(x, predicted, correct, classes=3)
    whole = model(x, predicted)
    monkeypatch.setattr(confidence, "AT_ONCE", 7)
    assert torch.equal(model(x, predicted), whole)
    assert whole.dtype == torch.float32
