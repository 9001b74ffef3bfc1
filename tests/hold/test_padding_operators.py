"""Operators between modules, and whole networks, against the intact network run with NumPy's padding."""

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torchvision.models.swin_transformer import SwinTransformer

from small_nets import HAND, LIBRARIES, PAPERS, drawn
from whatwhere.errors import InputError
from whatwhere.hold.padding import with_padding
from whatwhere.hold.padding_calls import PaddingCall
from whatwhere.hold.padding_operators import change_operators, is_wrong, refilled, refilled_constant, refusal, slid
from whatwhere.site_table import list_sites

NUMPY: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
FILLS = ("reflect", "replicate", "circular")


# ---- the slow path: every operator of the intact network that pads, with NumPy's padding before it


class Slow(TorchFunctionMode):
    """Pads with NumPy, whatever the network says; counts what it changed.

    Attributes:
        fill: a mode of NumPy's; None only counts.
        n: how many calls added zeros, or -inf, to rows and columns.
    """

    def __init__(self, fill: str | None = None) -> None:
        super().__init__()
        self.fill, self.n = fill, Counter[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.pad:
            return self.pad(*args, **kwargs)
        window = {"conv2d": 4, "max_pool2d": 3, "avg_pool2d": 3}.get(getattr(func, "__name__", ""))
        if window is None:
            return func(*args, **kwargs)
        padding = args[window] if len(args) > window else kwargs.get("padding", 0)
        rows, columns = (padding, padding) if isinstance(padding, int) else padding
        if not (rows or columns):
            return func(*args, **kwargs)
        self.n[func.__name__] += 1
        if self.fill is None:
            return func(*args, **kwargs)
        x = self.numpy(args[0], [(0, 0), (0, 0), (rows, rows), (columns, columns)])
        if len(args) > window:
            return func(x, *args[1:window], 0, *args[window + 1 :], **kwargs)
        return func(x, *args[1:], **{**kwargs, "padding": 0})

    def pad(self, x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
        pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)][::-1]
        amounts = [(0, 0)] * (x.ndim - len(pairs)) + pairs
        last = len(pad) == 6 and pad[0] == pad[1] == 0  # as Swin writes it, channels last
        spatial = amounts[1:3] if last else amounts[2:]
        if x.ndim != 4 or mode != "constant" or not any(map(any, spatial)):
            return F.pad(x, pad, mode, value)
        self.n["pad"] += 1
        return F.pad(x, pad, mode, value) if self.fill is None else self.numpy(x, amounts)

    def numpy(self, x: Tensor, amounts: Any) -> Tensor:
        return torch.from_numpy(np.pad(x.numpy(), amounts, mode=NUMPY[str(self.fill)]))


def slow(net: Any, x: Tensor, fill: str) -> Tensor:
    with torch.no_grad(), Slow(fill):
        return net(x)


def zeros_left(net: Any, x: Tensor) -> dict[str, int]:
    counter = Slow()
    with torch.no_grad(), counter:
        net(x)
    return dict(counter.n)


def swin(stochastic: float = 0.0) -> nn.Module:
    return SwinTransformer(
        [2, 2], 8, [2, 2], [2, 2], [5, 4], num_classes=5, dropout=0.1, stochastic_depth_prob=stochastic
    )


