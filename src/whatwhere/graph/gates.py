"""Gates that a network has: maps that are multiplied by weights computed from the maps themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import fx, nn

from whatwhere.graph.flow import Call, Flow
from whatwhere.graph.trials import Trials, name_of

TIMES = ("mul", "imul", "mul_", "multiply", "__mul__", "__imul__")
_SPREAD = ("expand", "expand_as")


@dataclass(frozen=True)
class Gate:
    """A map that is multiplied by weights computed from it, as by squeeze-and-excitation.

    Attributes:
        entry: the map.
        node: the product.
        module: the outermost module that does this and nothing else; "" if it is done between modules.
        calls: how often that module runs.
    """

    entry: fx.Node
    node: fx.Node
    module: str = ""
    calls: int = 0


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two values by a function or method."""
    return node.op in ("call_function", "call_method") and name_of(node) in TIMES and len(node.all_input_nodes) == 2


def spread_from(flow: Flow, weights: fx.Node) -> fx.Node:
    """Weights as they were before they were expanded to the size of a map."""
    return flow.sources[weights][0] if name_of(weights) in _SPREAD else weights


def gates(flow: Flow) -> tuple[Gate, ...]:
    """The gates of a network, in order; one module that gates twice, over channels and over space, is one.

    The weights must be fewer than the map's numbers or come from its means, and a layer with parameters must lie before
    them: a normalisation divides by a statistic of the map, and is no gate.
    """
    finder = _Gates(flow)
    return tuple(finder.whole(entry, node) for node, entry in finder.products.items() if not finder.goes_on(node))


class _Gates:
    def __init__(self, flow: Flow) -> None:
        self.flow, self.trials = flow, Trials(flow)
        self.products: dict[fx.Node, fx.Node] = {}  # by node, the map
        for node in flow.nodes:
            self._note(node)

    def _note(self, node: fx.Node) -> None:
        sources = self.flow.sources[node]
        if name_of(node) in TIMES and len(sources) == 2:
            for entry, weights in (sources, sources[::-1]):
                if self._weighs(node, entry, weights):
                    self.products[node] = entry

    def _weighs(self, node: fx.Node, entry: fx.Node, weights: fx.Node) -> bool:
        shape = self.flow.shapes.get(entry, ())
        weights = spread_from(self.flow, weights)
        is_map = len(shape) > 2 and shape == self.flow.shapes.get(node)
        return is_map and any(self._are_weights(weights, of=m) for m in self._maps(entry))

    def _maps(self, entry: fx.Node) -> Iterator[fx.Node]:
        """A map, and those whose products it is: all weights of a gate may be computed from the first."""
        yield entry
        while entry in self.products:
            entry = self.products[entry]
            yield entry

    def _are_weights(self, weights: fx.Node, *, of: fx.Node) -> bool:
        """Whether a value is computed from a map, by a layer with parameters, and is less than a map."""
        if weights not in self.flow.after(of):
            return False
        between = self.flow.leading([of], weights)
        fewer = prod(self.flow.shapes.get(weights, (0,))) < prod(self.flow.shapes[of])
        return (fewer or any(map(self._averages, between))) and any(map(self._has_parameters, between))

    def _averages(self, node: fx.Node) -> bool:
        """Whether a node takes means over space, which tells a gate where a map has one position only."""
        pools = isinstance(self.trials.module(node), nn.AdaptiveAvgPool2d)
        return pools or any(part in name_of(node) for part in ("mean", "adaptive"))

    def _has_parameters(self, node: fx.Node) -> bool:
        m = self.trials.module(node)
        return self.trials.is_layer(node) if m is None else next(m.parameters(), None) is not None

    def goes_on(self, node: fx.Node) -> bool:
        """Whether a product is only the first half of a module that gates twice."""
        later = [n for n, entry in self.products.items() if entry is node]
        return any(self.whole(node, n).entry is not node for n in later)

    def whole(self, entry: fx.Node, node: fx.Node) -> Gate:
        """The gate that ends in a product."""
        modules = [(c, self._begins(c, node)) for c in reversed(self.flow.calls.get(node, ()))]
        found = next((c for c, begins in modules if begins), None)
        if found is None or found.entry is None:
            return Gate(entry, node)
        return Gate(found.entry, node, found.module, self._count(found.module))

    def _begins(self, call: Call, node: fx.Node) -> bool:
        """Whether a call takes the map of a product, or of those before it whose products it goes on with."""
        while node in self.products:
            node = self.products[node]
            if node is call.entry:
                return True
        return False

    def _count(self, module: str) -> int:
        return sum(c.module == module for calls in self.flow.calls.values() for c in calls)
