from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.models.pspnet import PSPNet, Pyramid, dilated

SLIM: dict[str, Any] = {"classes": 5, "width": 0.1}


def slim(**options: Any) -> PSPNet:
    torch.manual_seed(0)
    return PSPNet("resnet10t", **{**SLIM, **options})


@pytest.mark.parametrize("size", [(32, 48), (37, 61), (65, 33)])
def test_scores_have_the_inputs_size(size: tuple[int, int]) -> None:
    net, x = slim().eval(), torch.randn(2, 3, *size)
    with torch.no_grad():
        assert net(x).shape == (2, 5, *size)
        scores, auxiliary = net.train()(x)
    assert scores.shape == auxiliary.shape == (2, 5, *size)


def test_both_heads_read_maps_of_stride_eight() -> None:
    net = slim().eval()
    early, late = net.backbone(torch.zeros(1, 3, 64, 96))
    assert early.shape[2:] == late.shape[2:] == (8, 12)
    assert net.backbone.feature_info.channels() == [early.shape[1], late.shape[1]] == [24, 52]
    assert net.fuse[0].in_channels == 2 * 52


def test_scores_are_those_of_the_parts() -> None:
    net, x = slim().eval(), torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        _, late = net.backbone(x)
        small = net.classify(net.fuse(net.pyramid(late)))
        assert torch.equal(net(x), functional.interpolate(small, (32, 40), mode="bilinear", align_corners=False))


def test_every_parameter_learns() -> None:
    net = slim(dropout=0.0).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts each block's last at 0
            nn.init.ones_(module.weight)
    scores, auxiliary = net(torch.randn(2, 3, 32, 48))
    (scores.square().mean() + auxiliary.square().mean()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def by_hand(x: Tensor, pyramid: Pyramid) -> Tensor:
    """Means over cells pixel by pixel, a matrix product for the convolution, and bilinear weights written out."""
    parts = [x]
    n, c, h, w = x.shape
    for cells, level in zip(pyramid.bins, pyramid.levels, strict=True):
        means = torch.zeros(n, c, cells, cells)
        for i in range(cells):
            for j in range(cells):
                top, bottom = i * h // cells, -(-(i + 1) * h // cells)
                left, right = j * w // cells, -(-(j + 1) * w // cells)
                means[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
        layers: Any = level
        conv, norm = layers[0], layers[1]
        y = torch.einsum("oc,ncij->noij", conv.weight[:, :, 0, 0], means)
        scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
        y = ((y - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)
        parts.append(torch.einsum("ri,noij,sj->nors", between(cells, h), y, between(cells, w)))
    return torch.cat(parts, 1)


def between(cells: int, size: int) -> Tensor:
    """(size, cells): the weight of each cell at each pixel's centre."""
    weights = torch.zeros(size, cells)
    for r in range(size):
        at = min(max((r + 0.5) * cells / size - 0.5, 0), cells - 1)
        low = min(int(at), cells - 1)
        weights[r, low] += 1 - (at - low)
        weights[r, min(low + 1, cells - 1)] += at - low
    return weights


@pytest.mark.parametrize("size", [(6, 6), (7, 11), (4, 5)])
def test_the_pyramid_is_means_over_cells(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(8).train()
    for _ in range(2):  # running statistics of their own
        pyramid(torch.randn(3, 8, 6, 6))
    pyramid.eval()
    for norm in (m for m in pyramid.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 8, *size)
    with torch.no_grad():
        found = pyramid(x)
        assert found.shape == (2, 16, *size)
        assert torch.allclose(found, by_hand(x, pyramid), atol=1e-5)


def conv(i: int, o: int, k: int) -> int:
    return i * o * k * k + 2 * o  # with its batch norm


@pytest.mark.parametrize(
    ("width", "stages"), [(1.0, (64, 128, 256, 512)), (0.25, (16, 32, 64, 128)), (0.1, (16, 16, 24, 52))]
)
def test_parameters_by_hand(width: float, stages: tuple[int, ...]) -> None:
    """ResNet-18: two blocks of two convolutions a stage, and a projection where stride or channels change."""
    expected, before = conv(3, 64, 7), 64
    for number, channels in enumerate(stages):
        expected += conv(before, channels, 3) + 3 * conv(channels, channels, 3)
        expected += conv(before, channels, 1) if before != channels or number else 0
        before = channels
    auxiliary, last = stages[2:]
    expected += 4 * conv(last, last // 4, 1) + conv(2 * last, last // 4, 3) + (last // 4 + 1) * 7
    expected += conv(auxiliary, auxiliary // 4, 3) + (auxiliary // 4 + 1) * 7
    with torch.device("meta"):
        assert sum(p.numel() for p in PSPNet("resnet18", classes=7, width=width).parameters()) == expected


@pytest.mark.parametrize("width", [1e-3, 0.07, 0.33, 0.6])
def test_any_width_can_be_built_and_trained(width: float) -> None:
    """Channels are shared by the pyramid's levels; fewer than 16 crash torch's convolutions in channels-last memory."""
    with torch.device("meta"):
        net = PSPNet("resnet10t", classes=2, width=width)
    channels = [m.out_channels for m in net.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert min(channels) >= 16
    assert all(c % 4 == 0 for c in net.backbone.feature_info.channels())


def test_a_seed_decides_every_weight() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = load_model("pspnet/resnet10t", seed=1, **SLIM)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again, other = (load_model("pspnet/resnet10t", seed=s, **SLIM).module.state_dict() for s in (1, 2))
    assert all(torch.equal(v, again[k]) for k, v in first.module.state_dict().items())
    assert not torch.equal(again["fuse.0.weight"], other["fuse.0.weight"])
    assert (first.name, first.input_size, first.module.training) == ("pspnet/resnet10t", (3, 96, 128), False)
    assert first.preprocessing.mean == (0.485, 0.456, 0.406)


def test_pascals_classes_unless_told() -> None:
    net = load_model("pspnet/resnet10t", width=0.1)
    assert net.module.classify[1].out_channels == net.module.auxiliary[1].out_channels == 21  # type: ignore[index, union-attr]


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(InputError, match=r"backbone='resnet_18' matches nothing.* 'resnet18'"):
        dilated("resnet_18", 1.0, False)
    with pytest.raises(InputError, match=r"backbone='vgg16' matches nothing"):
        load_model("pspnet/vgg16")
    with pytest.raises(InputError, match=r"backbone='resnet18\.a1_in2k' matches nothing.* 'resnet18\.a1_in1k'"):
        dilated("resnet18.a1_in2k", 1.0, False)
    with pytest.raises(InputError, match=r"width=0\.5: timm's weights are for width 1"):
        load_model("pspnet/resnet18", width=0.5, pretrained=True)
    with pytest.raises(InputError, match=r"bins=\(1, 2, 3\): 8 channels cannot be shared evenly by 3 levels"):
        Pyramid(8, (1, 2, 3))
