"""The closed form against scikit-learn on the explicit design matrix."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from small_design import SIZE, design, pictures
from whatwhere.errors import InputError
from whatwhere.hold import features
from whatwhere.hold import ridge as ridge_module
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.moments import Moments
from whatwhere.hold.rational import solutions
from whatwhere.hold.ridge import PENALTIES, RidgeFit, Standard, output_size
from whatwhere.hold.targets import resized, stack, targets_of


def group(*channels):
    return Group("all", tuple(Tap(f"f{i}", c, (SIZE, SIZE)) for i, c in enumerate(channels, 1)))


def fitted(channels, x, held_out, targets, kernel=1, padding=0, size=SIZE):
    """The solutions of a read-out that was shown both parts."""
    fit = RidgeFit(group(*channels), targets, kernel=kernel, padding=padding, size=size)
    for part in x.split(4):
        fit.add(by_tap(part, channels))
    path = fit.solve()
    for part in held_out.split(3):
        path.add(by_tap(part, channels))
    return path


def by_tap(x, channels):
    return {f"f{i}": part for i, part in enumerate(x.split(list(channels), 1), 1)}


def by_scikit_learn(x, held_out, target, kernel, padding=0, penalties=PENALTIES):
    """Held-out losses, and the held-out predictions of the best penalty, from the explicit design matrix in float64."""
    y = target.flatten().double().numpy()
    a, b = design(x, kernel, padding), design(held_out, kernel, padding)
    mean, scale = a.mean(0), np.where(a.std(0) > 0, a.std(0), 1)
    a, b = (a - mean) / scale, (b - mean) / scale
    fitted, wanted = np.tile(y, len(x)), np.tile(y, len(held_out))
    predicted = [Ridge(alpha=float(p) * len(a), solver="svd").fit(a, fitted).predict(b) for p in penalties]
    losses = np.array([np.mean((p - wanted) ** 2) for p in predicted])
    return losses, predicted[int(losses.argmin())]


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2)])
def test_the_readout_is_scikit_learns_ridge(kernel, padding):
    x, held_out = pictures(6, 4), pictures(4, 4, seed=1)
    targets = targets_of(["H", "G", "VS"])
    path = fitted((3, 1), x, held_out, targets, kernel, padding)
    readout = path.best()
    predicted = readout.predict(by_tap(held_out, (3, 1)))
    for t, target in enumerate(stack(targets, output_size(SIZE, kernel, padding))):
        losses, expected = by_scikit_learn(x, held_out, target, kernel, padding)
        np.testing.assert_allclose(path.losses[:, t] / path.rows, losses, rtol=1e-7)
        assert readout.penalty[t] == pytest.approx(float(PENALTIES[losses.argmin()]))
        assert readout.loss[t] == pytest.approx(losses.min(), rel=1e-7)
        np.testing.assert_allclose(predicted[:, t].flatten().numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_one_by_one_at_the_centre_is_fitted_and_tested_at_the_same_places(kernel, padding):
    x, held_out = pictures(5, 3), pictures(2, 3, seed=1)
    target = targets_of(["G"])
    row, out = kernel // 2, output_size(SIZE, kernel, padding)
    p = padding
    centres = [functional.pad(m, (p,) * 4)[..., row : row + out, row : row + out] for m in (x, held_out)]
    losses, _ = by_scikit_learn(*centres, stack(target, out)[0], 1)
    assert fitted((3,), x, held_out, target, kernel, padding).best().centre_loss[0] == pytest.approx(
        losses.min(), rel=1e-7
    )


@pytest.fixture(scope="module")
def untrained():
    """Maps of an untrained SqueezeNet: small (spread 0.05 and less), nearly collinear, of few dimensions."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    trunk = squeezenet1_1().features[:8].eval()
    for m in trunk.modules():
        if isinstance(m, torch.nn.Conv2d):
            m.reset_parameters()
    g = torch.Generator().manual_seed(3)
    coarse = torch.randn(14, 3, 9, 9, generator=g)
    x = functional.interpolate(coarse, size=(112, 112), mode="bicubic")
    with torch.no_grad():
        return functional.interpolate(trunk(x)[:, :24], size=(12, 12), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_features_of_an_untrained_network_are_read_as_scikit_learn_does_in_float64(untrained, kernel):
    x, held_out = untrained[:10], untrained[10:]
    assert float(x.std()) < 0.1
    targets = targets_of(["H", "G"])
    readout = fitted((24,), x, held_out, targets, kernel, size=12).best()
    predicted = readout.predict({"f1": held_out})
    for t, target in enumerate(stack(targets, 12 - kernel + 1)):
        losses, _ = by_scikit_learn(x, held_out, target, kernel, penalties=PENALTIES[::10])
        assert readout.loss[t] <= losses.min() * (1 + 1e-4)
        assert readout.loss[t] == pytest.approx(float(((predicted[:, t] - target) ** 2).mean()), rel=1e-9)


def test_a_larger_kernel_reads_no_less_than_its_centre_of_an_untrained_network(untrained):
    for kernel in (3, 5):
        readout = fitted((24,), untrained[:10], untrained[10:], targets_of(["H", "G"]), kernel, size=12).best()
        assert all(loss < 1.02 * inner for loss, inner in zip(readout.loss, readout.centre_loss, strict=True))


def test_penalties_below_the_rounding_of_the_products_are_left_out():
    gram = torch.diag(torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64))
    weights, possible = solutions(gram.clone(), torch.ones(3, 1).double(), torch.ones(1).double(), PENALTIES)
    assert possible.tolist() == [bool(p >= 3 * 1e9 * 2.0**-52) for p in PENALTIES]
    expected = torch.ones(3, 1, dtype=torch.float64) / (gram.diagonal()[:, None] + PENALTIES)
    torch.testing.assert_close(weights[..., 0], expected)


