"""1 x 1 convolutions in networks of every make, against slow derivations and an oracle that knows no graph."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame
from torch import Tensor, fx, nn

from borderless_oracle import Borderless, borderless
from small_choice import some
from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn, holds_all_that_follows
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.need.one_by_one import PointwiseReport, pointwise
from whatwhere.network import Network
from whatwhere.site import Site
from whatwhere.site_table import list_sites

NETS = {k: f for k, f in {**HAND, **PAPERS, **LIBRARIES}.items() if k != "functional"}
SMALL = (3, 12, 14)
FIRST = {"vit": 1, "swin": 1, "squeezed": 2, "coatnet": 2, "bottlenecks": 1}  # the later cuts are in them, or costly


def cuts_of(name: str) -> tuple[nn.Module, list[Site]]:
    """A network, and places in it that a k x k convolution follows."""
    net = drawn(NETS[name])
    cuts = list(list_sites(net, input_size=SIZE).cuts)
    return net, cuts[: FIRST[name]] if name in FIRST else cuts[:: max(1, len(cuts) // 2)]


class From(fx.Interpreter):
    """Runs a network with another value at one node, and without borders behind it; notes the sizes of all maps."""

    def __init__(self, module: Any, name: str = "", value: Tensor | None = None) -> None:
        super().__init__(module)
        self.name, self.value, self.mode, self.sizes = name, value, Borderless(), dict[str, Any]()

    def run_node(self, n: fx.Node) -> Any:
        given = super().run_node(n)
        if n.name == self.name:
            self.mode.on = True
            given = self.value
        self.sizes[n.name] = tuple(given.shape) if isinstance(given, Tensor) else None
        return given


@pytest.mark.parametrize("name", some(NETS))
def test_it_does_what_the_network_does_to_a_constant_map_without_borders(name: str) -> None:
    net, cuts = cuts_of(name)
    flow, compared = flow_of(net, input_size=SIZE), 0
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(5))
    for cut in cuts:
        if not holds_all_that_follows(flow, cut):
            continue
        compared += 1
        new: Any = pointwise(net, cut.name, input_size=SIZE)
        expected, value = borderless(net, cut, x)
        entry = flow.entering(cut)
        assert entry
        run = From(new, entry.name, value)
        with torch.no_grad(), run.mode:
            seen = run.run(x)
        assert run.mode.on
        assert float((seen - expected).abs().max()) < 1e-4 * float(expected.abs().max()), cut.name
    assert compared


POOLED = [
    (name, local) for name in HAND if name in NETS for local in ("average", "max")
]  # of all makes it takes a minute


@pytest.mark.parametrize(("name", "local"), [*((name, None) for name in NETS), *POOLED])
def test_every_map_keeps_its_size_and_no_k_x_k_convolution_is_left(name: str, local: Any) -> None:
    net, cuts = cuts_of(name)
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(6))
    state = copy.deepcopy(net.state_dict())
    flow = flow_of(net, input_size=SIZE)
    for cut in cuts:
        new: Any = pointwise(net, cut.name, local=local, input_size=SIZE)
        run, entry = From(new), flow.entering(cut)
        assert entry
        with torch.no_grad():
            given = run.run(x)
            assert torch.equal(given, new(x))
        assert {n.name: s for n, s in flow.shapes.items() if n.op != "output" and run.sizes.get(n.name, s) != s} == {}
        behind = {str(n.target) for n in flow.after(entry) if n.op == "call_module"}
        assert not [
            m for n, m in new.named_modules() if n in behind and isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
        ]
        assert len(new.surgery.replaced) > 0
        assert set(net.state_dict()) >= set(new.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def stacks() -> dict[str, nn.Sequential]:
    """Plain convolutions of every shape, each after one of 1 x 1."""
    same = {"padding": 1}
    return {
        "same": nn.Sequential(nn.Conv2d(3, 4, 3, **same), nn.SiLU(), nn.Conv2d(4, 4, 5, padding=2)),
        "valid": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, (5, 1))),
        "strided": nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, **same), nn.Conv2d(4, 6, 3, stride=(1, 2))),
        "grouped": nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=2, **same), nn.Conv2d(8, 8, 3, groups=8)
        ),
        "dilated": nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2, padding=2), nn.Conv2d(4, 4, 3, dilation=2, padding=1)),
        "even": nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 4, padding="same")),
        "circular": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 4, 3)),
        "by size": nn.Sequential(Conv2dSame(3, 4, 3, stride=2), Conv2dSame(4, 4, 3)),
        "standardised": nn.Sequential(ScaledStdConv2d(3, 4, 3, **same), ScaledStdConv2dSame(4, 4, 3, stride=2)),
    }


def dependence(net: nn.Module, x: Tensor) -> Tensor:
    """By the gradient, of each output position which input positions it depends on: (H', W', H, W)."""
    x = x.requires_grad_()
    out = net(x).square().sum(1)[0]
    rows = [torch.autograd.grad(v, x, retain_graph=True)[0][0].abs().sum(0) > 0 for v in out.flatten()]
    return torch.stack(rows).view(*out.shape, *x.shape[2:])


@pytest.mark.parametrize("name", stacks())
def test_a_stack_of_convolutions_sees_one_position_the_middle_of_what_it_saw(name: str) -> None:
    net = drawn(lambda: stacks()[name])
    new = pointwise(net, 0, input_size=SMALL)
    for h, w in (SMALL[1:], (13, 17)):
        x = torch.randn(1, 3, h, w)
        before, after = dependence(net, x.clone()), dependence(new, x.clone())
        assert before.shape == after.shape
        assert int(before[2, 2].sum()) > 1
        assert (after.sum((2, 3)) == 1).all()
        i, j = before.shape[0] // 2, before.shape[1] // 2  # no border cuts what is seen there
        seen, one = before[i, j].nonzero(), after[i, j].nonzero()[0]
        apart = (seen.amin(0) + seen.amax(0)) / 2 - one
        assert float(apart.abs().max()) <= (0 if name not in ("even",) else 1.5)
    assert "no position sees another" in str(new.surgery)


@pytest.mark.parametrize("name", stacks())
def test_each_position_is_what_the_network_makes_of_a_constant_map_of_its_value(name: str) -> None:
    net, x = drawn(lambda: stacks()[name]), torch.randn(1, *SMALL)
    new = pointwise(net, 0, input_size=SMALL)
    places = dependence(new, x.clone())
    with torch.no_grad():
        seen = new(x)
        for i in range(seen.shape[2]):
            for j in range(seen.shape[3]):
                r, c = places[i, j].nonzero()[0].tolist()
                large = net(x[:, :, r, c, None, None].expand(-1, -1, 64, 64).contiguous())
                middle = large[:, :, large.shape[2] // 2, large.shape[3] // 2]
                torch.testing.assert_close(seen[:, :, i, j], middle, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("local", ["average", "max"])
def test_a_local_pool_stands_before_the_convolution_and_its_stride(local: Any, padding: int) -> None:
    conv, x = nn.Conv2d(3, 4, 3, stride=2, padding=padding), torch.randn(2, *SMALL)
    new: Any = pointwise(nn.Sequential(nn.Conv2d(3, 3, 1), conv), 1, local=local, input_size=SMALL)
    new.get_submodule("0").weight.data.copy_(torch.eye(3)[:, :, None, None])
    new.get_submodule("0").bias.data.zero_()
    with torch.no_grad():
        seen, size = new(x), conv(x).shape[2:]
    assert seen.shape[2:] == size
    for i in range(size[0]):
        for j in range(size[1]):
            r, c = 2 * i + 1 - padding, 2 * j + 1 - padding
            if not (0 <= r < SMALL[1] and 0 <= c < SMALL[2]):
                torch.testing.assert_close(seen[:, :, i, j], conv.bias.expand(2, -1).detach())  # type: ignore[union-attr]
                continue
            around = x[:, :, max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].flatten(2)
            value = around.mean(2) if local == "average" else around.amax(2)
            expected = F.linear(value, conv.weight.sum((2, 3)), conv.bias)
            torch.testing.assert_close(seen[:, :, i, j], expected.detach(), atol=1e-5, rtol=1e-4)


def test_an_average_is_the_mean_over_all_places_of_the_kernels_weights() -> None:
    """Inside of the map: what a convolution gives on average whose nine weights change places."""
    conv, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(1, 2, 6, 6)
    net = nn.Sequential(nn.Conv2d(2, 2, 1), conv)
    new = pointwise(net, 1, local="average", input_size=(2, 6, 6))
    with torch.no_grad():
        inner = net[0](x)
        moved = [F.conv2d(inner, conv.weight.flatten(2).roll(n, 2).view_as(conv.weight), conv.bias) for n in range(9)]
        torch.testing.assert_close(new(x)[:, :, 1:-1, 1:-1], torch.stack(moved).mean(0), atol=1e-5, rtol=1e-4)


class Written(nn.Module):
    """Convolutions as operators, of a map that it pads itself; weights that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.w, self.v = nn.Parameter(torch.randn(4, 4, 3, 3)), nn.Parameter(torch.randn(4, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(F.pad(self.stem(x), (1, 1, 1, 1)), self.w - self.w.mean(), stride=2)
        return F.conv2d(x, self.v, padding="same", groups=2, dilation=2)


def test_operators_are_replaced_and_what_they_read_goes() -> None:
    net, x = drawn(Written), torch.randn(2, *SMALL)
    new: Any = pointwise(net, "stem", input_size=SMALL)
    with torch.no_grad():
        y = net.stem(x)[:, :, ::2, ::2]  # type: ignore[operator]
        w: Any = net.w
        y = F.linear(y.movedim(1, -1), (w - w.mean()).sum((2, 3)))
        v: Any = net.v
        a, b = (F.linear(y[..., i : i + 2], v[i : i + 2].sum((2, 3))) for i in (0, 2))
        torch.testing.assert_close(new(x), torch.cat([a, b], -1).movedim(-1, 1), atol=1e-4, rtol=1e-4)
    names = {"stem.weight", "stem.bias", "pointwise_conv2d.weight", "pointwise_conv2d_1.weight"}
    assert set(new.state_dict()) == names
    assert new.surgery.parameters[1] == sum(p.numel() for p in new.parameters())


def test_one_position_keeps_the_weight_that_sees_it() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(6), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten()))
    small, large = torch.randn(2, 3, 8, 8), torch.randn(1, 3, 20, 20)
    new: Any = pointwise(net, 0, input_size=(3, 8, 8))
    with torch.no_grad():
        pooled = new.get_submodule("1")(new.get_submodule("0")(small[:, :, 1:-1, 1:-1]))
        torch.testing.assert_close(new(small), net[2](pooled).flatten(1))  # type: ignore[index]
        assert new(large).shape == net(large).shape


