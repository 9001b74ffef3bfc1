"""Gates between modules are replaced: with gates of one the product is gone, with gates of zero its branch is shut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from small_nets import HAND, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.surgery import redone, surgeries
from whatwhere.use import MSSAR, recalibrate
from whatwhere.use.recalibrated import Recalibrated


class Net(nn.Module):
    """A residual block whose branch is weighed by operators, as is said; `weigh=None` leaves the weights out."""

    def __init__(self, weigh: Callable[[Any, Tensor], Tensor] | None) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.act = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1)), nn.ReLU(inplace=True)
        self.spatial, self.linear, self.last = nn.Conv2d(4, 1, 3, padding=1), nn.Linear(4, 4), nn.Conv2d(4, 4, 1)
        self.vector = nn.Parameter(torch.rand(4, 4))
        self.weigh = weigh

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.act(self.conv(x))
        return x + (self.weigh(self, y) if self.weigh else y)


def channels(m: Any, y: Tensor) -> Tensor:
    return torch.sigmoid(m.fc(F.adaptive_avg_pool2d(y, 1)))


def in_place(m: Any, y: Tensor) -> Tensor:
    y *= channels(m, y)
    return y


def channels_last(m: Any, y: Tensor) -> Tensor:
    z = y.permute(0, 2, 3, 1)
    return (z * torch.sigmoid(m.linear(z.mean((1, 2), keepdim=True)))).permute(0, 3, 1, 2)


def by_hand(m: Any, y: Tensor) -> Tensor:
    w = torch.sigmoid(F.linear(y.mean((2, 3)), m.vector))
    return y * w[:, :, None, None].expand_as(y)


WEIGHED: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "channels": (lambda m, y: y * channels(m, y), 1),
    "weights first": (lambda m, y: torch.mul(channels(m, y), y), 1),
    "in place": (in_place, 1),
    "positions": (lambda m, y: y * torch.sigmoid(m.spatial(y)), 1),
    "channels last": (channels_last, 1),
    "parameters": (by_hand, 1),
    "one after the other": (lambda m, y: (z := y * channels(m, y)) * torch.sigmoid(m.spatial(z)), 2),
    "other products around": (lambda m, y: (z := y * 2) * channels(m, z) * 0.5 * m.vector[:, :1, None], 1),
}
WITHOUT: dict[str, Callable[[Any, Tensor], Tensor]] = {"other products around": lambda m, y: y * m.vector[:, :1, None]}
X = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(2))


def replaced(net: nn.Module, method: Any = "ms_sar", **options: Any) -> Any:
    return recalibrate(net, method, replace=True, input_size=SIZE, **options)


@pytest.mark.parametrize("name", WEIGHED)
def test_gates_of_one_leave_the_network_without_its_weights(name: str) -> None:
    weigh, count = WEIGHED[name]
    net = drawn(lambda: Net(weigh))
    plain = copy.deepcopy(net)
    plain.weigh = WITHOUT.get(name)
    gated = replaced(net, identity_init=True, ratio=1)
    assert len(gated.surgery.inserted) == count == sum(isinstance(m, MSSAR) for m in gated.modules())
    assert not gated.surgery.kept
    with torch.no_grad():
        assert torch.equal(gated(X), plain(X))
        assert torch.equal(gated(X[:1, :, :20, :24]), plain(X[:1, :, :20, :24]))
        assert not torch.equal(net(X), plain(X))


class Zero(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels
        return torch.zeros_like(x)


@pytest.mark.parametrize("name", WEIGHED)
def test_gates_of_zero_shut_the_branch(name: str) -> None:
    net = drawn(lambda: Net(WEIGHED[name][0]))
    with torch.no_grad():
        assert torch.equal(replaced(net, Zero)(X), net.stem(X))  # type: ignore[operator]


@pytest.mark.parametrize("name", WEIGHED)
def test_any_gate_against_the_same_forward_by_hand(name: str) -> None:
    """Each product of the running network's Python is answered by the gate in its place."""
    weigh, count = WEIGHED[name]
    net = drawn(lambda: Net(weigh))
    gated = replaced(net, ratio=1)
    gates = [m for m in gated.modules() if isinstance(m, Recalibrated)]
    assert len(gates) == count
    with torch.no_grad():
        y = net.act(net.conv(x := net.stem(X)))  # type: ignore[operator]
        for m in gates:
            y = m.get_submodule("gate")(y * 2 if name == "other products around" else y)
        if name == "other products around":
            y = y * 0.5 * net.vector[:, :1, None]  # type: ignore[index]
        torch.testing.assert_close(gated(X), x + y)


def test_layers_that_made_the_weights_are_gone_and_others_stay() -> None:
    gated = replaced(drawn(lambda: Net(WEIGHED["channels"][0])))
    assert {n for n, _ in gated.named_children()} == {
        "stem",
        "conv",
        "act",
        "spatial",
        "linear",
        "last",
        "recalibration",
    }
    by_parameters = replaced(drawn(lambda: Net(by_hand)))
    assert "vector" not in by_parameters.state_dict()

    def also(m: Any, y: Tensor) -> Tensor:
        return y * channels(m, y) + m.fc(y)

    assert "fc.0.weight" in replaced(drawn(lambda: Net(also))).state_dict()


