"""Networks that end before a site, against what the network itself computes there."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.layers import map_in
from whatwhere.need.truncated import TruncateReport, truncate
from whatwhere.network import Network
from whatwhere.site import Site
from whatwhere.site_table import list_sites

NETS = {k: f for k, f in {**HAND, **PAPERS, **LIBRARIES}.items() if k != "functional"}
X = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(5))


def entering(net: nn.Module, site: Site) -> Tensor:
    """The map that enters a site, by a hook on it."""
    seen: list[Tensor] = []

    def enter(m: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(map_in(args, kwargs).clone())  # type: ignore[union-attr]

    handle = net.get_submodule(site.module).register_forward_pre_hook(enter, with_kwargs=True)
    with torch.no_grad():
        net(X)
    handle.remove()
    return seen[site.call - 1]


def mean_of(x: Tensor, layout: str) -> Tensor:
    if layout.startswith("tokens"):
        return x[:, int(layout.removeprefix("tokens+")) :].mean(1)
    return x.mean((2, 3) if layout == "NCHW" else (1, 2))


@pytest.mark.parametrize("name", NETS)
def test_what_is_pooled_is_what_the_network_has_there_to_the_bit(name: str) -> None:
    net = drawn(NETS[name])
    state, cuts = copy.deepcopy(net.state_dict()), list_sites(net, input_size=SIZE).cuts
    for cut in cuts[:: max(1, len(cuts) // 3)]:
        new: Any = truncate(net, cut.name, classes=7, input_size=SIZE)
        given: list[Tensor] = []
        new.get_submodule(new.pooled_by).register_forward_pre_hook(lambda m, args: given.append(args[0].clone()))  # noqa: B023
        with torch.no_grad():
            scores = new(X)
        there = entering(net, cut)
        assert torch.equal(given[0], there), cut.name
        head = new.get_submodule(new.surgery.classifier)
        torch.testing.assert_close(scores, head(mean_of(there, cut.layout)).detach(), atol=1e-5, rtol=1e-5)
        kept = {k: v for k, v in new.state_dict().items() if not k.startswith("new_classifier.")}
        assert all(torch.equal(v, state[k]) for k, v in kept.items())
        assert not {id(p) for p in new.parameters()} & {id(p) for p in net.parameters()}
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_layouts_that_are_averaged() -> None:
    layouts = {
        cut.layout for n in ("vit", "swin", "resnet") for cut in list_sites(drawn(NETS[n]), input_size=SIZE).cuts
    }
    assert layouts >= {"NCHW", "NHWC", "tokens+1"}


def test_prefix_tokens_are_not_read() -> None:
    net = drawn(LIBRARIES["vit"])
    new: Any = truncate(net, "blocks.0", input_size=SIZE)  # before any attention
    with torch.no_grad():
        before = new(X)
        new.cls_token += 1
        assert torch.equal(new(X), before)


def test_what_follows_is_gone() -> None:
    net = drawn(PAPERS["resnet"])
    new: Any = truncate(net, "layer3.0", input_size=SIZE)
    kept = {k for k in net.state_dict() if k.split(".")[0] in ("conv1", "bn1", "layer1", "layer2")}
    assert set(new.state_dict()) == kept | {"new_classifier.weight", "new_classifier.bias"}
    report = new.surgery
    assert isinstance(report, TruncateReport)
    assert report.dropped == ("layer3", "layer4", "fc")
    assert report.parameters == tuple(sum(p.numel() for p in m.parameters()) for m in (net, new))
    cut = next(c for c in list_sites(net, input_size=SIZE).cuts if c.name == "layer3.0")
    assert report.flops[1] == cut.flops_before + 2 * 128 * 5
    assert str(report).startswith("truncated before layer3.0: the last 50 % of the convolutions are gone; parameters ")
    assert "gone: layer3, layer4, fc\n  new_classifier: GAP, then a new linear layer for 5 classes" in str(report)


class Alone(nn.Module):
    """Parameters of its own behind and before, one of them read by both; its classifier bears the new one's name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.more = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.both, self.late = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.ones(4, 1, 1))
        self.new_classifier, self.gap = nn.Linear(4, 5), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu_()
        y *= self.both
        z = self.more(y)
        y += 1  # after the site has read it
        return self.new_classifier(self.gap(z * self.both * self.late).flatten(1))


