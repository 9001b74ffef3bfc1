import math

import pytest
import torch
from torch import nn

from whatwhere.errors import InputError
from whatwhere.models.cifar import CIFAR_MODELS, CifarVGG, initialise, make, scaled

SLIM = 1 / 16


@pytest.mark.parametrize(
    ("name", "convs", "linears"),
    [
        ("vgg11", 8, 3),
        ("vgg16", 13, 3),
        ("resnet20", 19 + 2, 1),
        ("resnet32", 31 + 2, 1),
        ("resnet56", 55 + 2, 1),  # + projections
        ("resnet50", 49 + 4, 1),
        ("resnet152", 151 + 4, 1),
        ("densenet22", 21, 1),
        ("densenet40", 39, 1),
        ("densenet100", 99, 1),
        ("bagnet4", 1 + 6, 1),
    ],
)
def test_depths_counted_by_hand(name: str, convs: int, linears: int) -> None:
    net = make(name, classes=7, width=SLIM)
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == convs
    assert sum(isinstance(m, nn.Linear) for m in net.modules()) == linears
    assert net.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_every_model_is_counted() -> None:
    resnets = {"resnet20", "resnet32", "resnet56", "resnet50", "resnet152"}
    densenets = {"densenet22", "densenet40", "densenet100"}
    assert set(CIFAR_MODELS) == {"vgg11", "vgg16", *resnets, *densenets, "bagnet4"}


def test_vgg16_has_the_papers_widths_and_head() -> None:
    with torch.device("meta"):
        net = CifarVGG(16, classes=100)
    convs = [m.out_channels for m in net.features if isinstance(m, nn.Conv2d)]
    assert convs == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    linears = [m for m in net.classifier if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(512, 4096), (4096, 4096), (4096, 100)]
    assert not any(isinstance(m, nn.Dropout) for m in net.modules())


def test_resnet_parameters_by_hand() -> None:
    """ResNet-20 of He et al. 2016, with two projections: 0.27 million parameters."""

    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + 2 * o  # with its batch norm

    by_hand = conv(3, 16, 3) + 6 * conv(16, 16, 3)
    for i, o in ((16, 32), (32, 64)):
        by_hand += conv(i, o, 3) + 5 * conv(o, o, 3) + conv(i, o, 1)
    by_hand += 64 * 10 + 10
    assert sum(p.numel() for p in make("resnet20", classes=10).parameters()) == by_hand


@pytest.mark.parametrize(("name", "shapes"), [("resnet20", [32, 16, 8]), ("resnet50", [32, 16, 8, 4])])
def test_the_stem_keeps_the_resolution_and_stages_halve_it(name: str, shapes: list[int]) -> None:
    net = make(name, classes=3, width=SLIM).eval()
    x = net.relu(net.bn1(net.conv1(torch.zeros(1, 3, 32, 32))))
    sides = []
    for stage in net.layers:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == shapes


def test_a_stage_ends_in_a_pool_or_a_stride() -> None:
    pools, strides = (make("vgg16", classes=3, width=SLIM, stage_end=e) for e in ("max_pool", "stride"))
    assert sum(isinstance(m, nn.MaxPool2d) for m in pools.modules()) == 5
    assert not any(isinstance(m, nn.MaxPool2d) for m in strides.modules())
    convs = [m for m in strides.features if isinstance(m, nn.Conv2d)]
    assert [i for i, m in enumerate(convs) if m.stride == (2, 2)] == [1, 3, 6, 9, 12]
    x = torch.zeros(1, 3, 32, 32)
    assert pools.eval().features(x).shape == strides.eval().features(x).shape == (1, 32, 1, 1)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 0.5, 32), (64, 0.01, 4), (10, 0.25, 4), (30, 0.25, 8), (64, 2, 128)]
)
def test_width_scales_at_least_to_four(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


def test_seeds_are_bit_reproducible_and_leave_the_global_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a = make("resnet20", seed=1, classes=3, width=0.25)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    b, c = (make("resnet20", seed=s, classes=3, width=0.25) for s in (1, 2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.conv1.weight, c.conv1.weight)


def test_other_channels() -> None:
    for name in ("vgg11", "resnet20"):
        assert make(name, classes=3, width=SLIM, channels=1).eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(InputError, match=r"depth=13.*\[11, 16\]"):
        CifarVGG(13, classes=3)


def test_initialisation_is_hes() -> None:
    torch.manual_seed(0)
    net = initialise(nn.Sequential(nn.Conv2d(64, 96, 3), nn.Flatten(), nn.Linear(200, 150), nn.Linear(150, 10)))
    assert net[0].weight.std().item() == pytest.approx(math.sqrt(2 / (96 * 9)), rel=0.03)
    assert net[2].weight.std().item() == pytest.approx(math.sqrt(2 / 200), rel=0.03)
    assert not net[0].bias.any()
    assert not net[2].bias.any()
    assert net[3].weight.abs().max().item() <= 1 / math.sqrt(150)  # the last layer keeps torch's own


def test_densenet_bc_has_the_published_size():
    # Huang et al. 2017, table 2: DenseNet-BC, L = 100, k = 12, has 0.8 million parameters.
    net = make("densenet100", classes=10)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(0.8e6, rel=0.05)
    net.eval()
    with torch.no_grad():
        assert net.features(torch.zeros(1, 3, 32, 32)).shape[2:] == (8, 8)
        assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
