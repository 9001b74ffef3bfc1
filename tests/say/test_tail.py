"""What follows a site, fed with the features there."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.say.layer import layer_of
from whatwhere.say.tail import Tail

SIZE = (3, 32, 48)


def held(net, site, x):
    seen = []
    handle = net.get_submodule(site).register_forward_hook(lambda _m, _a, output: seen.append(output.clone()))
    with torch.no_grad():
        scores = net(x)
    handle.remove()
    return seen[0], scores


@pytest.mark.parametrize("site", ["front.0", "front", "middle.1", "middle", "head.0", "head", "classify"])
def test_from_the_features_it_gives_what_the_network_gives(small, site):
    net, x = small(), torch.randn(3, *SIZE)
    features, expected = held(net, site, x)
    before = features.clone()
    with torch.no_grad():
        assert torch.equal(Tail(net, site, x)(features), expected)
    assert torch.equal(features, before)  # what follows works in place


def test_behind_a_bottleneck(small):
    net = ww.say.bottleneck(small(), "middle", 3, input_size=SIZE)
    x = torch.randn(3, *SIZE)
    for inner in ("site", "bottleneck.encode", "bottleneck.decode", "bottleneck"):
        features, expected = held(net, f"middle.{inner}", x)
        with torch.no_grad():
            assert torch.equal(Tail(net, f"middle.{inner}", x)(features), expected)


@pytest.mark.parametrize("name", ["torchvision/deeplabv3_mobilenet_v3_large"])
def test_of_a_network_that_gives_a_dict(name):
    net, x = ww.load_model(name, classes=4).module, torch.randn(2, 3, 64, 64)
    features, _ = held(net, "classifier.0", x)
    with torch.no_grad():
        torch.testing.assert_close(Tail(net, "classifier.0", x)(features)["out"], net(x)["out"], rtol=0, atol=0)


def test_only_what_follows_learns(small):
    net = small()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    tail = Tail(net, "middle", torch.zeros(1, *SIZE)).train()
    optimizer = torch.optim.AdamW(tail.parameters(), lr=0.1)
    features = torch.randn(4, 24, 8, 12)
    for _ in range(2):
        optimizer.zero_grad()
        tail(features).square().sum().backward()
        optimizer.step()
    changed = {k.split(".")[0] for k, v in net.state_dict().items() if not torch.equal(v, state[k])}
    assert changed == {"head", "classify"}  # batch norm's statistics too


def test_frozen_concepts_stay(small):
    net = ww.say.bottleneck(small(), "middle", 3, input_size=SIZE)
    layer_of(net).freeze()
    tail = Tail(net, "middle.site", torch.zeros(1, *SIZE)).train()
    tail(torch.randn(4, 24, 8, 12)).square().sum().backward()
    learning = {n for n, p in net.named_parameters() if p.grad is not None}
    assert {n.split(".")[0] for n in learning} == {"middle", "head", "classify"}
    assert {n for n in learning if n.startswith("middle")} == {
        "middle.bottleneck.decode.weight",
        "middle.bottleneck.decode.bias",
    }


def test_nothing_in_front_runs(small):
    net = small()
    tail, ran = Tail(net, "middle", torch.zeros(1, *SIZE)), []
    for name, m in net.named_modules():
        if name:
            m.register_forward_pre_hook(lambda _m, _a, name=name: ran.append(name) if not list(_m.children()) else None)
    net.front[0].weight.data.fill_(torch.nan)  # it would be seen
    with torch.no_grad():
        assert tail(torch.randn(2, 24, 8, 12)).isfinite().all()
    assert not [n for n in ran if n.startswith("front")]


class Shared(nn.Module):
    """One module before the site, inside it, and twice behind it."""

    def __init__(self):
        super().__init__()
        self.act, self.norm = nn.Softplus(), nn.BatchNorm2d(8)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.site = nn.Sequential(nn.Conv2d(8, 8, 1), self.act)

    def forward(self, x):
        x = self.site(self.act(self.norm(self.first(x))))
        return self.act(self.norm(self.last(self.act(x))))


def test_shared_modules_are_told_apart_by_their_calls():
    torch.manual_seed(0)
    net, x = Shared().eval(), torch.randn(2, *SIZE)
    features, expected = held(net, "site", x)
    with torch.no_grad():
        tail = Tail(net, "site", x)
        assert torch.equal(tail(features), expected)
        assert torch.equal(tail(features), expected)  # calls are counted anew
        assert not torch.equal(tail(features + 1), expected)


class Pair(NamedTuple):
    early: torch.Tensor
    late: torch.Tensor


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return Pair(self.conv(x), x)


class InPlace(nn.Module):
    """What the first stage gives is changed in place, outside of any module, before the site."""

    def __init__(self):
        super().__init__()
        self.stem, self.site, self.last = Stem(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        pair = self.stem(x)
        early = pair.early
        early += 1
        return self.last(nn.functional.relu_(self.site(early)))


def test_work_in_place_on_what_is_not_computed():
    torch.manual_seed(0)
    net, x = InPlace().eval(), torch.randn(3, *SIZE)
    features, expected = held(net, "site", x)
    tail = Tail(net, "site", x)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(tail(features), expected)


def test_the_network_is_its_own_again_after_an_error(small):
    net, x = small(), torch.randn(2, *SIZE)
    with torch.no_grad():
        expected = net(x)
    tail = Tail(net, "middle", x)
    net.classify.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tail(torch.randn(2, 24, 8, 12))
    net.classify._forward_hooks.clear()
    assert not [m for m in net.modules() if "forward" in m.__dict__]
    with torch.no_grad():
        assert torch.equal(net(x), expected)


def test_what_cannot_be_is_refused(small):
    net = small()
    with pytest.raises(InputError, match=r"features have shape \(24, 7, 12\)"):
        Tail(net, "middle", torch.zeros(1, *SIZE))(torch.randn(1, 24, 7, 12))
    with pytest.raises(InputError, match="runs 0 times"):
        Tail(net, "no.such", torch.zeros(1, *SIZE))
    with pytest.raises(InputError, match="does not give a map"):
        Tail(InPlace(), "stem", torch.zeros(1, *SIZE))