def test_a_penalty_whose_loss_its_predictions_contradict_is_not_chosen():
    x, held_out = pictures(6, 2), pictures(4, 2, seed=1)
    fit = RidgeFit(group(2), targets_of(["H"]), size=SIZE)
    fit.add({"f1": x})
    path = fit.solve()
    best = int((fitted((2,), x, held_out, targets_of(["H"])).losses[:, 0]).argmin())
    wrong = torch.zeros_like(path.losses)
    wrong[best] = 1e6
    true = path._squared
    path._squared = lambda *given: true(*given) + wrong  # as if the products had been summed with too little precision
    path.add({"f1": held_out})
    assert path.trusted[:, 0].tolist() == [i != best for i in range(len(PENALTIES))]
    assert path.best().penalty[0] != float(PENALTIES[best])


def test_a_constant_channel_changes_nothing():
    readouts = []
    for extra in (False, True):
        x = pictures(6, 2)
        x = torch.cat([x, torch.full_like(x[:, :1], 7.3)], 1) if extra else x
        readouts.append(fitted((x.shape[1],), x[:4], x[4:], targets_of(["H"])).best())
    assert readouts[1].weight[0, 2] == 0
    torch.testing.assert_close(readouts[0].weight[:, :2], readouts[1].weight[:, :2], atol=1e-12, rtol=1e-9)


def test_a_channel_that_is_alive_at_an_edge_alone_is_constant_in_the_windows_of_other_shifts():
    """What it is there, zero, was shifted by its mean: rounding alone makes it look as if it varied."""
    g, n = torch.Generator().manual_seed(0), 12
    x, y = torch.zeros(40, n, SIZE, SIZE), stack(targets_of(["H"]), SIZE - 2)
    x[:, :, :, 0] = 1e-3 * torch.rand(40, n, SIZE, generator=g)
    moments = Moments(1, 3, 0, x[:3].double().mean((0, 2, 3)))
    for part in x.split(3):
        moments.add(part, y)
    standard = Standard.of(moments)
    alive = (standard.scale > 0).view(3, 3, n)
    assert alive[:, 0].all()
    assert not alive[:, 1:].any()
    assert float(torch.linalg.eigvalsh(standard.products(moments)[0])[0]) >= -1e-12


def test_a_small_channel_beside_a_large_one_is_read():
    """What counts as constant is measured by the channel's own values, not by its neighbours'."""
    ramp = 1e-4 * torch.linspace(0, 1, SIZE).expand(6, 1, SIZE, SIZE)
    x = torch.cat([1e4 * torch.randn(6, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), ramp], 1)
    assert fitted((2,), x[:4], x[4:], targets_of(["H"])).best().loss[0] < 1e-6


