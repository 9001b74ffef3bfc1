"""A module whose forward is a graph computes, keeps and carries on what the module did."""

import copy
import operator
import pickle
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from small_nets import HAND, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.rewrite import (
    Rewritten,
    arguments_by_name,
    called_parts,
    copies,
    forward_graph,
    rewritten,
    same_answer,
)
from whatwhere.graph.trace import put_at, trace


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.conv(F.relu(x)) * scale


class Whole(nn.Module):
    """A part with operators of its own, an unused one, a constant, a saved value, an attribute."""

    saved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.part = Part()
        self.drop = nn.Dropout(0.5)
        self.shift = nn.Parameter(torch.randn(3, 1, 1))
        self.register_buffer("saved", torch.randn(3, 1, 1))
        self.heads = 7

    def forward(self, x: Tensor, mask: Tensor | None = None, *, double: bool = False) -> Tensor:
        y = self.drop(self.part(x, scale=2.0)) + self.shift + self.saved + torch.arange(x.shape[-1])
        y[..., 0] = 5
        if mask is not None:
            y = y * mask
        return F.relu(y) * 2 if double else F.relu(y)


def doubled_relu(x: Tensor, inplace: bool = False, *, factor: float = 1.0) -> Tensor:
    return F.relu(x) * factor


def relus(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "call_function" and n.target is F.relu]


def made(net: nn.Module, *args: Any, replaced: dict[fx.Node, Any] | None = None, **kwargs: Any) -> Rewritten:
    root = copy.deepcopy(net)
    graph = forward_graph(root, args, kwargs)
    by: Any = {n: partial(doubled_relu, factor=3.0) for n in relus(graph)} if replaced is None else replaced
    return rewritten(root, graph, by)


X = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


def test_only_its_own_operators_are_in_the_graph_and_can_be_replaced() -> None:
    net = Whole().eval()
    new = made(net, X)
    assert [n.target for n in new.graph.nodes if n.op == "call_module"] == ["part", "drop"]
    with torch.no_grad():
        torch.testing.assert_close(new(X), net(X) * 3)
        assert torch.equal(made(net, X, replaced={})(X), net(X))
        other = torch.randn(5, 3, 4, 9)
        assert torch.equal(made(net, X, replaced={})(other[..., :5]), net(other[..., :5]))


def test_names_state_attributes_and_hooks_stay() -> None:
    net = Whole()
    net.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    new = made(net, X)
    assert list(new.state_dict()) == list(net.state_dict())
    assert [n for n, _ in new.named_modules()] == [n for n, _ in net.named_modules()]
    assert (new.heads, new.training, type(new.part)) == (7, True, Part)
    new.eval()
    with torch.no_grad():
        assert torch.equal(new(X), net.eval()(X) * 3)
    assert isinstance(new, fx.GraphModule)


def test_it_trains_and_its_parts_know_it() -> None:
    torch.manual_seed(0)
    new = made(Whole(), X).train()
    assert not torch.equal(new(X), new(X))  # dropout
    new(X).sum().backward()
    assert all(p.grad is not None for n, p in new.named_parameters() if not n.startswith("unused"))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copied", "pickled"])
def test_copies_are_whole(again: Any) -> None:
    new = made(Whole().eval(), X)
    new.__dict__["surgery"] = ("what was done",)
    other = again(again(new))
    with torch.no_grad():
        assert torch.equal(other(X), new(X))
    assert isinstance(other, Rewritten)
    assert list(other.state_dict()) == list(new.state_dict())
    assert (other.surgery, other.heads, type(other).__name__) == (new.surgery, 7, "Whole")
    assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in new.parameters()}
    assert [n for n, _ in other.named_modules()] == [n for n, _ in new.named_modules()]


def test_twice() -> None:
    net = Whole().eval()
    twice = made(made(net, X), X, replaced={})
    with torch.no_grad():
        assert torch.equal(twice(X), net(X) * 3)
    assert list(twice.state_dict()) == list(net.state_dict())


def test_constants_move_and_are_no_state() -> None:
    new = made(Whole(), X)
    assert not [n for n in new.state_dict() if "constant" in n]
    assert all(b.device.type == "meta" for b in copy.deepcopy(new).to("meta").buffers())


def test_arguments_are_taken_as_they_come() -> None:
    net, mask = Whole().eval(), torch.rand(2, 1, 6, 5)
    assert list(arguments_by_name(net, (X,), {"double": True})) == ["x", "mask", "double"]
    with torch.no_grad():
        new = made(net, X, replaced={}, mask=mask, double=True)
        assert torch.equal(new(X, double=True, mask=mask), net(X, mask, double=True))
        with pytest.raises(InputError, match=r"another call.*was True then and is False now"):
            new(X, mask)


class Asks(nn.Module):
    """Every question that Python asks."""

    def forward(self, x: Tensor) -> Tensor:
        _n, c, h, w = x.shape
        if h > 4:
            x = x + 1
        if w in x.shape[:2]:
            x = x + 2
        return x * float(c) + sum(range(int(w)))