def test_what_holds_the_map_sees_it_weighed_in_place() -> None:
    def both(m: Any, y: Tensor) -> Tensor:
        z = y
        y *= channels(m, y)
        return m.last(z)

    net = drawn(lambda: Net(both))
    with torch.no_grad():
        expected = net.stem(X) + net.last.bias[:, None, None]  # type: ignore[operator, union-attr, index]
        assert torch.equal(replaced(net, Zero)(X), expected)


def test_it_trains_is_copied_and_done_again() -> None:
    net = drawn(lambda: nn.Sequential(Net(WEIGHED["channels"][0]), nn.Conv2d(4, 4, 1)))
    gated = replaced(net)
    assert [r.name for r in gated.surgery.inserted] == ["0.recalibration"]
    assert gated.surgery.inserted[0].before == "a product between modules"
    again, twin = redone(net, surgeries(gated)), copy.deepcopy(gated)
    with torch.no_grad():
        assert torch.equal(twin(X), gated(X))
        assert torch.equal(again(X), gated(X))
    gated.train()(X).sum().backward()
    assert all(p.grad is not None for n, p in gated.named_parameters() if "0.conv" in n or "recalibration" in n)


def test_it_is_chosen_by_the_module_that_it_is_in_and_others_stay() -> None:
    part = WEIGHED["channels"][0]
    net = drawn(lambda: nn.Sequential(Net(part), nn.Conv2d(4, 3, 1), Net(part)))
    gated = replaced(net, sites="2")
    assert [r.name for r in gated.surgery.inserted] == ["2.recalibration"]
    assert gated.surgery.kept == ("0",)
    by_name = replaced(net, sites="2.recalibration")
    with torch.no_grad():
        assert torch.equal(by_name(X), gated(X))


def test_squeezed_keeps_all_but_its_gate() -> None:
    net = drawn(HAND["squeezed"])
    gated = replaced(net, identity_init=True)
    net.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Threshold(torch.inf, 1.0))  # 1 whatever it is
    with torch.no_grad():
        assert torch.equal(gated(X), net(X))


def test_split_attention_of_one_map_is_replaced() -> None:
    net = drawn(lambda: timm.create_model("resnest50d_1s4x24d", num_classes=5))
    gated = recalibrate(net, "ms_sar", replace=True, identity_init=True, input_size=(3, 64, 64))
    assert len(gated.surgery.inserted) == 16  # one in each block
    for m in net.modules():
        if type(m).__name__ == "RadixSoftmax":
            m.register_forward_hook(lambda _m, _a, out: torch.ones_like(out))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(gated(x), net(x))


# Refused, by name and with the reason


@pytest.mark.parametrize(
    ("model", "where"), [("resnest14d", "layer1.0.conv2"), ("skresnet18", "layer1.0.conv1")], ids=["splat", "sk"]
)
def test_weights_that_choose_between_maps_are_refused_and_said_to_stay(model: str, where: str) -> None:
    net = drawn(lambda: timm.create_model(model, num_classes=5))
    for sites in (None, where, "layer1.0"):
        with pytest.raises(InputError, match=rf"{where}: it weighs 2 maps against each other, \(2, 64, 16, 16\)"):
            recalibrate(net, "se", replace=True, sites=sites, input_size=(3, 64, 64))
    report = recalibrate(net, "se", input_size=(3, 64, 64)).surgery
    assert where in report.kept
    assert "puts these in their places" not in str(report)
    assert f"Cannot be replaced: {where}: it weighs 2 maps" in str(report)


def turned(m: Any, y: Tensor) -> Tensor:
    z = y.transpose(1, 3)
    return (z * torch.sigmoid(m.linear(z.mean((1, 2), keepdim=True)))).transpose(1, 3)


class Trains(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.training else x * 1)


def test_other_reasons() -> None:
    weigh = WEIGHED["channels"][0]
    with pytest.raises(InputError, match=r"a Trains, cannot be replaced: its forward asks whether it trains"):
        replaced(drawn(lambda: Trains(weigh)))
    block = Net(weigh)
    block.stem = nn.Conv2d(4, 4, 1)
    with pytest.raises(InputError, match=r"1, in whose forward it is, runs more than once"):
        replaced(drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), block, block)))
    with pytest.raises(InputError, match="which axis is the channels cannot be told"):
        replaced(drawn(lambda: Net(turned)))

    se = timm.layers.SqueezeExcite(4, rd_channels=2)
    with pytest.raises(InputError, match="gates cannot be replaced: 1: it runs 2 times"):
        replaced(drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), se, nn.Conv2d(4, 4, 1), se)))
