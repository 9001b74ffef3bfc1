"""Receptive fields against arithmetic by hand: linear networks exactly, plain stacks by the bound that their sizes give."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.receptive import radius


def pictures(n: int = 4, side: int = 33) -> Data:
    images = torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Data("noise", {"test": Split("test", Memory(images), torch.full((n,), -1), [])})


def uniform(depth: int, kernel: int, channels: int = 1) -> nn.Sequential:
    """Convolutions whose weights are all equal, without bias or activation."""
    sizes = [3, *[channels] * depth]
    net = nn.Sequential(
        *(nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False) for a, b in itertools.pairwise(sizes))
    )
    for p in net.parameters():
        nn.init.constant_(p, 0.1)
    return net


def held_by_hand(weights: list[float], share: float) -> float:
    """The radius of a separable distribution around its middle, by a loop over its pixels."""
    middle = len(weights) // 2
    pixels = sorted(
        (math.hypot(i - middle, j - middle), a * b) for i, a in enumerate(weights) for j, b in enumerate(weights)
    )
    total, held = sum(w for _, w in pixels), 0.0
    for distance, weight in pixels:
        held += weight
        if held >= share * total - 1e-9:
            return distance
    raise AssertionError


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_uniform_linear_convolutions_are_exact(depth: int) -> None:
    weights = [1.0]
    for _ in range(depth):  # the product of polynomials 1 + x + x²
        weights = [sum(weights[k] for k in (i - 2, i - 1, i) if 0 <= k < len(weights)) for i in range(len(weights) + 2)]
    assert len(weights) == 2 * depth + 1
    found = ww.receptive_fields(uniform(depth, 3), pictures(), pictures=3)[str(depth - 1)]
    for estimate, share in ((found.r50, 0.5), (found.r95, 0.95)):
        expected = held_by_hand(weights, share)
        assert estimate.mean == pytest.approx(expected, abs=1e-4)
        assert estimate.low == pytest.approx(expected, abs=1e-3)  # a linear network sees all pictures alike
        assert estimate.high == pytest.approx(expected, abs=1e-3)
    assert found.extent == (2 * depth + 1, 2 * depth + 1)
    assert not found.whole


def test_several_channels_of_opposite_sign_do_not_hide_each_other() -> None:
    net = uniform(1, 3, channels=2)
    with torch.no_grad():
        net[0].weight[1] *= -1  # the plain sum of both is 0
    assert ww.receptive_fields(net, pictures(), pictures=16)["0"].extent == (3, 3)
    normed = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(1, 6, affine=False))
    assert ww.receptive_fields(normed, pictures(2))["0"].extent == (3, 3)
    assert ww.receptive_fields(normed, pictures(2))["1"].whole  # its statistics are of the whole map


def test_no_field_is_larger_than_sizes_allow() -> None:
    """1 + the sum over layers of (kernel - 1) times the strides before: 3, 5 (pool), 9, 17."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.Conv2d(4, 4, 3)
    )
    bounds = {"0": 3, "1": 3, "2": 5, "3": 9, "4": 17}
    found = ww.receptive_fields(net, pictures(16), pictures=16)
    for site, bound in bounds.items():
        assert max(found[site].extent) <= bound
        assert found[site].r50.mean <= found[site].r95.mean <= bound / math.sqrt(2)
    assert found["4"].extent == (17, 17)
    assert found["0"].extent == (3, 3)


class Gate(nn.Module):
    """A gate on the pooled map, as of squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * self.gate(y.mean((2, 3))).sigmoid()[:, :, None, None]


def test_behind_a_gate_all_is_seen_and_before_it_is_not() -> None:
    found = ww.receptive_fields(nn.Sequential(Gate(), nn.Conv2d(4, 2, 1)), pictures(2))
    assert (found["0"].whole, found["1"].whole) == (True, True)
    assert found["0.conv"].extent == (3, 3)
    assert "all" in str(found)
    assert repr(found) == f"<ReceptiveFields, {len(found.fields)} rows: {found.network}>"


def test_attention_sees_all_and_its_patches_do_not() -> None:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2)
    net = ww.Network(vit, ww.Preprocessing(), "vit", (3, 32, 32))
    found = ww.receptive_fields(net, pictures(2, 32), ["patch_embed.proj", "blocks.0"])
    assert found["patch_embed.proj"].extent == (8, 8)
    assert found["blocks.0"].whole


def test_the_network_is_what_it_was_and_the_same_seed_gives_the_same(trained: ww.Network) -> None:
    before = {k: v.clone() for k, v in trained.module.state_dict().items()}
    gradients = [p.grad for p in trained.module.parameters()]  # what its training left
    first, again = (ww.receptive_fields(trained, pictures(3, 32), "features*") for _ in "ab")
    assert first == again
    assert all(torch.equal(v, before[k]) for k, v in trained.module.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in trained.module.modules())
    assert all(p.grad is g for p, g in zip(trained.module.parameters(), gradients, strict=True))


def test_a_calls_field_is_that_of_the_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    found = ww.receptive_fields(Twice(), pictures(2))
    assert [found[name].extent for name in ("conv#1", "conv#2")] == [(3, 3), (5, 5)]


def test_the_radius_of_a_ring_and_of_a_point() -> None:
    mass = np.zeros((9, 9))
    mass[4, 4] = 1
    assert radius(mass, 0.95) == 0
    mass[4, 4], mass[4, 1], mass[4, 7] = 1, 1, 1
    assert [radius(mass, share) for share in (0.3, 0.5, 0.95)] == [0, 3, 3]


def test_what_cannot_be_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="pictures: there is 1"):
        ww.receptive_fields(net, pictures(1))
    with pytest.raises(InputError, match="sites='1': 1 gives no map"):
        ww.receptive_fields(net, pictures(2), "1")

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()

    with pytest.raises(InputError, match="0: what leaves it does not follow from the picture"):
        ww.receptive_fields(nn.Sequential(Rounded(), nn.Conv2d(3, 2, 1)), pictures(2), "0")


def test_a_field_that_shows_in_one_picture_alone_has_no_interval() -> None:
    """A layer that is silent but for one picture: without that one there is nothing."""
    conv = nn.Conv2d(3, 1, 3, padding=1)
    nn.init.constant_(conv.weight, 1.0)
    nn.init.constant_(conv.bias, -10.0)
    images = torch.zeros(4, 3, 5, 5, dtype=torch.uint8)
    images[2] = 255
    split = Split("test", Memory(images), torch.full((4,), -1))
    with pytest.raises(InputError, match=r"1: its middle position depends on the picture in one of \d+ groups"):
        ww.receptive_fields(nn.Sequential(conv, nn.ReLU()).eval(), Data("d", {"test": split}), ["1"], pictures=4)