def test_weights_drawn_anew_are_of_the_seed_and_behind_the_site_alone() -> None:
    net = drawn(PAPERS["resnet"])
    one, two, other = (
        pointwise(net, "layer2.0", init="fresh", seed=s, input_size=SIZE).state_dict() for s in (1, 1, 2)
    )
    kept = pointwise(net, "layer2.0", input_size=SIZE).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    changed = {k for k in one if not torch.equal(one[k], other[k])}
    assert changed == {k for k in one if not torch.equal(one[k], kept[k])}
    assert changed == {k for k in one if k.startswith(("layer2", "layer3", "layer4")) and one[k].ndim == 4}
    weight = one["layer4.0.conv1.weight"]
    assert float(weight.std()) == pytest.approx((2 / weight.shape[0]) ** 0.5, rel=0.05)


def test_the_report_says_what_was_done_and_what_is_left() -> None:
    net = Network(drawn(PAPERS["vgg11"]), name="mine", input_size=SIZE)
    new = pointwise(net, "features.15", local="max")
    report: Any = new.module.surgery
    assert isinstance(report, PointwiseReport)
    assert new.name == "mine + 1 x 1 after max pools from features.15"
    assert (report.site, report.local, report.depth_share) == ("features.15", "max", 0.5)
    assert [r.name for r in report.replaced] == ["features.15", "features.18", "features.22", "features.25"]
    assert report.mixing == ("features.21 (MaxPool2d)", "features.28 (MaxPool2d)")
    text = str(report)
    assert text.startswith(
        "1 x 1 convolutions from features.15 on (the last 50 % of the convolutions), each after a 3 x 3"
    )
    assert text.endswith(
        "Besides these pools, positions still see each other through features.21 (MaxPool2d); features.28 (MaxPool2d)."
    )
    assert report.flops[1] == list_sites(new.module, input_size=SIZE).total_flops < report.flops[0]
    kernels = sum(
        w.numel()
        for n, w in net.module.named_parameters()
        if n.split(".")[1] in ("15", "18", "22", "25") and w.ndim == 4
    )
    assert report.parameters[0] - report.parameters[1] == kernels * 8 // 9