class Sized(nn.Module):
    """Pads to a multiple, as much as the map needs, in a function and where it joins maps (as a U-Net does)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 6, 3, 2), nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        y = self.up(self.conv(to_multiple(x, 4)))
        y = F.pad(y, (0, w - y.shape[3], 0, h - y.shape[2]))
        return torch.cat([x, y], 1).mean((2, 3))


def to_multiple(x: Tensor, n: int) -> Tensor:
    return F.pad(x, [0, -x.shape[3] % n, 0, -x.shape[2] % n])


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    **{name: (make, (3, 64, 64)) for name, make in {**HAND, **PAPERS, **LIBRARIES}.items()},
    "swin": (swin, (3, 42, 37)),
    "squeezed": (HAND["squeezed"], (3, 21, 20)),
    "flattened": (HAND["flattened"], (3, 32, 32)),
    "vit": (LIBRARIES["vit"], (3, 32, 32)),
    "shortcut": (HAND["shortcut"], (3, 32, 32)),
    "coatnet": (LIBRARIES["coatnet"], (3, 32, 32)),
    "convnext": (LIBRARIES["convnext"], (3, 160, 160)),
    "nfnet": (LIBRARIES["nfnet"], (3, 96, 96)),
    "sized": (Sized, (3, 22, 15)),
    "tf_": (lambda: timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=5), (3, 64, 64)),
    "odd tf_": (lambda: timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=5), (3, 75, 70)),
}


@pytest.mark.parametrize("name", NETS)
def test_networks_against_the_slow_path(name: str) -> None:
    make, size = NETS[name]
    net = drawn(make)
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(2))
    before = zeros_left(net, x)
    with torch.no_grad():
        as_given = net(x)
        assert torch.equal(with_padding(net, "zeros", input_size=size)(x), as_given)
    for mode in FILLS:
        new: Any = with_padding(net, mode, input_size=size)  # type: ignore[arg-type]
        assert zeros_left(new, x) == {}
        expected = slow(net, x, mode)
        with torch.no_grad():
            torch.testing.assert_close(new(x), expected, rtol=1e-5, atol=1e-6)
        assert (not before) == torch.equal(expected, as_given)
        assert list(new.state_dict()) == list(net.state_dict())
        assert sum(new.surgery.changed.values()) == len(new.surgery.replaced)
        assert bool(before) == bool(new.surgery.replaced)


@pytest.mark.parametrize("name", ["tf_", "efficientnet", "byobnet", "shortcut", "averaged"])
def test_circular_networks_commute_with_shifts(name: str) -> None:
    make, size = NETS[name]
    net = drawn(make).double()
    new: Any = with_padding(net, "circular", input_size=size)
    x = torch.randn(2, *size, dtype=torch.double)
    moved = x.roll((32, 32) if size[1] == 64 else (8, 8), (2, 3))
    features = getattr(new, "forward_features", new)
    with torch.no_grad():
        y, z = features(x), features(moved)
        torch.testing.assert_close(z, y.roll((1, 1), (2, 3)) if y.ndim == 4 else y)
        assert not torch.allclose(net(moved), net(x))


# ---- Swin: the networks that kept their zeros


def test_swins_windows_are_padded_in_the_mode_and_its_sites_stay() -> None:
    net, size = drawn(swin), (3, 42, 37)
    x = torch.randn(2, *size)
    assert zeros_left(net, x) == {"pad": 5}
    new: Any = with_padding(net, "reflect", input_size=size)
    assert zeros_left(new, x) == {}
    assert type(new) is SwinTransformer
    assert [str(r) for r in new.surgery.replaced] == [
        f"features.{n}: F.pad zeros -> reflect" for n in ("1.0.attn", "1.1.attn", "2", "3.0.attn", "3.1.attn")
    ]
    assert new.surgery.changed == {"F.pad": 5}
    assert "In training, too, operators in features.1.0.attn" in new.surgery.notes[0]
    assert all(isinstance(new.get_submodule(r.name), fx.GraphModule) for r in new.surgery.replaced)
    names = [[s.name for s in list_sites(n, input_size=size)] for n in (net, new)]
    assert names[0] == names[1]


def test_a_size_that_needs_no_padding_today_may_tomorrow() -> None:
    net = drawn(swin)
    new: Any = with_padding(net, "replicate", input_size=(3, 40, 32))
    assert new.surgery.replaced == ()
    assert len(new.surgery.elsewhere) == 5
    assert "(adds nothing at this size)" in str(new.surgery)
    for size in ((3, 40, 32), (3, 42, 35), (3, 54, 37)):
        x = torch.randn(2, *size)
        assert zeros_left(new, x) == {}
        with torch.no_grad():
            torch.testing.assert_close(new(x), slow(net, x, "replicate"), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"pictures of another size.*input_size"):
        new(torch.randn(2, 3, 20, 16))  # windows as large as the map are not shifted


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copied", "pickled"])
def test_it_trains_and_can_be_copied(again: Any) -> None:
    net = drawn(lambda: swin(0.5)).train()
    new = again(with_padding(net, "circular", input_size=(3, 42, 37)))
    x = torch.randn(4, 3, 44, 37)
    assert new.training
    assert not torch.equal(new(x), new(x))  # stochastic depth and dropout
    torch.manual_seed(0)
    for _ in range(12):  # stochastic depth may drop a branch for all four pictures
        new(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in new.parameters())
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in new.parameters()}
    new.load_state_dict(net.state_dict())
    assert new.surgery.mode == "circular"


@pytest.mark.parametrize("first", FILLS)
@pytest.mark.parametrize("second", ["zeros", *FILLS])
def test_the_last_of_two_modes_holds(first: Any, second: Any) -> None:
    for name in ("swin", "sized", "functional", "tf_"):
        make, size = NETS[name]
        net = drawn(make)
        x = torch.randn(2, *size)
        twice: Any = with_padding(with_padding(net, first, input_size=size), second, input_size=size)
        once: Any = with_padding(net, second, input_size=size)
        with torch.no_grad():
            torch.testing.assert_close(twice(x), once(x), rtol=1e-5, atol=1e-6)


# ---- one operator at a time


class One(nn.Module):
    def __init__(self, function: Callable[..., Any], part: nn.Module | None = None) -> None:
        super().__init__()
        self.part = part or nn.Identity()
        self.weight, self.function = nn.Parameter(torch.randn(4, 3, 3, 3)), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.part(x))


SIZE = (3, 9, 10)
OPERATORS: dict[str, Callable[..., Tensor]] = {
    "pad": lambda n, x: F.pad(x, (1, 2, 0, 3)),
    "crops too": lambda n, x: F.pad(x, (1, -2, -1, 3)),
    "constant_pad_nd": lambda n, x: torch.constant_pad_nd(x, (1, 2), 0.5),
    "-inf": lambda n, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2),
    "channels too": lambda n, x: F.pad(x.relu(), (1, 2, 0, 0, 1, 1)),
    "conv": lambda n, x: F.conv2d(x, n.weight, None, 2, (1, 2)),
    "same": lambda n, x: F.conv2d(x, n.weight[..., :2], padding="same"),
    "max": lambda n, x: F.max_pool2d(x, 3, 2, 1),
    "torch.max": lambda n, x: torch.max_pool2d(x, 3, 1, padding=1),
    "mean": lambda n, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "unfold": lambda n, x: F.unfold(x, 3, padding=(1, 2)),
}
BY_HAND: dict[str, Callable[..., Tensor]] = {  # p pads rows and columns: (before, after) each
    "pad": lambda n, x, p: p(x, (0, 3), (1, 2)),
    "crops too": lambda n, x, p: p(x[:, :, 1:, :-2], (0, 3), (1, 0)),
    "constant_pad_nd": lambda n, x, p: p(x, (0, 0), (1, 2)),
    "-inf": lambda n, x, p: F.max_pool2d(p(x, (0, 1), (0, 1)), 3, 2),
    "channels too": lambda n, x, p: p(torch.cat([x[:, :1] * 0, x.relu(), x[:, :1] * 0], 1), (0, 0), (1, 2)),
    "conv": lambda n, x, p: F.conv2d(p(x, (1, 1), (2, 2)), n.weight, None, 2),
    "same": lambda n, x, p: F.conv2d(p(x, (1, 1), (0, 1)), n.weight[..., :2]),
    "max": lambda n, x, p: F.max_pool2d(p(x, (1, 1), (1, 1)), 3, 2),
    "torch.max": lambda n, x, p: F.max_pool2d(p(x, (1, 1), (1, 1)), 3, 1),
    "mean": lambda n, x, p: F.avg_pool2d(p(x, (1, 1), (1, 1)), 3, 2),
    "unfold": lambda n, x, p: F.unfold(p(x, (1, 1), (2, 2)), 3),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("mode", [*FILLS, "none", "zeros"])
def test_an_operator_by_hand(mode: Any, name: str) -> None:
    net = One(OPERATORS[name])
    x = torch.randn(2, *SIZE)

    def padded(x: Tensor, rows: Any, columns: Any) -> Tensor:
        if mode == "none":
            return x
        return torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), rows, columns], mode=NUMPY[mode]))

    new: Any = with_padding(net, mode, input_size=SIZE)
    with torch.no_grad():
        if mode == "zeros":
            assert torch.equal(new(x), net(x))
            assert type(new) is One
            return
        torch.testing.assert_close(new(x), BY_HAND[name](net, x, padded))
    assert isinstance(new, fx.GraphModule)
    assert len(new.surgery.replaced) == 1
    assert new.surgery.replaced[0].name == "net"


def test_in_full() -> None:
    net = One(lambda n, x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), n.weight, padding=1, dilation=2))
    x = torch.randn(2, *SIZE)
    new: Any = with_padding(net, "f-conv", input_size=SIZE)
    with torch.no_grad():
        expected = F.conv2d(F.pad(x, (1, 1, 1, 1)), net.weight, padding=4, dilation=2)
        torch.testing.assert_close(new(x), expected)
    assert new.surgery.changed == {"F.pad": 1, "F.conv2d": 1}
    kept: Any = with_padding(One(OPERATORS["max"]), "f-conv", input_size=SIZE)
    assert kept.surgery.replaced == ()


def test_other_functional_paddings_become_zeros() -> None:
    net = One(lambda n, x: F.pad(x, (1, 1, 1, 1), mode="replicate"))
    new: Any = with_padding(net, "zeros", input_size=SIZE)
    x = torch.randn(2, *SIZE)
    assert torch.equal(new(x), F.pad(x, (1, 1, 1, 1)))


class OptionA(nn.Module):
    """As the CIFAR ResNets of the paper: the shortcut pads channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3))