def test_a_map_that_holds_the_column_is_read_out_exactly():
    ramp = torch.linspace(3, 9, SIZE).expand(SIZE, SIZE)
    x = torch.cat([ramp.expand(6, 1, SIZE, SIZE), torch.randn(6, 2, SIZE, SIZE)], 1)
    predicted = fitted((3,), x[:4], x[4:], targets_of(["H"])).best().predict({"f1": x})[:, 0]
    expected = torch.linspace(0, 1, SIZE, dtype=torch.float64).expand(6, SIZE, SIZE)
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", [(1, 2), (2, 0)])
def test_some_taps_are_read_from_the_products_of_all(order):
    x, held_out, targets = pictures(6, 6), pictures(4, 6, seed=1), targets_of(["H", "G"])
    channels = (2, 1, 3)
    every = group(*channels)
    fit, some = (
        RidgeFit(every, targets, kernel=3, padding=1, size=SIZE),
        Group("some", tuple(every.taps[i] for i in order)),
    )
    with pytest.raises(InputError, match="no pictures to fit"):
        fit.part(some)
    with pytest.raises(InputError, match="'all' has no f4"):
        fit.part(Group("more", group(*channels, 1).taps[2:]))
    fit.add(by_tap(x, channels))
    own = RidgeFit(some, targets, kernel=3, padding=1, size=SIZE)
    own.add(by_tap(x, channels))
    readouts = []
    for path in (fit.part(some).solve(), own.solve()):
        path.add(by_tap(held_out, channels))
        readouts.append(path.best())
    torch.testing.assert_close(readouts[0].weight, readouts[1].weight, rtol=1e-6, atol=1e-9)
    assert readouts[0].penalty == readouts[1].penalty
    assert fit.solve().weight.shape[1] == 6  # it is still there to be solved


def test_maps_of_any_size_are_brought_to_the_one_that_is_read(monkeypatch):
    """Some channels, or one picture, at a time; never a batch of all."""
    targets, taps = targets_of(["H", "G"]), group(3, 2).taps
    small = [{"f1": pictures(n, 3, seed=n), "f2": pictures(n, 2, seed=n)[..., :4, :6]} for n in (6, 3)]
    whole = [{name: resized(m, SIZE) for name, m in maps.items()} for maps in small]
    sizes, brought = [], features.resized
    monkeypatch.setattr(features, "AT_ONCE", 2)
    monkeypatch.setattr(features, "resized", lambda m, size: sizes.append(m.shape[:2]) or brought(m, size))
    found = []
    for fit, held_out in (small, whole):
        ridge = RidgeFit(Group("both", taps), targets, kernel=3, size=SIZE)
        ridge.add(fit)
        path = ridge.solve()
        path.checked = ridge_module.CHECKED  # the first pictures are looked at together
        path.add(held_out)
        found.append(path)
    assert torch.equal(found[0].losses, found[1].losses)
    assert {n for n, c in sizes if c > 2} == {1}


@pytest.mark.parametrize("own_goals", [False, True])
def test_the_losses_are_those_of_all_held_out_pictures_however_they_are_batched(own_goals):
    x, held_out, targets = pictures(6, 2), pictures(7, 2, seed=1), targets_of(["H", "G"])
    g = torch.Generator().manual_seed(0)
    goals = torch.rand(7, 2, SIZE - 2, SIZE - 2, generator=g, dtype=torch.float64) if own_goals else None
    found = []
    for sizes in ([7], [2, 5], [1] * 7):
        fit = RidgeFit(group(2), targets, kernel=3, size=SIZE)
        fit.add({"f1": x})
        path = fit.solve()
        for rows in torch.arange(7).split(sizes):
            path.add({"f1": held_out[rows]}, None if goals is None else goals[rows])
        assert path.checked == 4
        found.append(path.losses)
    wanted = stack(targets, SIZE - 2).expand(7, -1, -1, -1) if goals is None else goals
    predicted = functional.conv2d(held_out.double(), path.weight, path.bias).unflatten(1, (len(PENALTIES), 2))
    expected = (predicted - wanted[:, None]).square().sum((0, 3, 4))
    for losses in found:
        torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)


def test_wrong_arguments_say_what_to_give():
    targets = targets_of(["H"])
    with pytest.raises(InputError, match="kernel=0: give an odd"):
        RidgeFit(group(2), targets, kernel=0, size=SIZE)
    with pytest.raises(InputError, match="smaller kernel"):
        RidgeFit(group(2), targets, kernel=SIZE, size=SIZE)
    with pytest.raises(InputError, match="columns"):
        RidgeFit(group(2000), targets, kernel=3, size=SIZE)
    fit = RidgeFit(group(2), targets, kernel=1, size=SIZE)
    with pytest.raises(InputError, match="no pictures to fit"):
        fit.solve()
    with pytest.raises(InputError, match="not finite"):
        fit.add({"f1": torch.full((1, 2, SIZE, SIZE), float("nan"))})
    fit = RidgeFit(group(2), targets, kernel=1, size=SIZE)
    fit.add({"f1": pictures(2, 2)})
    with pytest.raises(InputError, match="held out"):
        fit.solve().best()
