"""Concept heads, reconstruction, components: against other libraries and slow paths."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from whatwhere.errors import InputError
from whatwhere.say.heads import (
    Pixels,
    at_cells,
    balanced,
    drawn_pixels,
    fit_heads,
    maps_at,
    orthonormal,
    principal,
    reconstruct,
    shares_of,
)
from whatwhere.say.layer import Bottleneck

PENALTY = 1e-3


def drawn(n, seed, unlabelled=0.3):
    """Correlated features, three concepts of different frequency, some places without a label for some."""
    g = np.random.default_rng(seed)
    x = g.standard_normal((n, 6)) @ np.random.default_rng(0).standard_normal((6, 6)) + 3
    logits = (x - 3) @ np.random.default_rng(1).standard_normal((6, 3)) / 2 - np.array([0.0, 2.0, -1.0])
    y = (g.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    y[g.random((n, 3)) < unlabelled] = -1
    return Pixels(torch.from_numpy(x).float(), torch.from_numpy(y))


def slow_head(fit, k):
    """Scores of scikit-learn's regression, as a function of features."""
    x, y = fit.features.double().numpy(), fit.targets[:, k].numpy()
    there = (fit.targets >= 0).any(1).numpy()
    mean, std = x[there].mean(0), x[there].std(0, ddof=1)
    on = y >= 0
    # our loss is the mean of the two kinds' means, and penalty * |w|^2 beside it; theirs sums n balanced losses
    model = LogisticRegression(C=1 / (2 * PENALTY * on.sum()), class_weight="balanced", tol=1e-10, max_iter=10_000)
    model.fit((x[on] - mean) / std, y[on])
    return lambda z: model.decision_function((z.double().numpy() - mean) / std)


def slow_platt(scores, y):
    """Factor and offset by Nelder and Mead's method."""
    on = y >= 0
    s, t = scores[on], y[on]

    def loss(v):
        z = v[0] * s + v[1]
        return np.mean(np.logaddexp(0, z) - t * z) + 1e-4 * ((v[0] - 1) ** 2 + v[1] ** 2)

    return minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}).x


@pytest.mark.parametrize("held_out", [True, False])
def test_heads_are_scikit_learns_then_calibrated(held_out):
    fit, held, asked = drawn(900, 2), drawn(500, 3), drawn(50, 4)
    layer = Bottleneck(6, 3)
    fit_heads(layer, fit, held if held_out else None, penalty=PENALTY)
    other = held if held_out else fit
    for k in range(3):
        head = slow_head(fit, k)
        factor, offset = slow_platt(head(other.features), other.targets[:, k].numpy())
        expected = 1 / (1 + np.exp(-(factor * head(asked.features) + offset)))
        np.testing.assert_allclose(maps_at(layer, asked.features)[:, k].numpy(), expected, atol=2e-3)


def test_calibrated_means_that_often():
    layer = Bottleneck(6, 3)
    fit_heads(layer, drawn(4000, 2), drawn(4000, 3))
    new = drawn(4000, 5)
    for k, p in enumerate(maps_at(layer, new.features).T):
        on = new.targets[:, k] >= 0
        assert float(p[on].mean()) == pytest.approx(float(new.targets[on, k].float().mean()), abs=0.03)


def test_what_is_not_labelled_moves_nothing():
    fit, held = drawn(300, 2), drawn(200, 3)
    plain, padded = Bottleneck(6, 3), Bottleneck(6, 3)
    fit_heads(plain, fit, held)
    more = [
        Pixels(
            torch.cat([p.features, torch.full((40, 6), bad)]), torch.cat([p.targets, torch.full((40, 3), -1).char()])
        )
        for p, bad in ((fit, torch.nan), (held, torch.inf))
    ]
    fit_heads(padded, *more)
    assert torch.equal(plain.encode.weight, padded.encode.weight)
    assert torch.equal(plain.encode.bias, padded.encode.bias)


