"""Taps and the reader, against features computed by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.hold.features import Reader, rgb_tap, taps_of


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()


def names(taps):
    return [t.name for t in taps]


def test_levels_are_the_last_map_of_each_resolution():
    assert names(taps_of(small(), input_size=(3, 16, 16))) == ["1", "5"]
    vgg = ww.load_model("torchvision/vgg16", classes=10)
    assert names(taps_of(vgg)) == [f"features.{i}" for i in (3, 8, 15, 22, 29)]  # the authors' taps


def test_taps_come_in_the_order_of_their_outputs():
    squeeze = ww.load_model("torchvision/squeezenet1_1", classes=10)
    assert names(taps_of(squeeze)) == ["features.1", "features.4", "features.7", "features"]
    assert names(taps_of(squeeze, ["features", "features.4.expand3x3_activation", "features.4"])) == [
        "features.4.expand3x3_activation",
        "features.4",
        "features",
    ]


def test_a_resnets_levels_are_its_stages():
    net = ww.load_model("timm/resnet18")
    assert names(taps_of(net)) == ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert names(taps_of(net, "resnet")) == ["layer1", "layer2", "layer3", "layer4"]
    assert [t.channels for t in taps_of(net, "resnet")] == [64, 128, 256, 512]


def test_a_site_without_a_map_is_refused():
    with pytest.raises(InputError, match="has no map as its output"):
        taps_of(small(), "6", input_size=(3, 16, 16))


def test_features_are_what_the_network_computes():
    net, x = small(), torch.randn(2, 3, 16, 16)
    taps = [rgb_tap((3, 16, 16)), *taps_of(net, ["0", "1", "5"], input_size=(3, 16, 16))]
    with Reader(net, taps, size=28).reading() as read, torch.no_grad():
        maps = read(x)
    with torch.no_grad():
        first = net[0](x)
        relu = first.relu()
        last = net[4](net[3](functional.max_pool2d(relu, 2))).relu()
    expected = {"rgb": x, "0": first, "1": relu, "5": last}  # "0" is read before the in-place ReLU
    assert list(maps) == list(expected)
    for name, seen in expected.items():
        wanted = functional.interpolate(seen, size=(28, 28), mode="bilinear", align_corners=True)
        torch.testing.assert_close(maps[name], wanted)


def test_a_map_of_the_right_size_is_the_readers_own():
    net, x = small(), torch.randn(1, 3, 16, 16)
    (tap,) = taps_of(net, "0", input_size=(3, 16, 16))
    with Reader(net, [tap], size=16).reading() as read, torch.no_grad():
        torch.testing.assert_close(read(x)["0"], net[0](x))


def test_hooks_are_gone_after_an_exception():
    net = small()
    with pytest.raises(ZeroDivisionError), Reader(net, taps_of(net, input_size=(3, 16, 16))).reading():
        raise ZeroDivisionError
    assert not any(m._forward_hooks for m in net.modules())


def test_a_module_that_runs_twice_is_read_at_the_call_asked_for():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x)).mean((2, 3))

    torch.manual_seed(0)
    net, x = Twice().eval(), torch.randn(1, 3, 8, 8)
    taps = taps_of(net, ["conv#1", "conv#2"], input_size=(3, 8, 8))
    with Reader(net, taps, size=None).reading() as read, torch.no_grad():
        maps = read(x)
        torch.testing.assert_close(maps["conv#1"], net.conv(x))
        torch.testing.assert_close(maps["conv#2"], net.conv(net.conv(x)))


def test_tokens_are_laid_out_as_maps():
    net = ww.load_model("timm/vit_tiny_patch16_224", classes=2)
    (tap,) = taps_of(net, "levels")
    x = torch.randn(1, 3, 224, 224)
    with Reader(net, [tap], size=None).reading() as read, torch.no_grad():
        maps = read(x)[tap.name]
        tokens = net.module.blocks(net.module.norm_pre(net.module._pos_embed(net.module.patch_embed(x))))
    assert maps.shape == (1, 192, 14, 14)
    torch.testing.assert_close(maps[0, :, 2, 5], tokens[0, 1 + 2 * 14 + 5])
