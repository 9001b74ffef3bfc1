"""Gates that a network has between modules: the same forward as a graph, with a module in the place of a product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import fx, nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow
from whatwhere.graph.gates import is_product
from whatwhere.graph.rewrite import asks_whether_it_trains, copies, forward_graph, rewritten
from whatwhere.graph.trace import MUTATES
from whatwhere.site import evaluating
from whatwhere.surgery import put_everywhere
from whatwhere.use.places import Place
from whatwhere.use.recalibrated import Recalibrated


def put_between(module: nn.Module, flow: Flow, made: Mapping[Place, Recalibrated]) -> nn.Module:
    """A network with gates of ours in the place of products; the layers that made their weights are gone.

    Args:
        module: a copy of the network; it is used up.
        flow: of the network itself.
        made: by the places of gates between modules, what is put there.

    Raises:
        InputError: if the forward in which a product is cannot be followed.
    """
    for owner in dict.fromkeys(p.owner for p in made):
        old = module.get_submodule(owner)
        places = {p: new for p, new in made.items() if p.owner == owner}
        module = put_everywhere(module, old, _with_gates(owner, old, flow, places))
    return module


def _with_gates(name: str, owner: nn.Module, flow: Flow, made: Mapping[Place, Recalibrated]) -> nn.Module:
    graph = _graph(name, owner, flow)
    by_number = dict(enumerate(n for n in flow.graph.nodes if is_product(n) and _owner(flow, n) == name))
    ours = [n for n in graph.nodes if is_product(n)]
    if len(ours) != len(by_number):
        raise _refusal(name, owner, "its products are not those of the network's forward pass")
    node_of = {by_number[i]: n for i, n in enumerate(ours)}
    before = _read(graph)
    for place, new in made.items():
        called = place.module.rpartition(".")[2]
        owner.add_module(called, new)
        (product,) = place.nodes
        assert place.gate
        _replace(graph, node_of[product], flow.sources[product].index(place.gate.entry), called)
    _drop(owner, before - _read(graph), _called_elsewhere(flow, name))
    return rewritten(owner, graph)


def _owner(flow: Flow, node: fx.Node) -> str:
    return ("", *flow.owners(node))[-1]


def _graph(name: str, owner: nn.Module, flow: Flow) -> fx.Graph:
    if asks_whether_it_trains(owner):
        raise _refusal(name, owner, "its forward asks whether it trains")
    try:
        return forward_graph(owner, *_given(flow, name))
    except InputError as error:
        raise _refusal(name, owner, str(error)) from error


def _refusal(name: str, owner: nn.Module, why: str) -> InputError:
    return InputError(
        f"replace=True: the gate between the modules of {name or 'the network'}, a {type(owner).__name__}, cannot be "
        f"replaced: {why}. Make it a module, or choose others by sites=..."
    )


def _given(flow: Flow, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with, in the pass that was traced."""
    seen: list[Any] = []
    handle = flow.module.get_submodule(name).register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append(copies((args, kwargs))), with_kwargs=True
    )
    try:
        with evaluating(flow.module):
            flow.module(flow.example())
    finally:
        handle.remove()
    given: tuple[tuple[Any, ...], dict[str, Any]] = seen[0]
    return given


def _replace(graph: fx.Graph, product: fx.Node, entry: int, called: str) -> None:
    """Call a module on what a product weighs, and drop what only made the weights."""
    weighed, weights = product.all_input_nodes[entry], product.all_input_nodes[1 - entry]
    with graph.inserting_before(product):
        new = graph.call_module(called, (weighed,))
        if product.meta[MUTATES]:  # others may hold the map, and see it weighed
            new = graph.call_method("copy_", (weighed, new))
    product.replace_all_uses_with(new)
    graph.erase_node(product)
    made_of = _before(weights)
    for node in reversed(list(graph.nodes)):
        if node in made_of and not node.users and node.op != "placeholder" and not node.meta.get(MUTATES):
            graph.erase_node(node)


def _before(node: fx.Node) -> set[fx.Node]:
    found, waiting = {node}, [node]
    while waiting:
        fresh = [s for s in waiting.pop().all_input_nodes if s not in found]
        found.update(fresh)
        waiting.extend(fresh)
    return found


def _read(graph: fx.Graph) -> set[str]:
    """The layers, and parameters, that a graph reads."""
    return {str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}


def _drop(owner: nn.Module, unread: Iterable[str], elsewhere: Iterable[str]) -> None:
    for name in set(unread) - set(elsewhere):
        parent, _, last = name.rpartition(".")
        if isinstance(getattr(owner.get_submodule(parent), last), nn.Module | nn.Parameter):
            delattr(owner.get_submodule(parent), last)


def _called_elsewhere(flow: Flow, name: str) -> set[str]:
    """The modules that others than a module's own forward call, by the names that they have in it."""
    prefix = f"{name}." if name else ""
    calls = {c for found in flow.calls.values() for c in found if c.module.startswith(prefix)}
    often = {c.module for c in calls if c.number > 1}
    return {c.removeprefix(prefix) for c in often}