def test_a_concept_does_not_touch_another():
    """Taking one concept's labels away leaves the others as they were."""
    fit = drawn(400, 2, unlabelled=0)
    both, one = Bottleneck(6, 3), Bottleneck(6, 3)
    fit_heads(both, fit)
    targets = fit.targets.clone()
    targets[50:, 0] = -1
    fit_heads(one, Pixels(fit.features, targets))
    seen, expected = (maps_at(layer, fit.features) for layer in (one, both))
    torch.testing.assert_close(seen[:, 1:], expected[:, 1:], rtol=0, atol=3e-3)
    assert (seen[:, 0] - expected[:, 0]).abs().max() > 0.05


def test_weights_of_presence_and_absence():
    targets = torch.tensor([[1, -1], [0, 1], [0, 0], [0, -1]], dtype=torch.int8)
    expected = torch.tensor([[1 / 2, 0], [1 / 6, 1 / 2], [1 / 6, 1 / 2], [1 / 6, 0]])
    goals, weights = balanced(targets)
    torch.testing.assert_close(weights, expected)
    assert torch.equal(goals[targets >= 0], targets[targets >= 0].float())


def test_a_share_counts_as_much_presence_and_the_rest_as_absence():
    joined = torch.tensor([[1.0], [0.75], [0.0], [1 / 3]])  # one place, four, one, three
    times = torch.tensor([1, 4, 1, 3])
    goals, weights = balanced(joined.repeat_interleave(times, 0))
    hard_goals, hard_weights = balanced(torch.tensor([[1], *[[1]] * 3, [0], [0], [1], [0], [0]], dtype=torch.int8))
    assert float((goals * weights).sum()) == pytest.approx(float((hard_goals * hard_weights).sum()))
    assert float(weights.sum()) == pytest.approx(float(hard_weights.sum()))


