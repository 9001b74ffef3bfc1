import sys

import pytest
import torch
from torch import Tensor, nn

from whatwhere.cost import cost
from whatwhere.network import Network


class Sleeps(nn.Module):
    """Takes a known time for each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)
        self.seen: list[tuple[int, ...]] = []
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.fc(self.conv(x).mean((2, 3)))


def test_parameters_and_flops_by_hand() -> None:
    found = cost(Sleeps(), input_size=(2, 6, 5), batch=3, seconds=0.001)
    assert found.parameters == (3 * 2 * 9 + 3) + (4 * 3 + 4)
    assert found.flops == 2 * (3 * 4 * 3 * 2 * 9) + 2 * (4 * 3)
    assert found.batch == 3
    assert found.to_dict() == {"parameters": 73, "flops": 1320, "latency_ms": found.latency_ms, "batch": 3}


def test_measured_in_evaluation_mode_on_the_batch_asked_for_and_flags_come_back() -> None:
    net = Sleeps().train()
    cost(Network(net, input_size=(2, 6, 5)), batch=3, seconds=0.001)
    assert (3, 2, 6, 5) in net.seen
    assert net.modes == {(False, False)}
    assert net.training
    assert net.conv.training


class Clock:
    """Time passes in forward passes only; the first, which warms up, is the slowest."""

    def __init__(self) -> None:
        self.now, self.passes = 0.0, iter([99.0, 1.0, 2.0, 3.0, 4.0, 50.0])

    def perf_counter(self) -> float:
        return self.now

    def __call__(self, m: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.now += next(self.passes) if len(args[0]) == 4 else 0


def test_latency_is_the_median_of_one_picture_without_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    net, clock = Sleeps(), Clock()
    net.register_forward_pre_hook(clock)
    monkeypatch.setattr(sys.modules["whatwhere.cost"], "time", clock)  # `whatwhere.cost` itself is the function
    assert cost(net, input_size=(2, 6, 5), batch=4, seconds=55).latency_ms == pytest.approx(1000 * 3 / 4)
