"""What pads is counted, whoever calls it, and what is no map is told from what is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from small_nets import LIBRARIES, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.hold.padding_calls import (
    PaddingCall,
    Recorder,
    amounts_by_axis,
    amounts_of_window,
    arguments_of,
    full_amounts,
    observed,
    padding_calls,
    pair_of,
)


class Calls(nn.Module):
    """Runs one function on a picture."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.norm, self.linear = nn.LayerNorm(3), nn.Linear(3, 3)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def last(net: Calls, x: Tensor) -> Tensor:
    """The picture, channels last."""
    return net.norm(x.permute(0, 2, 3, 1))


def seen(function: Callable[..., Tensor]) -> list[PaddingCall]:
    return padding_calls(Calls(function), (3, 6, 8))


MAPS: dict[str, tuple[Callable[..., Tensor], str]] = {  # what it does; operator and fill
    "pad": (lambda n, x: F.pad(x, (1, 1, 0, 2)), "F.pad zeros"),
    "one side": (lambda n, x: F.pad(x, (0, 1)), "F.pad zeros"),
    "by name": (lambda n, x: F.pad(input=x, pad=(0, 0, 1, 0), value=0.0), "F.pad zeros"),
    "constant_pad_nd": (lambda n, x: torch.constant_pad_nd(x, (1, 1)), "torch.constant_pad_nd zeros"),
    "a constant": (lambda n, x: F.pad(x, (1, 1), value=0.5), "F.pad 0.5"),
    "-inf": (lambda n, x: F.pad(x, (1, 1), value=-torch.inf), "F.pad -inf"),
    "reflect": (lambda n, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "F.pad reflect"),
    "last": (lambda n, x: F.pad(last(n, x), (0, 0, 0, 1, 0, 2)), "F.pad zeros"),
    "last, rows": (lambda n, x: F.pad(last(n, x), (0, 0, 0, 0, 0, 2)), "F.pad zeros"),
    "last, after a linear": (lambda n, x: F.pad(n.linear(x.movedim(1, -1)), (0, 0, 0, 1)), "F.pad zeros"),
    "from tokens": (
        lambda n, x: F.pad(n.norm(x.flatten(2).transpose(1, 2)).view(-1, 6, 8, 3), (0, 0, 0, 0, 0, 1)),
        "F.pad zeros",
    ),
    "back to first": (lambda n, x: F.pad(last(n, x).permute(0, 3, 1, 2), (1, 0)), "F.pad zeros"),
    "conv": (lambda n, x: F.conv2d(x, n.weight, padding=1), "F.conv2d zeros"),
    "same": (lambda n, x: F.conv2d(x, n.weight, padding="same"), "F.conv2d zeros"),
    "torch.conv2d": (lambda n, x: torch.conv2d(x, n.weight, None, 1, (0, 1)), "F.conv2d zeros"),
    "max": (lambda n, x: F.max_pool2d(x, 3, 2, 1), "F.max_pool2d -inf"),
    "torch.max": (lambda n, x: torch.max_pool2d(x, 3, padding=1), "F.max_pool2d -inf"),
    "indices": (lambda n, x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0], "F.max_pool2d_with_indices -inf"),
    "mean": (lambda n, x: F.avg_pool2d(x, 3, padding=1), "F.avg_pool2d zeros"),
    "mean without": (lambda n, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), "F.avg_pool2d nothing"),
    "unfold": (lambda n, x: F.unfold(x, 3, padding=1), "F.unfold zeros"),
    "transposed": (
        lambda n, x: F.conv_transpose2d(x, n.weight.transpose(0, 1), padding=1),
        "F.conv_transpose2d cropping",
    ),
    "fold": (lambda n, x: F.fold(F.unfold(x, 3), (4, 6), 3, padding=1), "F.fold cropping"),
    "deformable": (
        lambda n, x: torchvision.ops.deform_conv2d(x, x.new_zeros(1, 18, 6, 8), n.weight, padding=1),
        "deform_conv2d zeros",
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_every_way_to_pad_a_map(name: str) -> None:
    function, expected = MAPS[name]
    calls = [c for c in seen(function) if c.positions]
    assert [f"{c.operator} {c.fill}" for c in calls] == [expected]
    assert not any(c.other for c in calls)
    assert calls[0].channels == (3 if name in ("last", "last, rows", "last, after a linear", "from tokens") else 1)


OTHERS: dict[str, Callable[..., Tensor]] = {
    "channels": lambda n, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)),
    "channels last": lambda n, x: F.pad(last(n, x), (1, 1)),
    "tokens": lambda n, x: F.pad(x.flatten(2).transpose(1, 2), (0, 0, 1, 0)),
    "heads of attention": lambda n, x: F.pad(x.reshape(1, 1, 24, 6).transpose(2, 3), (0, 0, 1, 0)),
    "weights": lambda n, x: F.conv2d(x, F.pad(n.weight * 2, (1, 1, 1, 1))),
    "pictures": lambda n, x: F.pad(x, (0, 0, 0, 0, 0, 0, 0, 1)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_row_or_column(name: str) -> None:
    (call,) = (c for c in seen(OTHERS[name]) if c.operator == "F.pad")
    assert (call.positions, call.possible, call.other) == (False, False, True)


def test_what_adds_nothing() -> None:
    (crop,) = seen(lambda n, x: F.pad(x, (-1, 0)))
    assert (crop.positions, crop.possible, crop.other) == (False, False, False)
    (spare,) = seen(lambda n, x: F.pad(x, (0, 0, 0, 0)))
    assert (spare.positions, spare.possible, spare.other) == (False, True, False)
    assert seen(lambda n, x: F.max_pool2d(x, 2)) == []
    (conv,) = seen(lambda n, x: F.conv2d(x, n.weight))
    assert (conv.positions, conv.full) == (False, False)
    (conv,) = seen(lambda n, x: F.conv2d(x, n.weight, padding=4, dilation=2))
    assert (conv.positions, conv.full) == (True, True)
    (pool,) = seen(lambda n, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True))
    assert pool.ragged