@pytest.mark.parametrize("mode", FILLS)
def test_padded_channels_stay_and_are_counted(mode: Any) -> None:
    net, x = OptionA(), torch.randn(2, *SIZE)
    new: Any = with_padding(net, mode, input_size=SIZE)
    assert type(new) is OptionA
    assert new.surgery.not_positions == 1
    assert "1 calls pad channels or what is no map, and stay." in str(new.surgery)
    assert new.surgery.changed == {"Conv2d": 1}
    with torch.no_grad():
        expected = slow(net.conv, x, mode) + torch.cat(
            [x.new_zeros(2, 2, 5, 5), x[:, :, ::2, ::2], x.new_zeros(2, 3, 5, 5)], 1
        )
        torch.testing.assert_close(new(x), expected)


def test_a_module_of_several_names_stays_one() -> None:
    shared = One(OPERATORS["pad"])
    new: Any = with_padding(nn.Sequential(shared, nn.ReLU(), shared), "reflect", input_size=SIZE)
    assert new[0] is new[2]
    assert isinstance(new[0], fx.GraphModule)


# ---- refused


class Elsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(torch.from_numpy(x.numpy() * 2), (1, 1, 1, 1))


REFUSED: list[tuple[nn.Module, str]] = [
    (
        One(lambda n, x: F.conv_transpose2d(x, n.weight.transpose(0, 1), padding=1)),
        "F.conv_transpose2d is in its.*crops",
    ),
    (One(lambda n, x: F.fold(F.unfold(x, 3), (7, 8), 3, padding=1)), r"F\.fold is in its forward.*give it padding 0"),
    (One(lambda n, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)), r"F\.max_pool2d is in its forward.*ceil_mode"),
    (One(lambda n, x: F.max_pool2d(x, 3, 2, 1, return_indices=True)), "indices"),
    (
        One(lambda n, x: torchvision.ops.deform_conv2d(x, x.new_zeros(len(x), 18, 9, 10), n.weight, padding=1)),
        "deform_conv2d is in its forward, and it is compiled",
    ),
    (Elsewhere(), r"an operator in its forward pads, and torch\.fx cannot follow"),
]


