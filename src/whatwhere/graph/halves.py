"""A network in two at a place that nothing goes round: what lies before it, and what works on the value there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from whatwhere.errors import InputError
from whatwhere.frozen import Frozen
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.network import Network, as_module
from whatwhere.site import Site, evaluating

NEAR = 1e-3  # of the largest score; what a second draw of dropout changes is far more


class Halves:
    """A network in two, on the network's own layers.

    Args:
        net: the network; its weights are not changed.
        site: a site of it that nothing goes round; of a network that `collapse` made, the place of its pool.

    Attributes:
        before: what lies before the place: modules that run there, alone or later as well, and the parameters of these.

    Raises:
        InputError: if something goes round the place.
    """

    def __init__(self, net: nn.Module | Network, site: Site) -> None:
        self.flow = flow_of(net, input_size=site_size(net))
        found = _place(self.flow, as_module(net), site)
        if found is None or found not in self.flow.narrows:
            raise InputError(
                f"site={site.name!r}: something goes round it, so that no part of the network lies before."
            )
        self.cut = found
        self._lower = _leading_to(self.flow, found, stop=())
        self.before = _named(self.flow, self._lower)

    def values(self, pictures: Tensor) -> Tensor:
        """The value at the place, of prepared pictures (N, C, H, W), in evaluation mode."""
        with evaluating(self._first):
            value: Tensor = self._first(pictures)
        return value

    @cached_property
    def _first(self) -> nn.Module:
        return _made(self.flow, set(), self._lower, self.cut)  # its code drops each value after its last use

    def tail(self) -> nn.Module | None:
        """A module from the value at the place to the scores, whose layers are the network's.

        Returns:
            None where there is none that does the same in training: where the network reads the pictures' sizes or
            layers of the first half behind the place, or asks itself whether it trains.
        """
        names = {self.cut, *self.flow.changed.get(self.cut, ())}
        upper = _leading_to(self.flow, self.flow.output, stop=names)
        if self.flow.picture in upper or _targets(upper) & _targets(self._lower):
            return None
        made = _made(self.flow, names, upper, self.flow.output)
        return made if self._does_the_same(made) else None

    def _does_the_same(self, tail: nn.Module) -> bool:
        """Whether the network gives the same scores in training as its halves do, with the same draws."""
        pictures = torch.cat([self.flow.example(), self.flow.example().flip(0, 3)[:1]])
        value, module = self.values(pictures), self.flow.module
        ways: tuple[Callable[[], Tensor], ...] = (lambda: module(pictures), lambda: tail(value))
        whole, half = (_in_training(module, self.before, way) for way in ways)
        return bool((whole - half).abs().max() <= NEAR * whole.abs().max())


def site_size(net: nn.Module | Network) -> tuple[int, int, int] | None:
    """The size of the pictures that a network was made for, where it says so."""
    return net.input_size if isinstance(net, Network) else None


def _in_training(module: nn.Module, before: Frozen, way: Callable[[], Tensor]) -> Tensor:
    """What a way through a network gives in training, its first half in evaluation mode; nothing is changed."""
    modes, buffers = {m: m.training for m in module.modules()}, {b: b.clone() for b in module.buffers()}
    try:
        before.train(module)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            return way()
    finally:
        for m, mode in modes.items():
            m.training = mode
        _restore(buffers)


def _restore(buffers: Mapping[Tensor, Tensor]) -> None:
    """Running statistics as they were."""
    with torch.no_grad():
        for buffer, value in buffers.items():
            buffer.copy_(value)


def _place(flow: Flow, module: nn.Module, site: Site) -> fx.Node | None:
    """The node of the value at a site, or of the pool that stands there."""
    pool = getattr(module, "pooled_by", None)
    if pool is None:
        return flow.entering(site)
    return next((n for n in reversed(flow.nodes) if n.op == "call_module" and n.target == pool), None)


def _leading_to(flow: Flow, node: fx.Node, stop: Iterable[fx.Node]) -> set[fx.Node]:
    """A node and all that it is computed from, weights included, as far as the nodes to stop at."""
    found, waiting, ends = {node}, [node], set(stop)
    while waiting:
        at = waiting.pop()
        sources = {*at.all_input_nodes, *flow.sources.get(at, ())} - ends - found
        found |= sources
        waiting.extend(sources)
    return found


def _targets(nodes: Iterable[fx.Node]) -> set[str]:
    """The modules and tensors of a network that some nodes use."""
    return {str(n.target) for n in nodes if n.op in ("call_module", "get_attr")}


def _named(flow: Flow, nodes: set[fx.Node]) -> Frozen:
    module, used = flow.module, _targets(nodes)
    later = _targets(set(flow.graph.nodes) - nodes)
    held = {id(p) for name in used for p in _parameters(module, name)}
    parameters = tuple(n for n, p in module.named_parameters(remove_duplicate=False) if id(p) in held)
    alone = [n for n, _ in module.named_modules() if n and _within(n, used) and not _within(n, later)]
    layers = [n for n, _ in module.named_modules() if n in used]
    return Frozen(tuple(dict.fromkeys([*alone, *layers])), parameters)


def _parameters(module: nn.Module, name: str) -> list[nn.Parameter]:
    """Of a module by name, or of a tensor."""
    where, _, last = name.rpartition(".")
    found = getattr(module.get_submodule(where), last)
    return list(found.parameters()) if isinstance(found, nn.Module) else [found]


def _within(name: str, used: Iterable[str]) -> bool:
    """Whether a module, or something in it, is used."""
    return any(u == name or u.startswith(f"{name}.") for u in used)


def _made(flow: Flow, names: set[fx.Node], nodes: set[fx.Node], last: fx.Node) -> fx.GraphModule:
    """A module that computes some nodes, from the value that goes by some names, or else from the pictures."""
    graph = fx.Graph()
    known = dict.fromkeys(names, graph.placeholder("value")) if names else {}
    for node in flow.graph.nodes:
        if node in nodes:
            known[node] = graph.node_copy(node, known.__getitem__)
    if last.op != "output":
        graph.output(known[last])
    graph.lint()
    made = fx.GraphModule(flow.module, graph, class_name=f"{type(flow.module).__name__}Half")
    made.training = flow.module.training
    return made
