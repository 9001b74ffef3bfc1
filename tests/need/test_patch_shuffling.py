"""Patches of the input against slow loops, and what must stay as it was."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.need.patch_shuffling import with_patches_at


def pictures(n: int = 3, height: int = 12, width: int = 8) -> torch.Tensor:
    return torch.rand(n, 2, height, width, generator=torch.Generator().manual_seed(0))


def pieces(picture: torch.Tensor, rows: int, columns: int) -> list[torch.Tensor]:
    """Patches (C, h, w), row by row, by slicing."""
    h, w = picture.shape[1] // rows, picture.shape[2] // columns
    return [picture[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(rows) for j in range(columns)]


class Seen(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (4, 4), (12, 8)])
@pytest.mark.parametrize("last", [False, True])
def test_each_patch_comes_whole_to_its_new_place(grid: tuple[int, int], last: bool) -> None:
    x, count = pictures(), grid[0] * grid[1]
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    orders = torch.stack([torch.randperm(count, generator=torch.Generator().manual_seed(i)) for i in range(len(x))])
    moved = with_patches_at(x, orders, grid)
    for before, after, order in zip(x, moved, orders, strict=True):
        old, new = pieces(before, *grid), pieces(after, *grid)
        assert all(torch.equal(new[i], old[int(order[i])]) for i in range(count))
    assert moved.is_contiguous(memory_format=torch.channels_last) is last


def order_of(before: torch.Tensor, after: torch.Tensor, grid: int) -> list[int]:
    old, new = pieces(before, grid, grid), pieces(after, grid, grid)
    return [next(i for i, o in enumerate(old) if torch.equal(o, n)) for n in new]


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_orders_are_each_pictures_own_or_shared_and_drawn_anew(scope: str) -> None:
    net, x = Seen(), pictures(6, 12, 12)
    with ww.need.shuffle_patches(net, 3, scope=scope, seed=1) as cut:  # type: ignore[arg-type]
        passes = [[order_of(b, a, 3) for b, a in zip(x, net(x), strict=True)] for _ in range(2)]
    assert cut.ran == {"input": 2}
    for orders in passes:
        assert all(sorted(order) == list(range(9)) for order in orders)
        assert len({tuple(o) for o in orders}) == (1 if scope == "batch" else 6)
    assert passes[0] != passes[1]
    with ww.need.shuffle_patches(net, 3, scope=scope, seed=1):  # type: ignore[arg-type]
        assert [order_of(b, a, 3) for b, a in zip(x, net(x), strict=True)] == passes[0]


def test_the_network_is_what_it_was_afterwards() -> None:
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), pictures(2, 8, 8)
    before, state = net(x), torch.get_rng_state()
    with ww.need.shuffle_patches(net, 2):
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not net._forward_pre_hooks


def test_a_grid_of_one_changes_nothing() -> None:
    x = pictures()
    with ww.need.shuffle_patches(net := Seen(), 1):
        assert torch.equal(net(x), x)


def test_a_mean_over_space_does_not_see_it() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = net(pictures())
    with ww.need.shuffle_patches(net, (3, 4)):
        assert torch.allclose(net(pictures()), before, atol=1e-6)


def test_acting_in_one_mode_only() -> None:
    net = Seen()
    with ww.need.shuffle_patches(net, 4, when="train"):
        assert torch.equal(net.eval()(pictures()), pictures())
        assert not torch.equal(net.train()(pictures()), pictures())


def test_a_grid_that_does_not_divide_the_picture_is_refused() -> None:
    with (
        ww.need.shuffle_patches(net := Seen(), 5),
        pytest.raises(InputError, match=r"grid=5 does not divide a picture of 12 x 8 pixels; grids that do: 2, 4\."),
    ):
        net(pictures())


@pytest.mark.parametrize("grid", [0, -1, 2.0, True, (2,), (2, 0), "4"])
def test_what_is_no_grid_is_refused(grid: object) -> None:
    with pytest.raises(InputError, match="grid="):
        ww.need.shuffle_patches(Seen(), grid)  # type: ignore[arg-type]


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(InputError, match=r"scope='picture'.*sample, batch"):
        ww.need.shuffle_patches(Seen(), 2, scope="picture")  # type: ignore[arg-type]
