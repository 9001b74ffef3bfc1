from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from whatwhere.errors import InputError
from whatwhere.hold.border import padding_pattern, rms_by_border
from whatwhere.hold.padding import with_padding
from whatwhere.models.cifar import make
from whatwhere.network import Network
from whatwhere.site_table import list_sites

NUMPY: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def drawn(n: int, channels: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, side, side, generator=generator, dtype=torch.double) + 0.7


# ---- the slow derivation, one convolution on one picture at a time


def convolved(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """(C, H, W), already padded."""
    weight, bias, s = conv.weight.detach().numpy(), conv.bias.detach().numpy(), conv.stride[0]  # type: ignore[union-attr]
    k = weight.shape[2]
    rows, columns = ((n - k) // s + 1 for n in x.shape[1:])
    y = np.zeros((len(weight), rows, columns))
    for o in range(len(weight)):
        for i in range(rows):
            for j in range(columns):
                y[o, i, j] = (weight[o] * x[:, i * s : i * s + k, j * s : j * s + k]).sum() + bias[o]
    return y


def by_hand(conv: nn.Conv2d, pictures: Tensor, margin: int) -> tuple[np.ndarray, float, list[float]]:
    p, s, fill = int(conv.padding[0]), conv.stride[0], NUMPY[conv.padding_mode]
    frame = ((0, 0), (p, p), (p, p))
    differences, features = [], []
    for x in pictures.numpy():
        small = convolved(np.pad(x[:, margin:-margin, margin:-margin], frame, mode=fill), conv)
        large = convolved(np.pad(x, frame, mode=fill), conv)
        o, (h, w) = margin // s, small.shape[1:]
        features.append(large[:, o : o + h, o : o + w])
        differences.append(small - features[-1])
    mean = np.mean(differences, 0)
    variance = np.var(differences, 0, ddof=1)
    signal = max(0.0, (mean**2 - variance / len(pictures)).sum())
    rms = np.sqrt(np.mean(np.square(features)))
    rings = []
    for d in range((min(h, w) + 1) // 2):
        ring = [
            v**2
            for c in mean
            for i, row in enumerate(c)
            for j, v in enumerate(row)
            if min(i, j, h - 1 - i, w - 1 - j) == d
        ]
        rings.append(np.sqrt(np.mean(ring)) / rms)
    return mean, signal / variance.sum(), rings


@pytest.mark.parametrize("fill", NUMPY)
@pytest.mark.parametrize(("k", "s", "p"), [(3, 1, 1), (3, 2, 1), (5, 1, 2)])
def test_one_convolution_by_hand(fill: Any, k: int, s: int, p: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, k, s, p, padding_mode=fill).double()
    pictures = drawn(5, 2, 10 + 2 * 4)
    (found,) = padding_pattern(nn.Sequential(conv), pictures.split(2), size=10, margin=4)
    pattern, snr, rings = by_hand(conv, pictures, 4)
    assert (found.site, found.n) == ("0", 5)
    np.testing.assert_allclose(found.pattern, pattern, atol=1e-12)
    np.testing.assert_allclose(found.snr, snr, rtol=1e-9)
    np.testing.assert_allclose(found.by_border, rings, atol=1e-12)
    assert found.by_border[0] > 0
    assert found.by_border[-1] == pytest.approx(0, abs=1e-12)  # padding does not reach the centre


def test_without_padding_there_is_no_pattern_at_all() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())
    pictures = drawn(4, 2, 16).float()
    for found in padding_pattern(net, [pictures], size=8, margin=4, sites="*"):
        assert not found.pattern.any()
        assert found.pattern.dtype == np.float64
        assert found.snr == 0
        assert found.by_border.tolist() == [0, 0, 0, 0]


def test_without_padding_a_network_of_strides_leaves_rounding_only() -> None:
    net: Any = with_padding(make("resnet20", classes=3, width=1 / 4).double().eval(), "none", input_size=(3, 96, 96))
    sites = ["conv1", "layers.0.0", "layers.0.2", "layers.1.0", "layers.1.2", "layers.2.0", "layers.2.2"]
    found = padding_pattern(net, [drawn(2, 3, 96 + 16)], size=96, margin=8, sites=sites)
    for f in found:
        assert f.by_border.max() < 1e-12
    assert [f.pattern.shape[1] for f in found] == [94, 90, 82, 38, 30, 12, 4]


def test_constant_pictures_have_no_noise() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    (found,) = padding_pattern(net, [torch.ones(3, 1, 12, 12)], size=8, margin=2)
    assert found.snr == float("inf")
    (found,) = padding_pattern(with_padding(net, "circular"), [torch.ones(3, 1, 12, 12)], size=8, margin=2)
    assert found.by_border.max() < 1e-6


def test_signal_is_unbiased_where_the_difference_is_noise() -> None:
    """Zero-mean pictures: padding does much to each of them, but nothing on average."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False)).double()
    found = [padding_pattern(net, [drawn(4, 1, 12, seed) - 0.7], size=8, margin=2)[0] for seed in range(20)]
    assert 0 <= np.mean([f.snr for f in found]) < 0.06  # variance / n alone would make it 0.25
    strong = padding_pattern(net, [drawn(400, 1, 12)], size=8, margin=2)[0]
    assert strong.snr > 0.2


def test_dead_features() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    (found,) = padding_pattern(net, [torch.ones(3, 1, 12, 12)], size=8, margin=2)
    assert (found.snr, found.by_border.tolist()) == (0, [0, 0, 0, 0])


def test_an_activation_in_place_does_not_rewrite_what_was_kept() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    pictures = [drawn(4, 2, 16)]
    alone = padding_pattern(nn.Sequential(conv), pictures, size=8, margin=4)[0]
    both = padding_pattern(nn.Sequential(conv, nn.ReLU(inplace=True)), pictures, size=8, margin=4, sites=["0", "1"])
    np.testing.assert_array_equal(alone.pattern, both[0].pattern)
    assert np.abs(both[0].pattern - both[1].pattern).max() > 1e-3


# ---- where


class Walk(nn.Module):
    """A pool called twice, maps in other layouts, and a head for one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1)
        self.last, self.norm = Permute([0, 2, 3, 1]), nn.LayerNorm(4)
        self.tokens = nn.Flatten(1, 2)
        self.mix = nn.Linear(4, 6)
        self.head = nn.Linear(6 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.last(self.pool(self.pool(self.stem(x)))))
        return self.head(self.mix(self.tokens(x)).flatten(1))


def test_layouts_calls_and_a_head_for_one_size() -> None:
    torch.manual_seed(0)
    net = Walk().double()
    pictures = drawn(3, 1, 32)
    names = ["pool#1", "pool#2", "last", "norm", "mix"]
    found = {f.site: f for f in padding_pattern(net, [pictures], size=16, margin=8, sites=names)}
    assert [(*f.pattern.shape,) for f in found.values()] == [(4, 8, 8), (4, 4, 4), (4, 4, 4), (4, 4, 4), (6, 4, 4)]
    with torch.no_grad():
        small, large = (net.pool(net.pool(net.stem(x))) for x in (pictures[:, :, 8:-8, 8:-8], pictures))
        expected = (small - large[:, :, 2:6, 2:6]).mean(0).numpy()
        np.testing.assert_allclose(found["pool#2"].pattern, expected, atol=1e-12)
        np.testing.assert_allclose(found["last"].pattern, expected, atol=1e-12)
        a, b = (net.mix(net.norm(net.last(x))).movedim(-1, 1) for x in (small, large))
        np.testing.assert_allclose(found["mix"].pattern, (a - b[:, :, 2:6, 2:6]).mean(0).numpy(), atol=1e-12)


def test_the_default_is_every_spatial_convolution() -> None:
    net = make("resnet20", classes=3, width=1 / 4)
    given = Network(net, input_size=(3, 32, 32))
    found = padding_pattern(given, [drawn(2, 3, 48).float()], size=32, margin=8)
    assert [f.site for f in found] == [s.name for s in list_sites(given).of_kind("conv")]
    assert net.training


def test_strides_are_known_behind_padded_pools_and_at_even_sizes() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, 2)
    ).double()
    pictures = [drawn(2, 1, 33 + 16)]
    for mode in ("zeros", "replicate"):
        found = padding_pattern(with_padding(net, mode, input_size=(1, 33, 33)), pictures, size=33, margin=8)  # type: ignore[arg-type]
        assert [f.pattern.shape[1] for f in found] == [17, 9, 4]
    with pytest.raises(InputError, match="the map of 3 has a position every 8 x 8 pixels; give a multiple of 8, such"):
        padding_pattern(net, [drawn(2, 1, 33 + 8)], size=33, margin=4)