def test_it_trains_and_is_copied_and_operated_on_again() -> None:
    net = drawn(LIBRARIES["efficientnet"])
    cuts = list_sites(net, input_size=SIZE).cuts
    new: Any = pointwise(net, cuts[2].name, local="average", input_size=SIZE)
    twin = copy.deepcopy(new)
    assert str(twin.surgery) == str(new.surgery)
    earlier: Any = pointwise(twin, cuts[1].name, local="average", input_size=SIZE)
    assert earlier.surgery.replaced
    earlier.train()
    earlier(torch.randn(3, *SIZE)).square().mean().backward()
    assert all(p.grad is not None for p in earlier.parameters())


def test_a_network_that_asks_for_its_size_is_held_to_it() -> None:
    new = pointwise(drawn(HAND["squeezed"]), "wide", input_size=SIZE)
    with pytest.raises(InputError, match=r"pictures of 33 x 33: .*rewritten for 32 x 32; operate on it again with"):
        new(torch.randn(1, 3, 33, 33))


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("net", "site", "options", "why"),
    [
        (
            HAND["averaged"],
            "block.second",
            {},
            "site='block.second': spatial information flows around it. Nothing goes",
        ),
        (LIBRARIES["vit"], "blocks.0", {}, "site='blocks.0': no k x k convolution follows it"),
        (HAND["squeezed"], "last#2", {}, "last runs both before and after it"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Doubled(4, 4, 3)), 1, {}, "1, a Doubled, does more than convolve"),
        (HAND["averaged"], "block", {"local": "median"}, "local='median': choose 'average' or 'max'"),
        (HAND["averaged"], "block", {"init": "x"}, "init='x': choose"),
        (HAND["averaged"], "block", {"seed": 0.5}, "seed=0.5: give a whole number"),
        (HAND["averaged"], "block", {"input_size": (3, 4)}, r"input_size=\(3, 4\): give"),
        (HAND["averaged"], "blok", {}, "sites='blok' matches nothing. Did you mean 'block'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(net: Any, site: Any, options: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        pointwise(drawn(net), site, **{"input_size": SIZE, **options})