def test_names_that_are_taken_and_what_is_changed_in_place_later() -> None:
    net = drawn(Alone)
    new: Any = truncate(net, "more", input_size=SIZE)
    assert set(new.state_dict()) == {
        "both",
        "conv.weight",
        "conv.bias",
        "new_classifier_.weight",
        "new_classifier_.bias",
    }
    with torch.no_grad():
        y = net.conv(X).relu() * net.both  # type: ignore[operator]
        expected = new.new_classifier_(y.mean((2, 3)))
        torch.testing.assert_close(new(X), expected)


def test_the_classifier_is_of_its_seed_and_drawn_as_torch_draws() -> None:
    net = drawn(PAPERS["resnet"])
    state = torch.get_rng_state()
    one, two, other = (truncate(net, "layer4.0", classes=400, seed=s, input_size=SIZE).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weight, bias = one["new_classifier.weight"], one["new_classifier.bias"]
    assert torch.equal(weight, two["new_classifier.weight"])
    assert not torch.equal(weight, other["new_classifier.weight"])
    bound = 1 / math.sqrt(256)
    for drawn_ones in (weight, bias):
        assert float(drawn_ones.abs().max()) <= bound
        assert float(drawn_ones.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    torch_own = nn.Linear(256, 400)
    assert float(torch_own.weight.detach().std()) == pytest.approx(float(weight.std()), rel=0.02)


def test_precision_mode_copies_and_gradients() -> None:
    net = drawn(LIBRARIES["efficientnet"]).double().train()
    new: Any = truncate(net, list_sites(net, input_size=SIZE).cuts[2].name, input_size=SIZE)
    assert new.training
    twin: Any = copy.deepcopy(new)
    assert str(twin.surgery) == str(new.surgery)
    assert twin.pooled_by == new.pooled_by
    twin(X.double()).square().mean().backward()
    assert all(p.grad is not None and p.dtype == torch.float64 for p in twin.parameters())
    again: Any = truncate(twin.eval(), "conv_stem", input_size=SIZE)
    assert set(again.state_dict()) == {"new_classifier_.weight", "new_classifier_.bias"}  # the other was there


def test_names_of_scores_stay_if_there_are_as_many() -> None:
    net = Network(drawn(PAPERS["vgg11"]), name="mine", input_size=SIZE, classes=tuple("abcde"))
    kept, other = truncate(net, "last 50%"), truncate(net, "last 50%", classes=4)
    assert (kept.classes, other.classes) == (tuple("abcde"), ())
    assert (kept.name, kept.input_size) == ("mine truncated before features.15", SIZE)
    assert replace(kept, classes=()).module is kept.module


def test_a_network_that_asks_for_its_size_is_held_to_it() -> None:
    new = truncate(drawn(HAND["squeezed"]), "wide", input_size=SIZE)
    with pytest.raises(InputError, match=r"pictures of 33 x 33: .*truncated for 32 x 32; truncate the network again"):
        new(torch.randn(1, 3, 33, 33))


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x))


@pytest.mark.parametrize(
    ("net", "site", "options", "why"),
    [
        (
            HAND["averaged"],
            "block.second",
            {},
            r"site='block.second': spatial information flows around it\. Nothing goes",
        ),
        (Maps, "b", {}, r"classes=None: the network gives no scores .*but \(2, 5, 28, 28\); give the number"),
        (HAND["averaged"], "block", {"classes": 0}, "classes=0: give a whole number above 0"),
        (HAND["averaged"], "block", {"classes": True}, "classes=True: give"),
        (HAND["averaged"], "block", {"seed": "x"}, "seed='x': give a whole number"),
        (HAND["averaged"], "block", {"input_size": 3}, "input_size=3: give"),
        (HAND["averaged"], "blok", {}, "sites='blok' matches nothing. Did you mean 'block'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(net: Any, site: Any, options: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        truncate(drawn(net), site, **{"input_size": SIZE, **options})
    assert truncate(drawn(Maps), "b", classes=2, input_size=SIZE)(X).shape == (3, 2)
