"""Projection against least squares, and what stays of features and networks."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.position_out import Subspace, covariance_of, directions_of, one_site


def maps(n: int = 3, channels: int = 6) -> torch.Tensor:
    return torch.randn(n, channels, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def directions(count: int = 2, channels: int = 6) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_projection_is_the_residual_of_least_squares_at_every_position() -> None:
    x, w = maps(), directions()
    mean = x.mean((0, 2, 3))
    got = Subspace.of(w, mean).removed_from(x)
    for n in range(3):
        for i in range(4):
            for j in range(5):
                centred = x[n, :, i, j] - mean
                coefficients = torch.linalg.lstsq(w.T, centred).solution
                assert torch.allclose(got[n, :, i, j], mean + centred - w.T @ coefficients)


def test_the_read_out_that_was_taken_out_gives_one_value_and_the_mean_stays() -> None:
    x, w = maps(), directions()
    got = Subspace.of(w, x.mean((0, 2, 3))).removed_from(x)
    read = torch.einsum("tc,nchw->tnhw", w, got).flatten(1)
    assert torch.allclose(read, read[:, :1].expand_as(read))
    assert torch.allclose(got.mean((0, 2, 3)), x.mean((0, 2, 3)))


def test_dependent_directions_count_once_and_more_are_added() -> None:
    w = directions(2)
    space = Subspace.of(torch.cat([w, w.sum(0, keepdim=True), 0 * w]), torch.zeros(6))
    assert space.rank == 2
    more = space.with_also(torch.cat([w, maps()[0, :, 0, :2].T]))
    assert more.rank == 4
    assert torch.allclose(more.basis @ more.basis.T, torch.eye(4, dtype=torch.float64))
    assert torch.equal(more.removed_from(maps()), more.with_also(w).removed_from(maps()))


def test_all_directions_leave_the_mean() -> None:
    x = maps()
    mean, covariance = covariance_of(x.split(2))
    space = Subspace.random(6, mean, seed=0)
    assert torch.allclose(space.removed_from(x), mean[:, None, None].expand_as(x))
    assert space.share_of(covariance) == pytest.approx(1)
    flat = x.movedim(1, 0).flatten(1)
    assert torch.allclose(covariance, torch.cov(flat, correction=0))
    one = Subspace.of(torch.eye(6)[:1], mean)
    assert one.share_of(covariance) == pytest.approx(float(flat[0].var(correction=0) / flat.var(1, correction=0).sum()))


def test_random_directions_follow_the_seed() -> None:
    a, b, c = (Subspace.random(2, torch.zeros(6), seed).basis for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    with pytest.raises(InputError, match="rank=7: the features have 6 channels"):
        Subspace.random(7, torch.zeros(6), 0)


def test_only_a_one_by_one_read_out_is_directions() -> None:
    group = Group("a", (Tap("a", 6, (4, 5)),))
    weight = directions()[:, :, None, None]
    assert torch.equal(directions_of(LinearReadOut(group, 1, 0, weight, torch.zeros(2))), directions())
    with pytest.raises(InputError, match=r"a 3x3 read-out.*give a 1 x 1 read-out"):
        directions_of(LinearReadOut(group, 3, 0, weight.expand(2, 6, 3, 3), torch.zeros(2)))


def test_a_network_is_projected_for_a_while_and_then_what_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1)).double()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    inner = net[1](net[0](x))
    space = Subspace.of(directions(), inner.mean((0, 2, 3)))
    before = net(x)
    with ww.hold.projecting(net, "1", space) as projected:
        assert torch.allclose(net(x), net[2](space.removed_from(inner)))
    assert projected.ran["1 (output)"] == 1
    assert torch.equal(net(x), before)
    with pytest.raises(InputError, match="gives maps of 2 channels, and the directions are of 6"):  # noqa: SIM117
        with ww.hold.projecting(net, "2", space):
            net(x)


def test_class_tokens_are_left_alone() -> None:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2)
    x, seen = torch.rand(1, 3, 32, 32), []
    with torch.no_grad():
        plain = vit.eval().blocks[0](vit._pos_embed(vit.patch_embed(x)))
        vit.blocks[1].register_forward_pre_hook(lambda m, a: seen.append(a[0].clone()))
        with ww.hold.projecting(
            ww.Network(vit, input_size=(3, 32, 32)), "blocks.0", Subspace.of(torch.eye(12)[:3], torch.zeros(12))
        ):
            vit(x)
    tokens = seen[-1]  # those before are of the table of sites
    assert torch.allclose(tokens[:, 0], plain[:, 0])
    assert torch.allclose(tokens[:, 1:, 3:], plain[:, 1:, 3:])
    assert float(tokens[:, 1:, :3].abs().max()) < 1e-6


def test_one_site_is_asked_for() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert one_site(net, "1").name == "1"
    with pytest.raises(InputError, match=r"site='\*' names 2 sites \(0, 1\); give the name of one"):
        one_site(net, "*")
