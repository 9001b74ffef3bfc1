"""The traced graph computes what the network computes, whatever its Python does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.trace import MUTATES, VALUE, execute, trace

EVERY = {**HAND, **PAPERS, **LIBRARIES}


@pytest.mark.parametrize("name", EVERY)
def test_the_graph_computes_what_the_network_does_on_a_batch_of_another_size(name: str) -> None:
    net = drawn(EVERY[name])
    graph = fx.GraphModule(net, trace(net, SIZE).graph)
    x = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(graph(x.clone()), net(x.clone()))


def test_calls_are_counted_and_their_maps_noted() -> None:
    net = drawn(HAND["squeezed"])
    traced = trace(net, SIZE)
    assert traced.entering["last", 2] is not traced.entering["last", 1]
    assert traced.left["last", 2].meta[VALUE].shape == (2, 8, 32, 32)
    assert ("mix", 2) not in traced.entering


class Asks(nn.Module):
    """Control flow on sizes and on values, item assignment, a loop over a size, a length."""

    def forward(self, x: Tensor) -> Tensor:
        mask = x.new_zeros(x.shape[-2:])
        mask[: x.shape[-2] // 2] = 1
        y = x * mask
        for i in range(len(x.shape) - 2):
            y = y + i
        if y.shape[-1] > 4 and float(x.shape[1]) == 3.0 and 3 in x.shape:
            y = y.mean(dim=tuple(range(2, x.dim())))
        return y if (x.abs().sum() > 0) else y - 1


def test_python_is_followed_where_it_asks_for_values() -> None:
    net = Asks()
    graph = fx.GraphModule(net, trace(net, SIZE).graph)
    x = torch.randn(5, *SIZE)
    assert torch.equal(graph(x), net(x))


class Inplace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        half = y[:, :1]
        F.relu(y, inplace=True)
        return half + y


@pytest.mark.parametrize(
    ("name", "asks"), [("squeezed", True), ("resnet", False), ("shortcut", False), ("flattened", False)]
)
def test_whether_the_graph_holds_one_answer_only(name: str, asks: bool) -> None:
    assert trace(drawn(EVERY[name]), SIZE).asked == asks


def test_whose_values_were_changed_in_place() -> None:
    nodes = {n.name: n for n in trace(Inplace(), SIZE).graph.nodes}
    assert {n.name for n in nodes["relu"].meta[MUTATES]} == {"add", "getitem"}
    assert not nodes["add"].meta[MUTATES]


class Dropped(nn.Module):
    """Does something else in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


def test_what_differs_in_training_stays_a_module() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Dropped(), nn.BatchNorm2d(4), nn.Dropout(0.1))
    graph = fx.GraphModule(net, trace(net, SIZE).graph)
    kept = [n.target for n in graph.graph.nodes if n.op == "call_module"]
    assert kept == ["0", "1", "2", "3"]
    x = torch.randn(2, *SIZE)
    assert torch.equal(graph.train()(x).mean() * 0, torch.zeros(()))
    assert graph.get_submodule("1").training


def test_nothing_of_the_network_changes() -> None:
    net = drawn(HAND["squeezed"]).train()
    before, flags = {k: v.clone() for k, v in net.state_dict().items()}, [m.training for m in net.modules()]
    state, hooks = torch.get_rng_state(), [len(m._forward_hooks) for m in net.modules()]
    trace(net, SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == flags
    assert [len(m._forward_hooks) for m in net.modules()] == hooks
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy()).clone()


@pytest.mark.parametrize(
    ("net", "size", "why"), [(Opaque(), SIZE, "cannot follow"), (nn.Conv2d(4, 1, 1), SIZE, "channels")]
)
def test_what_cannot_be_followed_is_refused(net: nn.Module, size: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        trace(net, size)


def test_every_kind_of_node_is_executed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    net.register_buffer("shift", torch.ones(2))
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_method("add", (x, graph.get_attr("shift")))
    z = graph.call_function(torch.relu, (graph.call_module("0", (y,)),))
    values: dict[fx.Node, Any] = {x: torch.tensor([[-2.0, 1.0]])}
    for node in list(graph.nodes)[1:]:
        values[node] = execute(net, node, values.__getitem__)
    assert values[z].tolist() == [[0.0, 2.0]]


class Augmented(nn.Module):
    """`x += y` changes what others hold; of a number it does not."""

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        held, count = y, x.shape[-1]
        y += x
        y *= 2
        count += 1
        count //= 2
        return held * count - y / 2


def test_augmented_assignments_are_followed_in_place() -> None:
    net, x = Augmented(), torch.randn(3, *SIZE)
    traced = trace(net, SIZE)
    assert torch.equal(fx.GraphModule(net, traced.graph)(x), net(x))
    assert not traced.asked


class BehindTheBack(nn.Module):
    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x + len(self.seen)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Detached(nn.Module):
    """Its numbers leave torch's sight."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for held in [y] if isinstance(x, fx.Proxy) else []:
            held += 1
        return x + y


def test_what_was_followed_is_seen_to_give_what_the_network_gives() -> None:
    with pytest.raises(InputError, match="what it followed gives other values than the network"):
        trace(Detached(), SIZE)
    trace(Noisy(), SIZE)  # gives other values each time by itself
    trace(BehindTheBack([]), SIZE)


class AsksFor(nn.Module):
    def __init__(self, question: Any) -> None:
        super().__init__()
        self.question, self.gain = question, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.question(self, x) else x


@pytest.mark.parametrize(
    ("question", "values"),
    [
        (lambda m, x: x.shape[-1] > 4, False),
        (lambda m, x: x.mean(1).size(-1) > 4, False),
        (lambda m, x: m.gain > 0, False),
        (lambda m, x: m.gain.item() > 0, False),
        (lambda m, x: x.sum() > 0, True),
        (lambda m, x: (m.gain * x).mean().item() > 0, True),
        (lambda m, x: x[0, 0, 0].tolist()[0] > 0, True),
        (lambda m, x: torch.allclose(x, x.flip(-1)), True),
        (lambda m, x: float(x.max()) > 3, True),
    ],
)
def test_whether_python_asked_for_the_pictures_values(question: Any, values: bool) -> None:
    assert trace(AsksFor(question), SIZE).asked_values is values