def test_owners_and_their_arguments() -> None:
    net = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=5).eval()
    watched = observed(net, (3, 40, 36), ["features.1.0.attn"], pictures=2)
    where = [(c.owner, c.positions) for c in watched.calls if c.operator == "F.pad"]
    assert where == [("features.1.0.attn", True), ("features.2", False), ("features.3.0.attn", True)]
    ((x,), kwargs) = watched.given["features.1.0.attn"]
    assert (tuple(x.shape), kwargs) == ((2, 20, 18, 8), {})
    assert Recorder(net).given == {}


@pytest.mark.parametrize("name", LIBRARIES)
def test_convolutions_and_pools_are_found_by_their_own_attributes(name: str) -> None:
    net = drawn(LIBRARIES[name])
    ran: list[str] = []
    for n, m in net.named_modules():
        if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and m.padding not in (0, (0, 0), "valid"):
            m.register_forward_hook(lambda *_, n=n: ran.append(n))  # type: ignore[misc]
    calls = padding_calls(net, SIZE)
    assert [c.owner for c in calls if c.positions] == ran[: len(calls)]


def test_nothing_of_the_network_changes() -> None:
    net = drawn(LIBRARIES["byobnet"]).train()
    before, hooks = copy.deepcopy(net.state_dict()), [len(m._forward_pre_hooks) for m in net.modules()]
    state = torch.get_rng_state()
    padding_calls(net, SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in net.modules())
    assert [len(m._forward_pre_hooks) for m in net.modules()] == hooks
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not hasattr(next(net.parameters()), "channel_axis")


def test_a_network_that_does_not_run_says_so() -> None:
    with pytest.raises(InputError, match=r"does not run on a picture of shape \(3, 6, 8\)"):
        padding_calls(nn.Conv2d(4, 3, 3), (3, 6, 8))


def test_reading_a_call() -> None:
    assert arguments_of(torch.relu, (1,), {}) is None
    assert arguments_of(F.avg_pool2d, (1, 2), {"padding": 3}) == (
        "F.avg_pool2d",
        {"input": 1, "kernel_size": 2, "padding": 3},
    )
    assert amounts_by_axis((0, 1, 2, 3), 4) == {3: (0, 1), 2: (2, 3)}
    weight = torch.zeros(1, 1, 4, 3)
    assert full_amounts({"weight": weight, "dilation": 2}) == ((6, 6), (4, 4))
    assert amounts_of_window({"weight": weight, "padding": "same"}) == ((1, 2), (1, 1))
    assert amounts_of_window({"padding": "valid"}) == ((0, 0), (0, 0))
    assert amounts_of_window({"padding": [1, 2]}) == ((1, 1), (2, 2))
    assert (pair_of(3), pair_of((1, 2)), pair_of([4])) == ((3, 3), (1, 2), (4, 4))
