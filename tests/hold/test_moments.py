"""The moments against slow sums over the design matrix."""

import numpy as np
import pytest
import torch

from small_design import SIZE, design, pictures
from whatwhere.errors import InputError
from whatwhere.hold import moments
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.moments import Moments, axis_of
from whatwhere.hold.ridge import RidgeFit, output_size
from whatwhere.hold.targets import stack, targets_of


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_moments_are_those_of_the_design_matrix(kernel, padding):
    x, y = pictures(4, 3), stack(targets_of(["H", "G"]), output_size(SIZE, kernel, padding))
    m = Moments(2, kernel, padding, torch.tensor([1.0, -2.0, 0.5]))
    m.add(x[:1], y)
    m.add(x[1:], y)
    a = design(x, kernel, padding) - np.tile([1.0, -2.0, 0.5], kernel * kernel)
    b = np.tile(y.reshape(2, -1).numpy().T, (4, 1))
    assert m.rows == len(a)
    np.testing.assert_allclose(m.products.numpy(), a.T @ a, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(m.cross.numpy(), a.T @ b, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(m.column_sums.numpy(), a.sum(0), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(m.target_products.numpy(), (b.astype(float) ** 2).sum(0), rtol=1e-12)


def test_targets_that_differ_between_pictures():
    g = torch.Generator().manual_seed(1)
    x, y = pictures(3, 2), torch.rand(3, 2, SIZE - 2, SIZE - 2, generator=g)
    m = Moments(2, 3, 0, torch.zeros(2))
    m.add(x, y)
    b = y.permute(0, 2, 3, 1).reshape(-1, 2).double().numpy()
    np.testing.assert_allclose(m.cross.numpy(), design(x, 3).T @ b, rtol=1e-12)
    np.testing.assert_allclose(m.target_sums.numpy(), b.sum(0), rtol=1e-12)


def test_parts_of_an_axis_tile_every_window():
    for size, kernel in [(9, 3), (7, 5), (4, 4), (6, 1)]:
        for difference in range(-kernel + 1, kernel):
            axis = axis_of(size, kernel, difference)
            for used, shift in zip(axis.uses, axis.first, strict=True):
                covered = [i for u, (a, b) in zip(used, axis.parts, strict=True) if u for i in range(a, b)]
                assert covered == list(range(shift, shift + size - kernel + 1))


def test_batches_add_up_and_memory_does_not_grow_with_pictures():
    x, y = pictures(5, 2), stack(targets_of(["H"]), SIZE - 2)
    whole, parts = (Moments(1, 3, 0, torch.zeros(2)) for _ in range(2))
    whole.add(x, y)
    for part in x.split(2):
        parts.add(part, y)
    assert parts.rows == whole.rows == 5 * (SIZE - 2) ** 2
    for name in ("column_sums", "products", "target_sums", "target_products", "cross"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-9)
    assert parts.products.shape == (18, 18)
    assert torch.equal(whole.products, whole.products.T)


def test_a_part_has_the_moments_of_its_channels():
    x, y = pictures(5, 4), stack(targets_of(["H", "G"]), SIZE - 2)
    channels = torch.tensor([3, 1])
    whole, own = Moments(2, 3, 0, torch.arange(4)), Moments(2, 3, 0, channels)
    whole.add(x, y)
    own.add(x[:, channels], y)
    part = whole.part(channels)
    assert part.rows == own.rows
    for name in ("shift", "column_sums", "products", "target_sums", "target_products", "cross"):
        torch.testing.assert_close(getattr(part, name), getattr(own, name), rtol=1e-12, atol=1e-9)
    before = {name: getattr(whole, name).clone() for name in ("target_sums", "target_products", "products", "cross")}
    part.add(x[:, channels], y)
    assert all(getattr(whole, name).equal(value) for name, value in before.items())


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("own_goals", [False, True])
def test_dead_channels_add_nothing_and_may_wake(padding, own_goals, monkeypatch):
    """Channels that are dead in a batch: at zero, at what is subtracted, and one between others that wakes later.

    What was never alive is not held.
    """
    x, size = pictures(4, 5), SIZE - 2 + 2 * padding
    x[:, 4], x[:, 3] = 0, 2.5
    x[:2, 1] = 0
    y = torch.rand(4, 2, size, size, generator=torch.Generator().manual_seed(0)) if own_goals else None
    same = stack(targets_of(["H", "G"]), size)
    shift = torch.tensor([1.0, 0.0, -2.0, 2.5, 0.0])
    found, alive = Moments(2, 3, padding, shift), []
    laid_out = found._laid_out
    monkeypatch.setattr(found, "_laid_out", lambda maps, at: alive.append(at.tolist()) or laid_out(maps, at))
    for rows in (slice(0, 2), slice(2, 4)):
        found.add(x[rows], same if y is None else y[rows])
    assert alive == ([[0, 2, 3], [0, 1, 2, 3]] if padding else [[0, 2], [0, 1, 2]])
    a = design(x, 3, padding) - np.tile(shift.numpy(), 9)
    goals = same.expand(4, -1, -1, -1) if y is None else y
    b = goals.permute(0, 2, 3, 1).reshape(-1, 2).double().numpy()
    columns = np.add.outer(5 * np.arange(9), alive[1]).flatten()
    assert not np.delete(a, columns, 1).any()
    a = a[:, columns]
    assert found.at.tolist() == alive[1]
    np.testing.assert_allclose(found.products.numpy(), a.T @ a, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.cross.numpy(), a.T @ b, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.column_sums.numpy(), a.sum(0), rtol=1e-12, atol=1e-9)
    part = found.part(torch.tensor([4, 2, 1]))
    assert part.at.tolist() == [1, 2]
    columns = np.add.outer(len(alive[1]) * np.arange(9), [alive[1].index(c) for c in (2, 1)]).flatten()
    np.testing.assert_allclose(part.products.numpy(), (a.T @ a)[np.ix_(columns, columns)], rtol=1e-12, atol=1e-9)


def test_read_outs_of_nothing_that_is_alive():
    dead = torch.zeros(3, 2, SIZE, SIZE)
    fit = RidgeFit(Group("f", (Tap("f", 2, (SIZE, SIZE)),)), targets_of(["H"]), kernel=3, size=SIZE)
    fit.add({"f": dead})
    path = fit.solve()
    path.add({"f": dead})
    torch.testing.assert_close(path.best().predict({"f": dead}), torch.full((3, 1, 7, 7), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("padding", [0, 1])
def test_channels_may_come_in_parts(padding):
    """Bit by bit what all channels at once give, also where a part is dead."""
    x, y, shift = pictures(4, 5), stack(targets_of(["H"]), SIZE - 2 + 2 * padding), torch.tensor([1.0, 0, 0, -2, 0])
    x[:, 1:3] = 0
    whole, parts = (Moments(1, 3, padding, shift) for _ in range(2))
    whole.add(x, y)
    parts.add(x.split([1, 2, 2], 1), y)
    assert parts.rows == whole.rows
    for name in ("column_sums", "products", "target_sums", "target_products", "cross"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


def test_long_rows_are_multiplied_as_they_lie(monkeypatch):
    x, y, found = pictures(5, 3), stack(targets_of(["H"]), SIZE - 4), []
    for long in (1, 10_000):
        monkeypatch.setattr(moments, "LONG", long)
        found.append(Moments(1, 5, 0, torch.zeros(3)))
        found[-1].add(x, y)
    torch.testing.assert_close(found[0].products, found[1].products, rtol=1e-13, atol=1e-10)


def test_what_cannot_be_added_is_refused():
    m, y = Moments(1, 3, 0, torch.zeros(2)), stack(targets_of(["H"]), SIZE)
    with pytest.raises(InputError, match=r"targets are \(9, 9\), the read-out's output is \(7, 7\)"):
        m.add(pictures(1, 2), y)
    with pytest.raises(InputError, match="not finite"):
        m.add(torch.full((1, 2, SIZE, SIZE), float("inf")), y)
    assert m.rows == 0
