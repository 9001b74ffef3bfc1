"""Of every chosen block that gets no gate it is said why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small

from small_nets import Forked, drawn
from whatwhere.errors import InputError
from whatwhere.use import recalibrate


class Part(nn.Module):
    """Layers to build with, and a forward that is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.point, self.mix = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.down, self.up = nn.Conv2d(4, 4, 3, 2, 1), nn.Upsample(scale_factor=2)
        self.tokens, self.norm = nn.Linear(64, 64), nn.BatchNorm2d(4)
        self.inner: Any = None
        self.given = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.given(self, x)


def block(m: Any, x: Tensor) -> Tensor:
    return x + m.norm(m.b(F.relu(m.a(x))))


def read_twice(m: Any, x: Tensor) -> Tensor:
    y = m.a(F.relu(x))
    return m.mix(torch.cat([F.relu(x + y), y], 1))


REASONS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "nothing is added": (lambda m, x: F.relu(m.a(x)), "it adds and concatenates no maps"),
    "parallel sums": (lambda m, x: F.relu(m.a(x)) + F.relu(m.b(x)), "in 1 places what is added are parallel paths"),
    "parallel maps": (
        lambda m, x: m.mix(torch.cat([F.relu(m.a(x)), F.relu(m.b(x))], 1)),
        "in 1 places what is concatenated are parallel paths: none is computed from another",
    ),
    "one layer in sum": (lambda m, x: m.a(x) + m.point(x), "what is added are linear layers of one value"),
    "no layer": (lambda m, x: x + F.relu(x), "what is added are a value and a function of it without a layer"),
    "a larger part": (
        lambda m, x: m.mix(torch.cat([x, m.up(F.relu(m.down(x)))], 1)),
        "what is concatenated are a value and what a larger part of the network makes of it",
    ),
    "functions": (
        lambda m, x: x + F.conv2d(F.relu(m.a(x)), m.point.weight),
        r"1: it ends in functions \(conv2d\), and no module gives their map to them alone",
    ),
    "read elsewhere": (read_twice, "1: what it adds is read elsewhere too"),
    "runs elsewhere": (lambda m, x: x + m.a(F.relu(m.a(x))), "1: 1.a, which ends it, runs elsewhere too"),
    "no map": (
        lambda m, x: x + m.tokens(F.relu(m.a(x)).flatten(2)).unflatten(2, (8, 8)),
        "1: what 1.tokens gives is no map",
    ),
    "another size": (
        lambda m, x: x + m.point(x.mean((2, 3), keepdim=True)),
        r"it adds values of different sizes, \(4, 8, 8\) and \(4, 1, 1\) of each picture",
    ),
}


def with_blocks(forward: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Part(forward), Part(block), nn.Conv2d(4, 4, 1)))


SIZE = (3, 8, 8)


@pytest.mark.parametrize("name", REASONS)
def test_a_chosen_block_without_a_place_is_refused_and_it_is_said_why(name: str) -> None:
    forward, why = REASONS[name]
    net = with_blocks(forward)
    for sites in ("1", ["1", "2"], [net[1], "2"]):  # type: ignore[index]
        with pytest.raises(InputError, match=rf"holds no residual block .*{why}.*Places in this network: .*2"):
            recalibrate(net, "se", ratio=1, sites=sites, input_size=SIZE)


def test_the_other_blocks_are_recalibrated_alone() -> None:
    for forward, _ in REASONS.values():
        report = recalibrate(with_blocks(forward), "se", ratio=1, sites="2", input_size=SIZE).surgery
        assert [r.name for r in report.inserted] == ["2.norm"]
        assert not report.left_out


def test_of_several_chosen_at_once_those_without_a_place_are_named() -> None:
    net = with_blocks(REASONS["functions"][0])
    report = recalibrate(net, "se", ratio=1, sites="[12]", input_size=SIZE).surgery
    assert list(report.left_out) == ["1"]
    assert "Left out: 1: it ends in functions (conv2d)" in str(report)


@pytest.mark.parametrize(
    ("sites", "why"),
    [
        ("2.a", "it lies in a branch of 2, whose gate stands behind 2.norm: choose that"),
        ("1.a", r"it lies in a branch of 1, which has no place: it ends in functions \(conv2d\)"),
        ("3", "it adds and concatenates no maps"),
        ("4.skip", "it lies in no branch of 4; where one ends, behind 4.second, a gate can stand"),
    ],
)
def test_a_part_of_a_block_is_told_where_the_gate_of_the_block_stands(sites: str, why: str) -> None:
    net = with_blocks(REASONS["functions"][0])
    net.append(Forked(4, 2))  # type: ignore[operator]
    with pytest.raises(InputError, match=why):
        recalibrate(drawn(lambda: net), "se", ratio=1, sites=sites, input_size=SIZE)


def test_a_layer_beside_a_gate_that_is_replaced_is_told_of_the_gate() -> None:
    net = drawn(lambda: mobilenet_v3_small(num_classes=5))
    for i, why in (
        (4, "it is no gate; that of features.4.block is"),
        (5, "it lies in a branch of features.5, whose gate"),
    ):
        with pytest.raises(InputError, match=rf"{why}.* features.{i}.block.2: choose that"):
            recalibrate(net, "se", replace=True, sites=f"features.{i}.block.1", input_size=(3, 64, 64))


def test_values_with_heads_or_parts_of_one_value() -> None:
    def heads(m: Any, x: Tensor) -> Tensor:
        y = x.reshape(len(x) * 2, 2, 8, 8)
        return (F.relu(y) + torch.sigmoid(y)).reshape(x.shape)

    def parts(m: Any, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat([F.relu(first) + torch.sigmoid(second), second], 1)

    for forward, why in ((heads, "heads or windows in the place of pictures"), (parts, "different parts of one value")):
        with pytest.raises(InputError, match=why):
            recalibrate(with_blocks(forward), "se", ratio=1, sites="1", input_size=SIZE)


@pytest.mark.parametrize("name", ["nothing is added", "parallel sums", "functions", "another size"])
def test_of_a_whole_network_without_a_place_it_is_said_why(name: str) -> None:
    forward, why = REASONS[name]
    with pytest.raises(InputError, match=rf"the network holds no residual block and no dense layer: .*{why}"):
        recalibrate(drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Part(forward))), "se", ratio=1, input_size=SIZE)
