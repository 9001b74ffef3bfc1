"""Gates that networks have: timm's and torchvision's by their own types, others by hand."""

import pytest
import timm
import torch
from timm.layers.create_attn import get_attn
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small
from torchvision.ops import SqueezeExcitation

from small_nets import SIZE, drawn
from whatwhere.graph.flow import flow_of
from whatwhere.graph.gates import Gate, gates


def found(*modules: nn.Module) -> tuple[Gate, ...]:
    return gates(flow_of(drawn(lambda: nn.Sequential(nn.Conv2d(3, 16, 1), *modules)), input_size=SIZE))


@pytest.mark.parametrize("name", ["se", "ese", "eca", "gc", "cbam", "lcbam", "coord"])
def test_timms_attention_modules_are_gates_as_a_whole(name: str) -> None:
    (gate,) = found(get_attn(name)(16))
    assert (gate.module, gate.calls, gate.entry.name) == ("1", 1, "_0")


def test_the_gates_of_torchvision_are_its_squeeze_and_excitation_modules() -> None:
    net = drawn(lambda: mobilenet_v3_small(num_classes=5))
    there = [name for name, m in net.named_modules() if isinstance(m, SqueezeExcitation)]
    assert [g.module for g in gates(flow_of(net, input_size=SIZE))] == there


class Inline(nn.Module):
    """Squeeze and excitation written out in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y * torch.sigmoid(self.fc(y.mean((2, 3), keepdim=True)))


def test_a_gate_between_modules_has_no_module() -> None:
    (gate,) = found(Inline())
    assert (gate.module, gate.entry.name, gate.node.name) == ("", "_1_conv", "mul")


def test_a_module_that_runs_twice_says_so() -> None:
    se = get_attn("se")(16)
    assert [(g.module, g.calls) for g in found(se, nn.ReLU(), se)] == [("1", 2), ("1", 2)]


def test_gates_in_a_row_are_counted_apart() -> None:
    assert [g.module for g in found(get_attn("se")(16), get_attn("eca")(16))] == ["1", "2"]


class Divided(nn.Module):
    """A norm by hand: the statistics have no layer before them."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()


class Halves(nn.Module):
    """A gated unit: one half times another, which is as large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * self.conv(b)


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x)


@pytest.mark.parametrize(
    "module", [Divided(), Halves(), Squared(), get_attn("gca")(16)], ids=lambda m: type(m).__name__
)
def test_what_is_no_gate(module: nn.Module) -> None:
    assert not found(module)


def test_a_grn_is_no_gate() -> None:
    assert not gates(flow_of(drawn(lambda: timm.create_model("test_convnext2", num_classes=5)), input_size=SIZE))
