"""A bottleneck put into networks: everything behind it rests on it alone."""

import copy

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.say.layer import Bottleneck, layer_of, overwriting

SIZE = (3, 32, 48)


class Skipping(nn.Module):
    """A path past the second stage that is as faint as asked."""

    def __init__(self, net, faint):
        super().__init__()
        self.net, self.skip, self.faint = net, nn.Conv2d(16, 4, 1), faint

    def forward(self, x):
        early = self.net.front(x)
        scores = self.net.classify(self.net.head(self.net.middle(early)))
        past = nn.functional.avg_pool2d(self.skip(early), 2)
        return scores + self.faint * past


@pytest.mark.parametrize("site", ["front", "middle.0", "middle", "head.1", "head", "classify"])
def test_by_hand(small, site):
    """The network's own layers, called one after the other around the bottleneck."""
    net = small()
    narrow = ww.say.bottleneck(net, site, 3, input_size=SIZE)
    layer, x = layer_of(narrow), torch.randn(2, *SIZE)
    steps = {n: m for n, m in net.named_modules() if n and isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.ReLU)}
    last = site if site in steps else f"{site}.2"
    with torch.no_grad():
        out = x
        for name, step in steps.items():
            out = step(out)
            if name == last:
                out = layer(out)
        expected = nn.functional.interpolate(out, size=SIZE[1:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(narrow(x), expected, rtol=0, atol=0)


class Named(nn.Module):
    """Calls a layer with its arguments by name, as decoders with skip connections do."""

    def __init__(self, net):
        super().__init__()
        self.front, self.last, self.classify = net.front, Scaling(), net.classify

    def forward(self, x):
        return self.classify(self.last(self.front(x), factor=2.0))


class Scaling(nn.Module):
    def forward(self, x, factor):
        return factor * x


def test_a_site_keeps_the_arguments_it_is_called_with(small):
    net = Named(small()).eval()
    narrow = ww.say.bottleneck(net, "last", 3, input_size=SIZE)
    x = torch.randn(2, *SIZE)
    expected = net.classify(layer_of(narrow)(2.0 * net.front(x)))
    torch.testing.assert_close(narrow(x), expected, rtol=0, atol=0)


def test_held_concepts_hide_the_picture(small):
    narrow = ww.say.bottleneck(small(), "middle", ["a", "b"], input_size=SIZE)
    held = torch.rand(1, 2, 8, 12)
    with torch.no_grad(), overwriting(layer_of(narrow), lambda maps: held.expand_as(maps)):
        assert torch.equal(narrow(torch.randn(1, *SIZE)), narrow(100 + torch.randn(1, *SIZE)))


def test_the_network_and_the_random_state_are_left_alone(small):
    net = small()
    net.head.train()
    state, random, flags = copy.deepcopy(net.state_dict()), torch.get_rng_state(), [m.training for m in net.modules()]
    first, again, other = (ww.say.bottleneck(net, "middle", 3, input_size=SIZE, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == flags
    weights = [layer_of(n).encode.weight for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_network_stays_one_and_tells_what_was_done(small):
    net = ww.Network(small(), name="n", input_size=SIZE)
    narrow = ww.say.bottleneck(net, "middle", ["a", "b"])
    assert isinstance(narrow, ww.Network)
    assert narrow.preprocessing == net.preprocessing
    report = narrow.module.surgery
    assert report.channels == (24, 2)
    assert str(report).startswith("24 channels -> 2 concepts; middle: Sequential")
    assert layer_of(narrow.module).names == ("a", "b")


def test_the_precision_is_the_networks(small):
    narrow = ww.say.bottleneck(small().double(), "middle", 2, input_size=SIZE)
    assert layer_of(narrow).encode.weight.dtype == torch.float64


@pytest.mark.parametrize("faint", [1.0, 1e-2])
def test_a_path_past_the_site_is_refused(small, faint):
    with pytest.raises(InputError, match="flows past it"):
        ww.say.bottleneck(Skipping(small(), faint), "net.middle", 3, input_size=SIZE)


def test_small_scores_do_not_hide_a_path(small):
    net = Skipping(small(), 1.0)
    with torch.no_grad():
        for m in (net.net.classify, net.skip):
            m.weight.mul_(1e-6)
            m.bias.mul_(1e-6)
    with pytest.raises(InputError, match="flows past it"):
        ww.say.bottleneck(net, "net.middle", 3, input_size=SIZE)


def test_inside_a_residual_block_is_refused():
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), BasicBlock(16, 16), nn.Conv2d(16, 4, 1)).eval()
    for site in ("1.bn1", "1.bn2", "1.conv1"):
        with pytest.raises(InputError, match="flows past it"):
            ww.say.bottleneck(net, site, 3, input_size=SIZE)
    assert layer_of(ww.say.bottleneck(net, "1", 3, input_size=SIZE)).encode.in_channels == 16


def test_lraspp_is_refused_before_its_paths_join():
    net = ww.load_model("torchvision/lraspp_mobilenet_v3_large", classes=4)
    with pytest.raises(InputError, match="flows past it"):
        ww.say.bottleneck(net, "classifier.cbr", 3, input_size=(3, 64, 64))


@pytest.mark.parametrize(
    ("site", "concepts", "options", "message"),
    [
        ("midle", 3, {}, "Did you mean 'middle'"),
        ("middle", "vehicle", {}, r"\['vehicle'\]"),
        ("middle", Bottleneck(7, 3), {}, "is for 7 channels, the site has 24"),
        ("middle", Bottleneck(24, 3), {"activation": "binary"}, "made already"),
        ("middle", 0, {}, "at least one"),
    ],
)
def test_what_cannot_be_done_is_refused(small, site, concepts, options, message):
    with pytest.raises(InputError, match=message):
        ww.say.bottleneck(small(), site, concepts, input_size=SIZE, **options)


def test_a_module_that_runs_twice_or_gives_no_map_is_refused():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    with pytest.raises(InputError, match="runs 2 times"):
        ww.say.bottleneck(nn.Sequential(conv, nn.ReLU(), conv), "0", 2, input_size=SIZE)
    with pytest.raises(InputError, match="does not give a map"):
        ww.say.bottleneck(nn.Sequential(conv, nn.Flatten(2)), "1", 2, input_size=SIZE)


@pytest.mark.parametrize("form", ["dict", "logits", "other name", "tuple", "list"])
def test_segmenters_of_any_output(small, form):
    class Wrapped(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            scores = self.net(x)
            forms = {
                "dict": {"aux": scores[:, :2], "out": scores},
                "logits": {"loss": None, "logits": scores},
                "other name": {"masks": scores},
                "tuple": (scores, scores[:, :1], None),
                "list": [scores],
            }
            return forms[form]

    narrow = ww.say.bottleneck(Wrapped(small()), "net.middle", 3, input_size=SIZE)
    assert narrow.surgery.inserted.name == "net.middle"


def test_a_segmenter_without_a_map_lists_what_came(small):
    class Odd(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return {"boxes": self.net(x).mean((2, 3)), "n": 3}

    with pytest.raises(InputError, match=r"gives a mapping with boxes: a tensor \(2, \d+\), n: int; a segmentation"):
        ww.say.bottleneck(Odd(small()), "net.middle", 3, input_size=SIZE)