def test_batches_are_streamed() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)).double()
    pictures = drawn(7, 2, 16) + 1e4  # far from zero: a sum of squares would cancel
    seen = []

    def one_by_one() -> Iterator[Tensor]:
        for picture in pictures.split(1):
            seen.append(len(picture))
            yield picture

    (a,) = padding_pattern(net, one_by_one(), size=8, margin=4)
    (b,) = padding_pattern(net, [pictures], size=8, margin=4)
    assert (len(seen), a.n, b.n) == (7, 7, 7)
    np.testing.assert_allclose(a.pattern, b.pattern, rtol=1e-9, atol=1e-9)
    assert a.snr == pytest.approx(b.snr, rel=1e-9)


def test_nothing_is_left_behind() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout()).train()
    shown, rng = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    padding_pattern(net, [drawn(3, 2, 16).float()], size=8, margin=4, sites="*")
    assert all(torch.equal(v, shown[k]) for k, v in net.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())


def test_rms_by_border() -> None:
    pattern = np.zeros((2, 3, 4))
    pattern[0, 0, 0], pattern[1, 1, 2] = 2.0, 3.0
    np.testing.assert_allclose(rms_by_border(pattern), [np.sqrt(4 / 20), np.sqrt(9 / 4)])


# ---- refused


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.max_pool2d(x, 3, 2, 1))


