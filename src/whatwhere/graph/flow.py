"""The dataflow of a network: what is computed from what, and the places that nothing goes round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import networkx as nx  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
from torch import Tensor, fx, nn

from whatwhere.graph.trace import MUTATES, VALUE, Trace, execute, pictures, trace
from whatwhere.network import Network, as_module
from whatwhere.site import Site, expected_input_size

Picked = Mapping[fx.Node, Any]
ValueOf = Callable[[fx.Node], Any]
Step = Callable[[fx.Node, ValueOf], Any]


@dataclass(frozen=True)
class Region:
    """What lies between two places that nothing goes round.

    Attributes:
        entry: everything in the region is computed from this node's value alone.
        exit: all that follows is computed from this node's value alone.
        inside: the nodes between, in order, the exit among them.
    """

    entry: fx.Node
    exit: fx.Node
    inside: tuple[fx.Node, ...]


class Call(NamedTuple):
    """One call of a module: its name, which of its calls this is, from 1, and whose map entered it, if one did."""

    module: str
    number: int
    entry: fx.Node | None


class Flow:
    """What a network computes from what.

    Args:
        traced: one forward pass.

    Attributes:
        nodes: those whose values are computed from the picture and hold tensors, in order.
        shapes: of those nodes that give one tensor, the shape for the pair of pictures.
        sources: for each node those that it is computed from; of a value that was changed in place, the node that
            changed it last.
        changed: for each node that changes values in place, the nodes whose values they are.
        named: every node of the graph by its name.
        asked: whether the graph holds one answer to a question that Python asked of the picture or its size.
        asked_values: whether one was of the picture's values.
    """

    def __init__(self, traced: Trace) -> None:
        self.module, self.graph, self.size = traced.module, traced.graph, traced.size
        self.asked, self.asked_values = traced.asked, traced.asked_values
        self._traced = traced
        self._others: dict[fx.Node, Any] = {}  # values that are no tensors, or not of the picture
        self._made_again: set[fx.Node] = set()  # those into which the picture is written: not what they held last
        self.sources: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.changed: dict[fx.Node, tuple[fx.Node, ...]] = {}
        self.named: dict[str, fx.Node] = {n.name: n for n in traced.graph.nodes}
        latest: dict[fx.Node, fx.Node] = {}
        for node in traced.graph.nodes:
            self._read(node, latest)
        self.nodes = tuple(self.sources)

    def _read(self, node: fx.Node, latest: dict[fx.Node, fx.Node]) -> None:
        read = dict.fromkeys(latest.get(n, n) for n in node.all_input_nodes)
        from_picture = tuple(n for n in read if n in self.sources)
        value, changed = node.meta.pop(VALUE, None), node.meta.pop(MUTATES, ())
        is_first = not self.sources and node.op == "placeholder"
        if node.op == "output" or is_first or (from_picture and (changed or _holds_tensors(value))):
            self.sources[node] = from_picture
            if isinstance(value, Tensor):
                self.shapes[node] = tuple(value.shape)
        else:
            self._others[node] = value
        latest.update(dict.fromkeys(changed, node))
        if changed:
            self.changed[node] = tuple(changed)
        if node in self.sources:
            self._made_again.update(n for n in changed if n in self._others)

    @property
    def picture(self) -> fx.Node:
        """Where the pictures come in."""
        return self.nodes[0]

    @property
    def output(self) -> fx.Node:
        """What the network gives."""
        return self.nodes[-1]

    @cached_property
    def order(self) -> dict[fx.Node, int]:
        """When each node runs."""
        return {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def users(self) -> dict[fx.Node, tuple[fx.Node, ...]]:
        """For each node those that are computed from it at once."""
        found: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.nodes}
        for node, sources in self.sources.items():
            for source in sources:
                found[source].append(node)
        return {node: tuple(users) for node, users in found.items()}

    @cached_property
    def narrows(self) -> tuple[fx.Node, ...]:
        """The nodes that every path from the picture to the output goes through, in order (its dominators)."""
        found = [self.output]
        while found[-1] is not self.picture:
            found.append(self._above[found[-1]])
        return tuple(reversed(found))

    @cached_property
    def _above(self) -> dict[fx.Node, fx.Node]:
        """For each node the nearest other one that every path from the picture to it goes through."""
        flow = nx.DiGraph((s, n) for n, sources in self.sources.items() for s in sources)
        found: dict[fx.Node, fx.Node] = nx.immediate_dominators(flow, self.picture)
        return found

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """What lies between each of the narrows and the next, in order."""
        return tuple(self._between(a, b) for a, b in pairwise(self.narrows))

    def around(self, node: fx.Node) -> Iterator[Region]:
        """Parts of the network around a node whose paths fork at one place and meet at another, smaller ones first.

        What enters may be read elsewhere as well, as what the skip of a U-Net keeps; nothing else inside is.
        """
        behind = self.after(node, until=self.output)
        for exit in self.nodes:
            if exit in behind and len(self.sources[exit]) > 1 and exit in self._above:
                region = self._between(self._above[exit], exit)
                if node in region.inside and self._is_closed(region):
                    yield region

    def _is_closed(self, region: Region) -> bool:
        inside = set(region.inside)
        enters = all({*self.sources[n]} <= {*inside, region.entry} for n in inside)
        return enters and all({*self.users[n]} <= inside for n in inside - {region.exit})

    def _between(self, entry: fx.Node, exit: fx.Node) -> Region:
        between = self.after(entry, until=exit) & {exit, *self.before(exit)}  # not what nothing comes of
        return Region(entry, exit, tuple(n for n in self.nodes if n in between))

    def after(self, node: fx.Node, *, until: fx.Node | None = None) -> set[fx.Node]:
        """All that is computed from a node, as far as another one, that one included."""
        found: set[fx.Node] = set()
        waiting = [node]
        while waiting:
            fresh = [u for u in self.users[waiting.pop()] if u not in found]
            found.update(fresh)
            waiting.extend(u for u in fresh if u is not until)
        return found

    def before(self, node: fx.Node) -> set[fx.Node]:
        """All that a node is computed from."""
        found: set[fx.Node] = set()
        waiting = [node]
        while waiting:
            fresh = [s for s in self.sources[waiting.pop()] if s not in found]
            found.update(fresh)
            waiting.extend(fresh)
        return found

    @cached_property
    def calls(self) -> dict[fx.Node, tuple[Call, ...]]:
        """For each node the calls of modules that give its value, innermost first."""
        found: dict[fx.Node, list[Call]] = {}
        for call, node in self._traced.left.items():
            found.setdefault(node, []).append(Call(*call, self._traced.entering.get(call)))
        return {node: tuple(calls) for node, calls in found.items()}

    def leading(self, starts: Iterable[fx.Node], end: fx.Node) -> tuple[fx.Node, ...]:
        """All that is computed from some nodes and that another one is computed from, that one included, in order.

        Where one of the first is computed from another of them, what leads there is left out.
        """
        first = set(starts)
        later = set().union(*map(self.after, first))
        found, waiting = {end}, [end]
        while waiting:
            fresh = [s for s in self.sources[waiting.pop()] if s in later and s not in found | first]
            found.update(fresh)
            waiting.extend(fresh)
        return tuple(sorted(found, key=self.order.__getitem__))

    def entering(self, site: Site) -> fx.Node | None:
        """The node whose value enters a site; None if the site is not called in the traced pass."""
        return self._traced.entering.get((site.module, site.call))

    def known(self, node: fx.Node) -> Any:
        """The value of a node that is not computed from the picture."""
        return self._others[node]

    def example(self) -> Tensor:
        """The pair of pictures that was traced with."""
        return pictures(self.module, self.size)

    def owners(self, node: fx.Node) -> tuple[str, ...]:
        """The modules in whose forward a node runs, outermost first; of a module that was left whole, that one too."""
        stack = node.meta.get("nn_module_stack") or {}
        return tuple(name for name, *_ in stack.values())

    def run(self, values: Picked, until: Iterable[fx.Node], step: Step | None = None) -> dict[fx.Node, Any]:
        """Values of nodes, computed from given values of others.

        Args:
            values: of nodes; the tensors are not changed.
            until: the nodes that are wanted; they must be computed from the given ones alone.
            step: gives a node's value, from the node and a function from its inputs to their values; None is what the
                node itself does.
        """
        wanted = set(until)
        known: dict[fx.Node, Any] = {n: v.clone() if isinstance(v, Tensor) else v for n, v in values.items()}
        known = {**{name: v for n, v in known.items() for name in self._held_by(n)}, **known}
        needed = self._needed(wanted, known)
        give, value_of = step or self.step, self._reader(known)
        for node in self.nodes:
            if node in needed:
                known[node] = give(node, value_of)
        found = {n: known[n] for n in wanted}
        known.clear()  # the reader holds itself, and would keep all values until garbage is collected
        return found

    def _held_by(self, node: fx.Node) -> Iterator[fx.Node]:
        """The nodes whose whole value a node changed in place: what reads them reads what it gave."""
        return (n for n in self.changed.get(node, ()) if self.shapes.get(n) == self.shapes.get(node, ()))

    def _reader(self, known: dict[fx.Node, Any]) -> ValueOf:
        """Gives the values of nodes: sizes are those of the values at hand, where these are known."""

        def value_of(node: fx.Node) -> Any:
            if node not in known and (node in self._made_again or self._is_size_of(node, known)):
                known[node] = self.step(node, value_of)
            return known.get(node, self._others.get(node))

        return value_of

    def _is_size_of(self, node: fx.Node, known: Picked) -> bool:
        """Whether a value that is no tensor follows from known values of the picture."""
        if node in self.sources:  # without a look at what it came from, which would take all paths to it
            return False
        inputs = node.all_input_nodes
        held = [n for n in inputs if n in known or self._is_size_of(n, known)]
        return bool(held) and all(n in held or n not in self.sources for n in inputs)

    def step(self, node: fx.Node, value_of: ValueOf) -> Any:
        """What a node gives for the values of its inputs."""
        return execute(self.module, node, value_of)

    def _needed(self, wanted: set[fx.Node], known: Picked) -> set[fx.Node]:
        found: set[fx.Node] = set()
        waiting = [n for n in wanted if n not in known]
        while waiting:
            node = waiting.pop()
            found.add(node)
            waiting.extend(s for s in self._arguments(node) if s not in found and s not in known)
        return found

    def _arguments(self, node: fx.Node) -> Iterator[fx.Node]:
        yield from (n for n in (*node.all_input_nodes, *self.sources[node]) if n in self.sources)


def flow_of(net: nn.Module | Network, *, input_size: tuple[int, int, int] | None = None) -> Flow:
    """The dataflow of a network.

    >>> flow = flow_of(net)
    >>> [region.entry.name for region in flow.regions]

    Args:
        net: the network; it is not changed.
        input_size: (C, H, W) of one picture; None takes the network's own.

    Raises:
        InputError: if the network does not run, or cannot be followed; the message says why.
    """
    return Flow(trace(as_module(net), input_size or expected_input_size(net)))


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensors, value)))