def test_other_answers_are_refused_and_not_computed_wrongly() -> None:
    net = Asks()
    new = made(net, X, replaced={})
    for n, h, w in ((1, 5, 5), (4, 9, 5)):
        x = torch.randn(n, 3, h, w)
        assert torch.equal(new(x), net(x))
    for n, h, w in ((2, 3, 5), (2, 6, 4), (5, 6, 5)):
        with pytest.raises(InputError, match=r"pictures of another size, or another call.*input_size"):
            new(torch.randn(n, 3, h, w))
    with pytest.raises(InputError, match="asked for a value"):
        same_answer([1, 2], "len", 3)
    same_answer(None, "is", None)


def test_windows_of_other_sizes() -> None:
    net = ShiftedWindowAttention(16, [4, 4], [2, 2], 2).eval()
    new = made(net, torch.randn(2, 10, 11, 16), replaced={})
    with torch.no_grad():
        for size in ((2, 10, 11, 16), (1, 20, 9, 16)):
            x = torch.randn(size)
            assert torch.equal(new(x), net(x))
        with pytest.raises(InputError):
            new(torch.randn(1, 3, 3, 16))  # smaller than a window: it would not shift


def test_a_whole_networks_graph_can_be_given_too() -> None:
    net = drawn(HAND["averaged"])
    traced = trace(copy.deepcopy(net), SIZE)
    new = rewritten(traced.module, traced.graph, dict.fromkeys(relus(traced.graph), doubled_relu))
    x = torch.randn(3, *SIZE)
    with torch.no_grad():
        assert torch.equal(new(x), net(x))
    assert list(new.state_dict()) == list(net.state_dict())


def test_the_given_graph_is_left_alone() -> None:
    root = Whole().eval()
    graph = forward_graph(root, (X,), {})
    code = graph.python_code("self").src
    rewritten(root, graph, dict.fromkeys(relus(graph), doubled_relu))
    assert graph.python_code("self").src == code


class Elsewhere(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy()) + 1


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(InputError, match=r"torch\.fx cannot follow the forward of a Elsewhere"):
        forward_graph(Elsewhere(), (X,), {})


def test_item_assignment_as_a_function() -> None:
    x = torch.zeros(3)
    assert put_at(x, 1, 2.0) is x
    assert x.tolist() == [0.0, 2.0, 0.0]
    assert operator.setitem not in [n.target for n in made(Whole().eval(), X).graph.nodes]


def test_arguments_are_copied() -> None:
    given: Any = [torch.ones(1), {"a": (torch.zeros(1),)}, 3]
    made_of = copies(given)
    made_of[1]["a"][0].add_(1)
    made_of[1]["b"] = 2
    made_of.append(4)
    assert given == [torch.ones(1), {"a": (torch.zeros(1),)}, 3]


# ---- of a whole network


def test_a_copy_keeps_its_reports_its_mode_and_its_own_weights() -> None:
    net = drawn(HAND["averaged"])
    graph = trace(net, SIZE).graph
    new = rewritten(called_parts(net, graph), graph)
    new.__dict__["surgery"] = "report"
    twin = copy.deepcopy(new.eval())
    assert twin.surgery == "report"
    assert not twin.training
    x = torch.randn(2, *SIZE)
    assert torch.equal(twin(x), net(x))
    assert twin.stem.weight.data_ptr() != new.stem.weight.data_ptr()  # type: ignore[union-attr]
    for again in (twin, copy.deepcopy(twin)):
        assert type(again).__name__ == type(new).__name__ == "Averaged"
        assert again.surgery == "report"
        assert repr(again) == repr(new)


@pytest.mark.parametrize("training", [True, False])
def test_of_a_whole_network_those_parts_stay_that_are_called(training: bool) -> None:
    net = drawn(lambda: nn.Sequential(Whole())).train(training)
    graph = trace(net, SIZE).graph
    new = rewritten(called_parts(net, graph), graph)
    names = {n for n, _ in new.named_modules()}
    assert names == {"", "0", "0.part", "0.part.conv", "0.drop"}
    assert type(new.get_submodule("0.part")) is nn.Module  # its forward is not called any more
    assert set(new.state_dict()) >= {"0.part.conv.weight", "0.part.conv.bias", "0.shift", "0.saved"}
    assert not [n for n in new.state_dict() if "unused" in n]
    assert new.training is training
    assert type(new).__name__ == "Sequential"


def test_a_whole_network_is_pickled_with_what_is_kept_on_it() -> None:
    net = drawn(HAND["averaged"])
    graph = trace(net, SIZE).graph
    new = rewritten(called_parts(net, graph), graph)
    new.__dict__.update(surgery="report", pooled_by="gap")
    again = pickle.loads(pickle.dumps(new))
    x = torch.randn(2, *SIZE)
    assert torch.equal(again(x), net(x))
    assert (again.surgery, again.pooled_by, type(again).__name__) == ("report", "gap", "Averaged")