def test_a_functional_pool_needs_a_size_that_divides() -> None:
    net = Functional().double()
    (found,) = padding_pattern(net, [drawn(2, 1, 24)], size=16, margin=4)
    assert found.pattern.shape == (2, 8, 8)
    with pytest.raises(InputError, match="size=15: it is unclear how the 8 x 8 map of conv lies"):
        padding_pattern(net, [drawn(2, 1, 23)], size=15, margin=4)


CONV = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 2))


@pytest.mark.parametrize(
    ("pictures", "options", "message"),
    [
        ([torch.ones(2, 1, 12, 12)], {"margin": 0}, "size=8, margin=0"),
        ([torch.ones(2, 1, 12, 12)], {"size": 0}, "size=0, margin=2"),
        ([], {}, "pictures is empty"),
        ([torch.ones(1, 1, 12, 12)], {}, "fewer than 2"),
        ([torch.ones(2, 1, 13, 12)], {}, r"must be \(N, C, 12, 12\) for size=8 and margin=2, not \(2, 1, 13, 12\)"),
        (torch.ones(2, 1, 12, 12), {}, r"not \(1, 12, 12\); give an iterable"),
        (["a"], {}, "not str"),
        ([torch.ones(2, 1, 12, 12, dtype=torch.uint8)], {}, r"torch\.uint8; prepare them"),
        ([torch.ones(2, 1, 12, 12)], {"sites": "conv"}, "matches nothing"),
        ([torch.ones(2, 1, 12, 12)], {"sites": "2"}, "the output of 2 is not a map"),
        ([torch.ones(2, 1, 12, 12)], {"sites": "1"}, "the map of 1 is 4 x 4, and 4 x 4 instead of 6 x 6"),
    ],
)
def test_wrong_arguments(pictures: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        padding_pattern(CONV, pictures, **{"size": 8, "margin": 2, **options})


def test_networks_without_spatial_convolutions_or_for_one_size() -> None:
    with pytest.raises(InputError, match="sites=None takes the spatial convolutions"):
        padding_pattern(nn.Sequential(nn.Conv2d(1, 2, 1)), [torch.ones(2, 1, 12, 12)], size=8, margin=2)
    net = nn.Sequential(nn.LayerNorm([1, 8, 8]), nn.Conv2d(1, 2, 3, padding=1))
    with pytest.raises(InputError, match=r"does not run on the larger pictures, \(1, 12, 12\)"):
        padding_pattern(net, [torch.ones(2, 1, 12, 12)], size=8, margin=2)
