import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from whatwhere.costs import cost, kept_bytes
from whatwhere.errors import InputError
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
    assert found.to_dict() == {
        "parameters": 73,
        "flops": 1320,
        "latency_ms": found.latency_ms,
        "batch": 3,
        "kept_bytes": 252,
    }


def test_kept_is_what_the_backward_pass_needs_by_hand() -> None:
    """Of each picture: the convolution's input, 2 x 6 x 5, and the linear layer's, 3; in float32."""
    assert kept_bytes(Sleeps(), torch.zeros(4, 2, 6, 5)) == 4 * (2 * 6 * 5 + 3)


def test_a_map_that_two_layers_need_is_kept_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    assert kept_bytes(Twice(), torch.zeros(2, 2, 4, 4)) == 4 * 2 * 4 * 4


def test_the_network_that_is_measured_stays_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept_bytes(net, torch.randn(2, 2, 4, 4))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.training


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
    monkeypatch.setattr(sys.modules["whatwhere.costs"], "time", clock)  # `whatwhere.costs` itself is the function
    assert cost(net, input_size=(2, 6, 5), batch=4, seconds=55).latency_ms == pytest.approx(1000 * 3 / 4)


def test_dropout_draws_nothing_from_the_callers_generator() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten())
    before = torch.get_rng_state()
    cost(net, input_size=(3, 6, 6), seconds=0.001)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": -1}, {"seconds": -1.0}])
def test_impossible_counts_are_refused(options):
    with pytest.raises(InputError, match="give at least one picture, and a time of 0 or more"):
        cost(nn.Conv2d(3, 3, 3), input_size=(3, 8, 8), **options)


def test_pruned_networks_have_a_cost():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    prune.l1_unstructured(net[0], "weight", 0.5)
    net(torch.randn(1, 3, 8, 8))
    assert cost(net, input_size=(3, 8, 8), batch=1, seconds=0).kept_bytes > 0
