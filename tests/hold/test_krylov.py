"""Krylov spaces against the closed form, and the bound on what they leave against the exact solution."""

import numpy as np
import pytest
import torch

from small_design import SIZE, pictures
from whatwhere.errors import InputError
from whatwhere.hold import krylov
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.kept import Design, Kept
from whatwhere.hold.krylov import Goals, krylov_readout
from whatwhere.hold.ridge import PENALTIES, RidgeFit, output_size
from whatwhere.hold.targets import stack, targets_of

TARGETS = targets_of(["H", "G", "VS"])


def group(channels, size=SIZE):
    return Group("all", (Tap("f", channels, (size, size)),))


def goals_of(x, out, own):
    """The targets of every batch; with `own`, each picture's positions in an order of its own are three more."""
    plain = stack(TARGETS, out).expand(len(x), -1, -1, -1)
    g = torch.Generator().manual_seed(len(x))
    orders = torch.stack([torch.randperm(out * out, generator=g) for _ in range(len(x))])
    shuffled = plain.flatten(2).gather(2, orders[:, None].expand(-1, len(TARGETS), -1)).view_as(plain)
    return (torch.cat([plain, shuffled], 1) if own else plain).split(4)


def both(x, held_out, kernel=1, padding=0, own=False, size=SIZE, **options):
    """The read-out by the closed form, and by Krylov spaces."""
    g, out = group(x.shape[1], size), output_size(size, kernel, padding)
    goals = Goals(goals_of(x, out, own), goals_of(held_out, out, own))
    path = RidgeFit(g, TARGETS * (1 + own), kernel=kernel, padding=padding, size=size)
    fit = Kept(size, padding)
    for part, wanted in zip(x.split(4), goals.fit, strict=True):
        path.add({"f": part}, wanted)
        fit.add({"f": part})
    solved, seen = path.solve(), Kept(size, padding, fit.shift)
    for part, wanted in zip(held_out.split(4), goals.held_out, strict=True):
        solved.add({"f": part}, wanted)
        seen.add({"f": part})
    return solved.best(), krylov_readout(g, kernel, padding, fit, seen, goals, 1 + own, **options)


def assert_alike(closed, iterated, x, near=2e-4):
    assert iterated.penalty == pytest.approx(closed.penalty)
    for name in ("loss", "centre_loss", "spread"):
        assert getattr(iterated, name) == pytest.approx(getattr(closed, name), rel=near)
    a, b = (r.predict({"f": x}) for r in (closed, iterated))
    assert float((a - b).square().mean((0, 2, 3)).sqrt().amax()) < near


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2)])
def test_the_readout_is_that_of_the_closed_form(kernel, padding):
    x, held_out = pictures(6, 4), pictures(5, 4, seed=1)
    assert_alike(*both(x, held_out, kernel, padding), held_out)
    assert_alike(*both(x, held_out, kernel, padding, tiny=False), held_out)


def test_shuffled_positions_have_a_space_of_their_own():
    x, held_out = pictures(6, 4), pictures(5, 4, seed=1)
    assert_alike(*both(x, held_out, 3, own=True), held_out)


def test_features_of_few_dimensions_are_read_with_the_smallest_penalties():
    """Fifty channels that mix six, of very different sizes: eigenvalues over ten orders, products in float64."""
    g = torch.Generator().manual_seed(4)
    mixing = torch.randn(50, 8, generator=g) * torch.logspace(0, -4, 8)
    ramps = torch.stack([torch.linspace(0, 1, SIZE).expand(SIZE, SIZE) ** p for p in (1, 2)])
    x = torch.cat([pictures(14, 6), 0.1 * ramps.expand(14, -1, -1, -1)], 1)
    x = torch.einsum("kc,nchw->nkhw", mixing, x)
    closed, iterated = both(x[:10], x[10:], 3)
    assert min(closed.penalty) < 1e-4
    assert both(x[:10], x[10:], 3, tiny=False)[1] is None
    for a, b in zip(closed.loss, iterated.loss, strict=True):
        assert b == pytest.approx(a, rel=0.01)


def test_what_a_space_leaves_is_within_its_bound():
    """Every penalty at every step: predictions of the pictures that were fitted, beside the exact solution's."""
    x = pictures(6, 6)
    fit, out = Kept(SIZE), SIZE - 2
    fit.add({"f": x})
    goals = Goals([torch.cat(goals_of(x, out, False))], [torch.cat(goals_of(x, out, False))])
    d = Design.of(fit, group(6).taps, 3)
    space = krylov._Space(d, d, goals, torch.float64)
    a = torch.cat(d.times(torch.eye(54, dtype=torch.float64) * d.scale[:, None], d.mean, torch.float64))
    a = a.transpose(0, 1).flatten(1).T.numpy()
    y = krylov._rows(space.fit_goals).numpy().T
    exact = {p: np.linalg.solve(a.T @ a / len(a) + p * np.eye(54), a.T @ y / len(a)) for p in PENALTIES.tolist()}
    seen = 0
    for _ in range(8):
        space.step()
        weights, settled, largest = space._solutions()
        assert largest <= np.linalg.eigvalsh(a.T @ a / len(a))[-1] * (1 + 1e-9)
        for i, t in settled.nonzero().tolist():
            w = (space.basis @ weights[:, i, t]).numpy()
            assert np.mean((a @ (w - exact[float(PENALTIES[i])][:, t])) ** 2) <= krylov.SETTLED * float(space.spread[t])
        seen += int(settled.sum())
    assert 0 < seen < 8 * settled.numel()


def test_a_space_that_holds_all_columns_is_exact():
    closed, iterated = both(pictures(6, 2), pictures(5, 2, seed=1))
    torch.testing.assert_close(iterated.weight, closed.weight, rtol=1e-5, atol=1e-7)


def test_a_constant_channel_changes_nothing():
    x = pictures(11, 2)
    x = torch.cat([x, torch.full_like(x[:, :1], 7.3)], 1)
    iterated = both(x[:6], x[6:])[1]
    assert iterated.weight[:, 2].abs().max() == 0


def test_what_cannot_be_read_is_refused(monkeypatch):
    x = pictures(6, 4)
    fit, goals = Kept(SIZE), Goals(goals_of(x, SIZE, False), goals_of(x, SIZE, False))
    with pytest.raises(InputError, match="0 pictures to fit and 0 held out"):
        krylov_readout(group(4), 1, 0, fit, Kept(SIZE), goals)
    monkeypatch.setattr(krylov, "BELIEVED", -1)
    with pytest.raises(InputError, match="no 1x1 read-out of all can be trusted"):
        both(x[:4], x[4:])
