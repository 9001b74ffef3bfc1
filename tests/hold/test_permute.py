"""Permuting channels: what moves, what is redrawn, what is saved."""

import copy

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.hold.permute import PermuteChannels, gap_net, permute_net
from whatwhere.models.weights import load_weights, save_weights


def coded(n=4, channels=12):
    """(n, channels), every entry different."""
    return torch.arange(n * channels, dtype=torch.float32).view(n, channels)


def order_of(y: torch.Tensor, x: torch.Tensor) -> list[int]:
    """Which column of x each column of y is, by looking at every pair of columns."""
    return [next(j for j in range(x.shape[1]) if torch.equal(y[:, i], x[:, j])) for i in range(y.shape[1])]


def test_one_order_for_the_whole_batch_and_another_in_every_pass():
    permute, x = PermuteChannels(), coded()
    orders = [order_of(permute(x), x) for _ in range(5)]
    assert all(sorted(o) == list(range(12)) for o in orders)
    assert len({tuple(o) for o in orders}) == 5


@pytest.mark.parametrize("training", [True, False])
def test_it_permutes_in_training_and_in_evaluation(training):
    permute, x = PermuteChannels().train(training), coded()
    assert any(order_of(permute(x), x) != list(range(12)) for _ in range(3))


def test_every_place_is_drawn_about_equally_often():
    permute, x, counts = PermuteChannels(seed=5), torch.arange(3.0).view(1, 3), torch.zeros(3, 3)
    for _ in range(3000):
        counts[torch.arange(3), permute(x)[0].long()] += 1
    assert ((counts / 3000 - 1 / 3).abs() < 0.04).all()  # 4.6 standard errors


def test_pooled_maps_keep_their_shape():
    x = coded()[:, :, None, None]
    y = PermuteChannels()(x)
    assert y.shape == x.shape
    assert torch.equal(y.flatten(1), PermuteChannels()(x.flatten(1)))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (5,), (2, 3, 1, 2)])
def test_what_still_has_positions_is_refused(shape):
    with pytest.raises(InputError, match=r"after the global average pool"):
        PermuteChannels()(torch.zeros(shape))


def test_where_the_draws_stand_is_saved_and_copied(tmp_path):
    x, permute = coded(), PermuteChannels(seed=1)
    permute(x)
    save_weights(permute, tmp_path / "w.safetensors")
    twin, loaded = copy.deepcopy(permute), PermuteChannels(seed=9)
    load_weights(loaded, tmp_path / "w.safetensors")
    expected = [order_of(permute(x), x) for _ in range(3)]
    assert [order_of(twin(x), x) for _ in range(3)] == expected
    assert [order_of(loaded(x), x) for _ in range(3)] == expected


def test_its_draws_are_its_own():
    x = coded()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = PermuteChannels(seed=2)(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(PermuteChannels(seed=2)(x), first)


def test_gap_net_is_the_linear_map_of_the_means():
    trunk = nn.Conv2d(3, 5, 3, padding=1)
    net, x = gap_net(trunk, channels=5, outputs=4, seed=3), torch.randn(2, 3, 8, 8)
    slow = torch.stack([net[-1].weight @ trunk(x)[i].mean((1, 2)) + net[-1].bias for i in range(2)])
    assert torch.allclose(net(x), slow, atol=1e-6)
    again = gap_net(trunk, channels=5, outputs=4, seed=3)
    assert torch.equal(again[-1].weight, net[-1].weight)


def test_permute_net_on_a_trunk_is_gap_net_with_its_columns_permuted():
    trunk, x = nn.Conv2d(3, 5, 3), torch.randn(2, 3, 8, 8)
    plain = gap_net(trunk, channels=5, outputs=4)
    shuffled = gap_net(trunk, channels=5, outputs=4, permute=True, seed=0)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(0))
    expected = plain[:3](x)[:, order] @ plain[-1].weight.T + plain[-1].bias
    assert torch.allclose(shuffled(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar/resnet20", "cifar/vgg11"])
def test_permute_net_of_a_network_follows_its_pool(name):
    net = ww.load_model(name, classes=9, width=0.25)
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    permuted, x = permute_net(net, seed=4), torch.randn(2, 3, 32, 32)
    assert isinstance(permuted, ww.Network)
    assert permuted.preprocessing == net.preprocessing
    assert sum(isinstance(m, PermuteChannels) for m in permuted.module.modules()) == 1
    with torch.no_grad():
        a, b, plain = permuted.module(x), permuted.module(x), net.module(x)
    assert not torch.equal(a, b)
    assert not torch.equal(a, plain)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items()), "the original is left alone"


def test_networks_without_a_global_pool_are_refused():
    with pytest.raises(InputError, match="no global average pool"):
        permute_net(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2)))
    with pytest.raises(InputError, match="channels=0"):
        gap_net(nn.Identity(), channels=0, outputs=2)
