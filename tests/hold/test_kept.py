"""The design matrix as an operator, against the matrix written out."""

import numpy as np
import pytest
import torch

from small_design import SIZE, design, pictures
from whatwhere.errors import InputError
from whatwhere.hold import kept as kept_module
from whatwhere.hold.features import Tap
from whatwhere.hold.kept import Design, Kept, inverse_spread, kept_bytes
from whatwhere.hold.targets import resized

TAPS = (Tap("a", 3, (SIZE, SIZE)), Tap("b", 2, (4, 6)))


def maps(n=5):
    g = torch.Generator().manual_seed(2)
    return {"a": pictures(n, 3), "b": torch.randn(n, 2, 4, 6, generator=g) + 3}


def kept(x, padding=0):
    """Shown in two parts; and the same features at one size, from which a matrix can be written out."""
    found = Kept(SIZE, padding)
    for rows in (slice(0, 3), slice(3, None)):
        found.add({name: m[rows] for name, m in x.items()})
    whole = torch.cat([resized(m.double(), SIZE) for m in x.values()], 1)
    return found, whole


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2)])
def test_the_operator_is_the_matrix_and_its_transpose(kernel, padding):
    found, whole = kept(maps(), padding)
    d = Design.of(found, TAPS, kernel)
    a = design(whole, kernel, padding)
    assert d.rows == len(a)
    np.testing.assert_allclose((d.mean + d.shift.repeat(kernel**2)).numpy(), a.mean(0), rtol=1e-6)
    np.testing.assert_allclose(d.scale.numpy(), 1 / a.std(0), rtol=1e-5)
    a -= a.mean(0)
    g = torch.Generator().manual_seed(0)
    w = torch.randn(a.shape[1], 2, generator=g, dtype=torch.float64)
    z = torch.randn(len(found), 2, d.out, d.out, generator=g, dtype=torch.float64)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    for dtype, near in ((torch.float64, 1e-5), (torch.float32, 1e-4)):  # features themselves are kept in float32
        got = torch.cat(d.times(w, d.mean, dtype)).permute(0, 2, 3, 1).reshape(-1, 2)
        np.testing.assert_allclose(got.numpy(), a @ w.numpy(), atol=near)
        np.testing.assert_allclose(d.transposed([z[:3], z[3:]], dtype).numpy(), a.T @ flat, atol=20 * near)


def test_the_centre_is_read_at_the_places_of_the_kernel():
    found, whole = kept(maps())
    a = design(whole, 3)[:, 4 * 5 : 5 * 5]  # the fifth of nine shifts
    w = torch.eye(5, dtype=torch.float64)
    centre = Design.of(found, TAPS, 3).centre()
    got = torch.cat(centre.times(w, centre.mean, torch.float64)).permute(0, 2, 3, 1).reshape(-1, 5)
    np.testing.assert_allclose(got.numpy(), a - a.mean(0), atol=1e-5)


def test_held_out_features_are_shifted_as_those_that_are_fitted():
    """Both are made before the first batch."""
    fit = Kept(SIZE)
    held_out = Kept(SIZE, shift=fit.shift)
    fit.add(maps())
    held_out.add({name: m + 10 for name, m in maps(2).items()})
    assert held_out.shift["a"].equal(fit.shift["a"])
    torch.testing.assert_close(
        held_out.parts[0]["b"], (maps(2)["b"].double() + 10 - fit.shift["b"].view(1, -1, 1, 1)).float()
    )


@pytest.mark.parametrize("padding", [0, 1])
def test_what_will_be_kept_is_known_beforehand(padding):
    found, _ = kept(maps(), padding)
    assert kept_bytes(TAPS, 5, SIZE, padding) == sum(m.nbytes for part in found.parts for m in part.values())


def test_features_lie_in_one_piece_of_memory_in_the_order_they_have(monkeypatch):
    """So that they go back to the system together; channels last stay last, for which products have other kernels."""
    x = maps()
    x["a"] = x["a"].contiguous(memory_format=torch.channels_last)
    plain, _ = kept(x)
    monkeypatch.setattr(kept_module, "AT_ONCE", 2)
    roomy = Kept(SIZE, room=kept_bytes(TAPS, 5, SIZE))
    for rows in (slice(0, 3), slice(3, None)):
        roomy.add({name: m[rows] for name, m in x.items()})
    assert len({m.untyped_storage().data_ptr() for part in roomy.parts for m in part.values()}) == 1
    for own, other in zip(roomy.parts, plain.parts, strict=True):
        assert all(torch.equal(own[name], other[name]) for name in own)
        assert all(own[name].stride() == other[name].stride() for name in own)
    for name in x:
        assert all(torch.equal(getattr(roomy, s)[name], getattr(plain, s)[name]) for s in ("sums", "squares", "shift"))


def test_a_channel_that_is_alive_at_an_edge_alone_is_constant_in_the_windows_of_other_shifts():
    x = torch.zeros(40, 12, SIZE, SIZE)
    x[:, :, :, 0] = 1e-3 * torch.rand(40, 12, SIZE, generator=torch.Generator().manual_seed(0))
    found = Kept(SIZE)
    for part in x.split(3):
        found.add({"a": part})
    alive = (Design.of(found, (Tap("a", 12, (SIZE, SIZE)),), 3).scale > 0).view(3, 3, 12)
    assert alive[:, 0].all()
    assert not alive[:, 1:].any()


def test_constant_columns_and_features_that_are_not_finite():
    level, spread = torch.tensor([1.0, 1e4, 0.0]), torch.tensor([1e-7, 2.0, 0.0])
    assert inverse_spread(spread, level, torch.zeros(3)).tolist() == [0.0, 0.5, 0.0]
    assert inverse_spread(spread, torch.zeros(3), level).tolist() == [0.0, 0.5, 0.0]
    assert inverse_spread(spread, -level, level).tolist() == [0.0, 0.5, 0.0]  # zero, but it was shifted
    with pytest.raises(InputError, match="not finite"):
        Kept(SIZE).add({"a": torch.full((1, 3, SIZE, SIZE), float("nan"))})