@pytest.mark.parametrize(("net", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_cannot_be_changed_is_refused_by_name(net: nn.Module, message: str) -> None:
    net = nn.Sequential(nn.Identity(), net)
    with pytest.raises(InputError, match=rf"mode='circular': cannot change the padding of 1, a \w+: .*{message}"):
        with_padding(net, "circular", input_size=SIZE)
    with nullcontext():
        with_padding(net, "zeros", input_size=SIZE)


def test_what_adds_nothing_and_cannot_be_followed_stays_and_is_said() -> None:
    class Spare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x + torch.from_numpy(x.numpy()), (0, x.shape[3] - 10))

    new: Any = with_padding(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Spare()), "reflect", input_size=SIZE)
    assert new.surgery.changed == {"Conv2d": 1}
    assert "torch.fx cannot follow" in new.surgery.notes[0]


def test_maps_too_small_to_reflect_say_what_size_runs() -> None:
    net = nn.Sequential(nn.MaxPool2d(8), One(lambda n, x: F.pad(x, (3, 3, 3, 3))))
    with pytest.raises(InputError, match=r"mode='reflect'.*too small for its padding.*input_size=\(3, 32, 32\)"):
        with_padding(net, "reflect", input_size=(3, 16, 16))


# ---- the parts


def test_the_rule() -> None:
    def call(operator: str, fill: str, **more: Any) -> PaddingCall:
        return PaddingCall("", operator, fill, **{"positions": True, **more})

    assert is_wrong(call("F.pad", "zeros"), "reflect")
    assert not is_wrong(call("F.pad", "reflect"), "reflect")
    assert is_wrong(call("F.pad", "reflect"), "none")
    assert is_wrong(call("F.pad", "reflect"), "zeros")
    assert not is_wrong(call("F.pad", "-inf"), "zeros")
    assert not is_wrong(call("F.pad", "zeros", positions=False, other=True), "circular")
    assert is_wrong(call("F.conv2d", "zeros", positions=False), "f-conv")
    assert not is_wrong(call("F.conv2d", "zeros", full=True), "f-conv")
    assert not is_wrong(call("F.max_pool2d", "-inf"), "f-conv")
    assert is_wrong(call("F.fold", "cropping"), "f-conv")


def test_nothing_wrong_is_the_same_network() -> None:
    net = drawn(LIBRARIES["byobnet"])
    changed = change_operators(net, "zeros", (3, 32, 32), done=lambda m: False)
    assert changed.module is net
    assert (changed.replaced, changed.elsewhere, changed.fixed, changed.kept) == ((), (), (), ())


def test_what_stands_for_operators() -> None:
    x = torch.randn(1, 4, 5, 3)
    torch.testing.assert_close(
        refilled(x, (0, 0, 0, 1, 0, 2), fill="replicate", channels=3),
        torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 2), (0, 1), (0, 0)], mode="edge")),
    )
    assert torch.equal(refilled_constant(x, (1, 1), 3.0, fill="none", channels=1), x)
    weight = torch.randn(2, 4, 3, 3)
    assert torch.equal(slid(x, weight, operator="F.conv2d", fill="f-conv"), F.conv2d(x, weight, padding=2))
    error = refusal("none", "", nn.ReLU(), "no reason", "do nothing")
    assert str(error) == "mode='none': cannot change the padding of net, a ReLU: no reason; do nothing."