def test_shares_of_cells_against_a_slow_count():
    targets = torch.randint(-1, 2, (2, 3, 12, 20), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    targets[0, 0, :3, :5] = -1
    found = shares_of(targets, (4, 4))
    for n, k, y, x in product(range(2), range(3), range(4), range(4)):
        cell = targets[n, k, 3 * y : 3 * y + 3, 5 * x : 5 * x + 5]
        known = cell[cell >= 0]
        share = float(known.float().mean()) if len(known) else -1.0
        assert float(found[n, k, y, x]) == pytest.approx(share, abs=1e-6)


def test_a_head_that_is_wrong_where_it_is_calibrated_says_how_often():
    fit = drawn(400, 2, unlabelled=0)
    turned = Pixels(fit.features, torch.where(torch.arange(400)[:, None] < 300, 1 - fit.targets, fit.targets))
    layer = Bottleneck(6, 3)
    fit_heads(layer, fit, turned)
    shares = turned.targets.float().mean(0)
    torch.testing.assert_close(maps_at(layer, fit.features).mean(0), shares, atol=0.02, rtol=0)


def test_a_concept_unseen_where_it_is_calibrated_keeps_its_head():
    fit, held = drawn(400, 2), drawn(200, 3)
    held.targets[held.targets[:, 1] == 1, 1] = -1
    layer, plain = Bottleneck(6, 3), Bottleneck(6, 3)
    fit_heads(layer, fit, held, penalty=PENALTY)
    fit_heads(plain, fit, penalty=PENALTY)
    p = maps_at(layer, fit.features)[:, 1].double().numpy()
    np.testing.assert_allclose(np.log(p / (1 - p)), slow_head(fit, 1)(fit.features), atol=2e-2)
    assert not torch.equal(layer.encode.weight[1], plain.encode.weight[1])


def test_a_dead_channel_does_no_harm():
    fit, held = drawn(300, 2), drawn(200, 3)
    fit.features[:, 2] = 0.0
    layer = Bottleneck(6, 3)
    fit_heads(layer, fit, held)
    assert bool((layer.encode.weight[:, 2] == 0).all())
    assert layer.encode.bias.isfinite().all()


@pytest.mark.parametrize(("value", "word"), [(1, "absent"), (0, "present"), (-1, "present")])
def test_a_concept_never_seen_both_ways_is_refused(value, word):
    fit = drawn(100, 2)
    fit.targets[:, 1] = value
    with pytest.raises(InputError, match=f"concepts b are never labelled {word}"):
        fit_heads(Bottleneck(6, 3, names="abc"), fit)


def test_heads_are_for_maps_between_0_and_1():
    with pytest.raises(InputError, match="'linear'"):
        fit_heads(Bottleneck(6, 3, "linear"), drawn(50, 0))


def test_binary_maps_are_the_same_heads_rounded():
    fit = drawn(400, 2)
    soft, hard = Bottleneck(6, 3), Bottleneck(6, 3, "binary")
    fit_heads(soft, fit)
    fit_heads(hard, fit)
    assert torch.equal(maps_at(hard, fit.features), (maps_at(soft, fit.features) > 0.5).float())


def test_reconstruction_is_least_squares():
    g = torch.Generator().manual_seed(0)
    maps, features = torch.rand(200, 3, generator=g), torch.randn(200, 5, generator=g)
    layer = Bottleneck(5, 3)
    reconstruct(layer, maps, features, penalty=0)
    design = np.hstack([maps.numpy(), np.ones((200, 1))]).astype(np.float64)
    expected = np.linalg.lstsq(design, features.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(layer.decode.weight.detach().numpy()[:, :, 0, 0], expected[:3].T, atol=1e-5)
    np.testing.assert_allclose(layer.decode.bias.detach().numpy(), expected[3], atol=1e-5)


def test_reconstruction_with_a_penalty_is_scikit_learns():
    g = torch.Generator().manual_seed(0)
    maps, features = torch.rand(200, 3, generator=g), torch.randn(200, 5, generator=g)
    layer = Bottleneck(5, 3)
    reconstruct(layer, maps, features, penalty=0.1)
    model = Ridge(alpha=0.1 * 200 * maps.double().var(0, correction=0).mean().item()).fit(
        maps.double(), features.double()
    )
    np.testing.assert_allclose(layer.decode.weight.detach().numpy()[:, :, 0, 0], model.coef_, atol=1e-5)
    np.testing.assert_allclose(layer.decode.bias.detach().numpy(), model.intercept_, atol=1e-5)


def test_constant_and_equal_maps_are_reconstructed():
    features = torch.randn(50, 5)
    layer = Bottleneck(5, 3)
    reconstruct(layer, torch.ones(50, 3), features)
    torch.testing.assert_close(layer.decode.bias + layer.decode.weight.sum((1, 2, 3)), features.mean(0))
    reconstruct(layer, torch.rand(50, 1).expand(50, 3), features)
    assert layer.decode.weight.isfinite().all()


def test_components_are_those_of_the_svd():
    x = drawn(300, 2).features
    layer = Bottleneck(6, 4, "linear")
    principal(layer, x)
    centred = x.double().numpy() - x.double().numpy().mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    seen, expected = maps_at(layer, x).numpy(), u[:, :4] * s[:4]
    signs = np.sign((seen * expected).sum(0))
    np.testing.assert_allclose(seen, expected * signs, atol=1e-3)
    with pytest.raises(InputError, match="7 principal components of 6"):
        principal(Bottleneck(6, 7, "linear"), x)


def test_random_directions_are_orthonormal_and_depend_on_the_seed_alone():
    layers = [Bottleneck(6, 4, "linear") for _ in range(3)]
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        orthonormal(layer, seed)
    weights = [layer.encode.weight[:, :, 0, 0] for layer in layers]
    torch.testing.assert_close(weights[0] @ weights[0].T, torch.eye(4))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_labels_at_the_centres_of_cells():
    targets = torch.randint(-1, 2, (2, 3, 32, 45), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    found = at_cells(targets, (4, 6))
    assert found.dtype == torch.int8
    for y in range(4):
        for x in range(6):
            assert torch.equal(found[..., y, x], targets[..., int((y + 0.5) * 32 / 4), int((x + 0.5) * 45 / 6)])


def test_places_are_drawn_once_with_their_labels():
    features = torch.arange(2 * 3 * 4.0).view(2, 1, 3, 4).expand(2, 5, 3, 4)
    targets = (features[:, :2] % 3 - 1).to(torch.int8)
    some = drawn_pixels(features, targets, 10, torch.Generator().manual_seed(0))
    assert some.features.shape == (10, 5)
    assert len(some.features[:, 0].unique()) == 10
    assert torch.equal(some.targets[:, 0], (some.features[:, 0] % 3 - 1).to(torch.int8))
    assert len(drawn_pixels(features, targets, 99, torch.Generator()).features) == 24


FACTORS = {"tiny": (1e-8, 0.0), "far from 0": (1.0, 300.0), "tiny and far": (1e-6, 3e-4), "large": (1e6, 0.0)}


@pytest.mark.parametrize("name", FACTORS)
def test_heads_do_not_depend_on_the_features_unit(name):
    """Against the same features in units of their own spread; the worst is float32's resolution at the offset."""
    factor, offset = FACTORS[name]
    plain = drawn(600, 0)
    scaled = Pixels(plain.features * factor + offset, plain.targets)
    maps = []
    for pixels in (plain, scaled):
        layer = Bottleneck(6, 3)
        fit_heads(layer, pixels)
        maps.append(maps_at(layer, pixels.features))
    assert (maps[0] - maps[1]).abs().max() < 5e-3
    assert maps[1].std(0).min() > 0.05


def test_heads_on_nearly_collinear_features_are_those_of_double_precision():
    """Eight channels of two directions, their differences a thousandth of them."""
    g = np.random.default_rng(0)
    latent = g.standard_normal((800, 2))
    x = torch.from_numpy(latent @ g.standard_normal((2, 8)) + 1e-3 * g.standard_normal((800, 8))).float()
    y = torch.from_numpy((latent + 0.5 * g.standard_normal((800, 2)) > 0.3).astype(np.int8))
    fit, layer = Pixels(x, y), Bottleneck(8, 2)
    fit_heads(layer, fit, penalty=PENALTY)
    for k in range(2):
        scores = slow_head(fit, k)(x)
        factor, offset = slow_platt(scores, y[:, k].numpy())
        expected = 1 / (1 + np.exp(-factor * scores - offset))
        np.testing.assert_allclose(maps_at(layer, x)[:, k].numpy(), expected, atol=3e-3)


@pytest.mark.parametrize(("factor", "offset"), [(1e-9, 0.0), (1e-4, 1.0)])
def test_reconstruction_of_tiny_and_far_maps(factor, offset):
    g = torch.Generator().manual_seed(0)
    maps = (torch.rand(200, 3, generator=g) * factor + offset).float()
    features, layer = torch.randn(200, 5, generator=g), Bottleneck(5, 3, "linear")
    reconstruct(layer, maps, features, penalty=1e-6)
    z, y = maps.double().numpy(), features.double().numpy()
    zc = z - z.mean(0)
    gram = zc.T @ zc / 200
    slope = np.linalg.solve(gram + 1e-6 * np.trace(gram) / 3 * np.eye(3), zc.T @ (y - y.mean(0)) / 200)
    np.testing.assert_allclose(layer.decode.weight.detach().numpy()[:, :, 0, 0], slope.T, rtol=1e-4)
    assert np.abs(slope).max() > 0.05 / factor  # what a fixed floor of the penalty would shrink away


@pytest.mark.parametrize(("factor", "offset"), [(1e-9, 0.0), (1.0, 1e4)])
def test_components_of_tiny_and_far_features(factor, offset):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=g) * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1]) * factor + offset
    layer = Bottleneck(6, 3, "linear")
    principal(layer, x)
    centred = x.double().numpy() - x.double().numpy().mean(0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    agree = np.abs(np.sum(rows[:3] * layer.encode.weight.detach().double().numpy()[:, :, 0, 0], 1))
    np.testing.assert_allclose(agree, 1, atol=1e-6)
