"""The closed form against scikit-learn on the explicit design matrix, and the moments against slow sums."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.hold.features import Tap
from whatwhere.hold.moments import Moments, axis_of
from whatwhere.hold.ridge import PENALTIES, Group, RidgeFit, output_size
from whatwhere.hold.targets import stack, targets_of

SIZE = 9


def group(*channels):
    return Group("all", tuple(Tap(f"f{i}", c, (SIZE, SIZE)) for i, c in enumerate(channels, 1)))


def pictures(n, channels, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, SIZE, SIZE, generator=g) * torch.rand(channels, 1, 1, generator=g) * 3
    return x + 5 * torch.rand(channels, 1, 1, generator=g) + torch.linspace(0, 1, SIZE) * torch.rand(1, generator=g)


def design(x, kernel, padding=0):
    """(rows, columns): one row for each picture and position, columns by shift, then channel."""
    p = padding
    x = functional.pad(x, (p, p, p, p)).double()
    out = x.shape[-1] - kernel + 1
    rows = []
    for picture in x:
        for y in range(out):
            for z in range(out):
                patch = picture[:, y : y + kernel, z : z + kernel]
                rows.append(patch.permute(1, 2, 0).reshape(-1))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_moments_are_those_of_the_design_matrix(kernel, padding):
    x, y = pictures(4, 3), stack(targets_of(["H", "G"]), output_size(SIZE, kernel, padding))
    m = Moments(3, 2, kernel, padding, torch.tensor([1.0, -2.0, 0.5]))
    m.add(x[:1], y)
    m.add(x[1:], y)
    a = design(x, kernel, padding) - np.tile([1.0, -2.0, 0.5], kernel * kernel)
    b = np.tile(y.reshape(2, -1).numpy().T, (4, 1))
    assert m.rows == len(a)
    np.testing.assert_allclose(m.products.numpy(), a.T @ a, rtol=2e-5, atol=2e-3)
    np.testing.assert_allclose(m.cross.numpy(), a.T @ b, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(m.column_sums.numpy(), a.sum(0), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(m.target_products.numpy(), (b**2).sum(0), rtol=1e-5)


def test_targets_that_differ_between_pictures():
    g = torch.Generator().manual_seed(1)
    x, y = pictures(3, 2), torch.rand(3, 2, SIZE - 2, SIZE - 2, generator=g)
    m = Moments(2, 2, 3, 0, torch.zeros(2))
    m.add(x, y)
    b = y.permute(0, 2, 3, 1).reshape(-1, 2).double().numpy()
    np.testing.assert_allclose(m.cross.numpy(), design(x, 3).T @ b, rtol=1e-5)
    np.testing.assert_allclose(m.target_sums.numpy(), b.sum(0), rtol=1e-6)


def test_parts_of_an_axis_tile_every_window():
    for size, kernel in [(9, 3), (7, 5), (4, 4), (6, 1)]:
        for difference in range(-kernel + 1, kernel):
            axis = axis_of(size, kernel, difference)
            for used, shift in zip(axis.uses, axis.first, strict=True):
                covered = [i for u, (a, b) in zip(used, axis.parts, strict=True) if u for i in range(a, b)]
                assert covered == list(range(shift, shift + size - kernel + 1))


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1)])
def test_the_readout_is_scikit_learns_ridge(kernel, padding):
    x, held_out = pictures(6, 4), pictures(4, 4, seed=1)
    targets = targets_of(["H", "G", "VS"])
    fit = RidgeFit(group(3, 1), targets, kernel=kernel, padding=padding, size=SIZE)
    for part, held in ((x[:4], False), (held_out, True), (x[4:], False)):
        fit.add({"f1": part[:, :3], "f2": part[:, 3:]}, held)
    readout = fit.solve()
    predicted = readout.predict({"f1": held_out[:, :3], "f2": held_out[:, 3:]})
    goals = stack(targets, output_size(SIZE, kernel, padding)).flatten(1).double().numpy()
    a, b = design(x, kernel, padding), design(held_out, kernel, padding)
    mean, scale = a.mean(0), a.std(0)
    for t, y in enumerate(goals):
        models = [Ridge(alpha=float(p) * len(a)).fit((a - mean) / scale, np.tile(y, len(x))) for p in PENALTIES]
        losses = [np.mean((m.predict((b - mean) / scale) - np.tile(y, len(held_out))) ** 2) for m in models]
        best = int(np.argmin(losses))
        assert readout.penalty[t] == pytest.approx(float(PENALTIES[best]))
        expected = models[best].predict((b - mean) / scale)
        np.testing.assert_allclose(predicted[:, t].flatten().numpy(), expected, atol=2e-4)


def test_a_constant_channel_changes_nothing():
    targets = targets_of(["H"])
    readouts = []
    for extra in (False, True):
        x = pictures(6, 2)
        x = torch.cat([x, torch.full_like(x[:, :1], 7.3)], 1) if extra else x
        fit = RidgeFit(group(x.shape[1]), targets, kernel=1, size=SIZE)
        fit.add({"f1": x[:4]}, False)
        fit.add({"f1": x[4:]}, True)
        readouts.append(fit.solve())
    assert readouts[1].weight[0, 2] == 0
    torch.testing.assert_close(readouts[0].weight[:, :2], readouts[1].weight[:, :2], atol=1e-6, rtol=1e-4)


def test_a_map_that_holds_the_column_is_read_out_exactly():
    ramp = torch.linspace(3, 9, SIZE).expand(SIZE, SIZE)
    x = torch.cat([ramp.expand(6, 1, SIZE, SIZE), torch.randn(6, 2, SIZE, SIZE)], 1)
    fit = RidgeFit(group(3), targets_of(["H"]), kernel=1, size=SIZE)
    fit.add({"f1": x[:4]}, False)
    fit.add({"f1": x[4:]}, True)
    predicted = fit.solve().predict({"f1": x})[:, 0]
    torch.testing.assert_close(predicted, torch.linspace(0, 1, SIZE).expand(6, SIZE, SIZE), atol=1e-4, rtol=0)


def test_wrong_arguments_say_what_to_give():
    targets = targets_of(["H"])
    with pytest.raises(InputError, match="kernel=0"):
        RidgeFit(group(2), targets, kernel=0, size=SIZE)
    with pytest.raises(InputError, match="smaller kernel"):
        RidgeFit(group(2), targets, kernel=SIZE, size=SIZE)
    with pytest.raises(InputError, match="columns"):
        RidgeFit(group(2000), targets, kernel=3, size=SIZE)
    fit = RidgeFit(group(2), targets, kernel=1, size=SIZE)
    with pytest.raises(InputError, match="held out"):
        fit.solve()
    with pytest.raises(InputError, match="not finite"):
        fit.add({"f1": torch.full((1, 2, SIZE, SIZE), float("nan"))}, False)
