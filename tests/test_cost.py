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


def test_latency_is_that_of_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timer:
        def __init__(self, *_: object, **__: object) -> None: ...

        def blocked_autorange(self, min_run_time: float) -> "Timer":
            assert min_run_time == 0.25
            return self

        median = 0.5  # seconds a forward pass

    monkeypatch.setattr(sys.modules["whatwhere.cost"], "Timer", Timer)  # `whatwhere.cost` is the function
    assert cost(Sleeps(), input_size=(2, 6, 5), batch=4, seconds=0.25).latency_ms == pytest.approx(125.0)
