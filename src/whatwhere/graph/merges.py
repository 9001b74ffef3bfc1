"""Where paths of a network meet again: residual additions, and the concatenations of dense layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from operator import gt

import networkx as nx  # type: ignore[import-untyped,unused-ignore]
from torch import fx

from whatwhere.graph.flow import Flow
from whatwhere.graph.trials import Trials, name_of
from whatwhere.site import evaluating

ADDED, CONCATENATED = "added", "concatenated"
ADDS = ("add", "iadd", "add_", "__add__", "__iadd__")
_CAT = ("cat", "concat", "concatenate")

PARALLEL = "parallel paths: none is computed from another"
DEEPER = "a value and what a larger part of the network makes of it"
LINEAR = "linear layers of one value, which are one layer in sum"
PARTS = "different parts of one value"
HEADS = "values with heads or windows in the place of pictures"
NO_LAYER = "a value and a function of it without a layer"


@dataclass(frozen=True)
class Branch:
    """A path that leaves a value and meets it, or its projection, again.

    Attributes:
        start: the value that it leaves; of a dense layer, which sees several, the first of them.
        end: its last value, which is added or concatenated.
        inside: the nodes after its start, in order, its end among them.
        block: the innermost module that it meets the others in, or that holds a dense layer; "" is the network.
    """

    start: fx.Node
    end: fx.Node
    inside: tuple[fx.Node, ...]
    block: str


@dataclass(frozen=True)
class Merge:
    """Maps that are added (in one sum, however many), or concatenated.

    Attributes:
        node: what it gives.
        kind: `ADDED` or `CONCATENATED`.
        shortcuts: those of its terms that are no branches: a value that branches leave, or its projection. With
            branches that give zeros, a sum is the sum of these.
        branches: of a sum all terms that go round a layer; of a concatenation the new maps of a dense layer.
        why: what it joins instead, if it has no branches.
    """

    node: fx.Node
    kind: str
    shortcuts: tuple[fx.Node, ...]
    branches: tuple[Branch, ...]
    why: str = ""

    @property
    def terms(self) -> tuple[fx.Node, ...]:
        """All that it joins: the shortcuts, then the ends of the branches."""
        return (*self.shortcuts, *(b.end for b in self.branches))


def merges(flow: Flow) -> tuple[Merge, ...]:
    """All additions and concatenations of maps of equal size, in order.

    >>> [b.end for merge in merges(flow) for b in merge.branches]

    An addition is residual if one term is a value that another term is computed from, or a projection of such a value:
    linear, max pools aside, where the other term is not, or one 1 x 1 convolution where the other term is more. It is
    not if the other term holds residual blocks in smaller maps (as in a feature pyramid). Several linear functions of
    one value are one layer in sum (as RepVGG's), and no branches.

    A concatenation is dense if one part is computed from another part by layers that keep the map's size, without an
    addition among them, and not inside of a residual block.
    """
    return _Merges(flow).found


class _Merges:
    def __init__(self, flow: Flow) -> None:
        self.flow, self.trials = flow, Trials(flow)
        self.after = cache(flow.after)  # not per node of a growing graph: it is whole
        self.residual: set[fx.Node] = set()  # the residual additions so far

    @cached_property
    def found(self) -> tuple[Merge, ...]:
        with evaluating(self.flow.module):
            sums = [self._noted(self._sum(node)) for node in self.flow.nodes if self._ends_sum(node)]
            joined = list(self._dense(sums))
        return tuple(sorted([*sums, *joined], key=lambda m: self.flow.order[m.node]))

    def _noted(self, merge: Merge) -> Merge:
        self.residual.update([merge.node] if merge.branches else [])
        return merge

    # Sums

    def _terms(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """The two maps that a node adds; none if it adds no two maps of its own size."""
        shape, sources = self.flow.shapes.get(node, ()), self._added(node)
        alike = len(shape) > 2 and all(self.flow.shapes.get(s) == shape for s in sources)
        return sources if name_of(node) in ADDS and len(sources) == 2 and alike else ()

    def _added(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """What a node takes, but for a tensor that it only writes to (`out=`)."""
        out = node.kwargs.get("out")
        sources = self.flow.sources[node]
        return tuple(s for s in sources if s is not out) if out is not None else sources

    def _ends_sum(self, node: fx.Node) -> bool:
        return bool(self._terms(node)) and not self._is_part(node)

    def _is_part(self, node: fx.Node) -> bool:
        """Whether a sum only goes on into another sum."""
        users = self.flow.users[node]
        return len(users) == 1 and bool(self._terms(users[0]))

    def _all_terms(self, node: fx.Node) -> Iterator[fx.Node]:
        for term in self._terms(node):
            if self._terms(term) and self._is_part(term):
                yield from self._all_terms(term)
            else:
                yield term

    def _sum(self, node: fx.Node) -> Merge:
        terms = tuple(dict.fromkeys(self._all_terms(node)))
        start = self._left_as_it_is(terms)
        if start is None:
            return self._projected(node, terms)
        around = [t for t in terms if t in self.after(start) and self.plain(t) != start]
        if len(around) > 1 and all(self._is_linear(start, t) for t in around):
            return Merge(node, ADDED, terms, (), LINEAR)
        return self._merge(node, terms, [self._branch(node, start, t) for t in around], NO_LAYER)

    def _is_linear(self, start: fx.Node, end: fx.Node) -> bool:
        return all(map(self.trials.is_linear, self.flow.leading([start], end)))

    def plain(self, node: fx.Node) -> fx.Node:
        """The value that a term is, scales and layers that let it pass set aside."""
        while self.trials.passes(node):
            (node,) = self.flow.sources[node]
        return node

    def _left_as_it_is(self, terms: tuple[fx.Node, ...]) -> fx.Node | None:
        """The first term that another term is computed from."""
        values = sorted(map(self.plain, terms), key=self.flow.order.__getitem__)
        return next((v for v in values if any(t in self.after(v) and self.plain(t) != v for t in terms)), None)

    def _projected(self, node: fx.Node, terms: tuple[fx.Node, ...]) -> Merge:
        """A sum of which no term is computed from another: some may be linear in the value that others leave."""
        start = self._above[node]
        if start not in self.flow.shapes:
            return Merge(node, ADDED, terms, (), PARTS)
        if self.flow.shapes[node][0] != self.flow.shapes[self.flow.picture][0]:
            return Merge(node, ADDED, terms, (), HEADS)
        straight = self._straight(start, terms)
        branches = [self._branch(node, start, t) for t in terms if t not in straight]
        if len(straight) == len(terms):
            return Merge(node, ADDED, terms, (), LINEAR)
        if straight and any(self._grows_back(b.inside) for b in branches):
            return Merge(node, ADDED, terms, (), DEEPER)
        return self._merge(node, terms, branches if straight else [], PARALLEL)

    def _grows_back(self, inside: tuple[fx.Node, ...]) -> bool:
        """Whether there is a residual block among these, in maps smaller than at the end."""
        smaller = {n for n in inside if min(map(gt, self._size(inside[-1]), self._size(n)), default=False)}
        return bool(self.residual & smaller)

    def _size(self, node: fx.Node) -> tuple[int, ...]:
        """(H, W) of a map (N, C, H, W)."""
        shape = self.flow.shapes.get(node, ())
        return shape[2:] if len(shape) == 4 else ()

    def _straight(self, start: fx.Node, terms: tuple[fx.Node, ...]) -> list[fx.Node]:
        """The terms that may be shortcuts: linear ones; if there are none, those behind one 1 x 1 convolution."""
        paths = {t: self.flow.leading([start], t) for t in terms}
        linear = [t for t in terms if self._is_linear(start, t)]
        layers = {t: [n for n in paths[t] if self.trials.is_layer(n)] for t in terms}
        projected = [t for t in terms if len(layers[t]) == 1 and self.trials.is_pointwise(layers[t][0])]
        return linear or (projected if len(projected) < len(terms) else [])

    def _merge(self, node: fx.Node, terms: tuple[fx.Node, ...], branches: list[Branch], why: str) -> Merge:
        kept = tuple(b for b in branches if any(map(self.trials.is_layer, b.inside)))
        ends = {b.end for b in kept}
        return Merge(node, ADDED, tuple(t for t in terms if t not in ends), kept, "" if kept else why)

    def _branch(self, node: fx.Node, start: fx.Node, end: fx.Node) -> Branch:
        return Branch(start, end, self.flow.leading([start], end), self._owner([node, end]))

    def _owner(self, nodes: Iterable[fx.Node]) -> str:
        """The innermost module in which all of them run."""
        first, *others = [self.flow.owners(n) for n in nodes]
        return next((name for name in reversed(first) if all(name in o for o in others)), "")

    @cached_property
    def _above(self) -> dict[fx.Node, fx.Node]:
        """The last node that everything on the way to a node goes through."""
        edges = nx.DiGraph((s, n) for n, sources in self.flow.sources.items() for s in sources)
        found: dict[fx.Node, fx.Node] = nx.immediate_dominators(edges, self.flow.picture)
        return found

    # Concatenations

    def _dense(self, sums: list[Merge]) -> Iterator[Merge]:
        known: set[fx.Node] = set()
        for node in self.flow.nodes:
            parts = self._parts(node)
            if parts:
                new = tuple(b for b in self._new_maps(parts, sums) if b.end not in known)
                known.update(b.end for b in new)
                dense = bool(known & set(parts))
                others = tuple(p for p in parts if p not in {b.end for b in new})
                yield Merge(node, CONCATENATED, others, new, "" if dense else self._why(parts))

    def _parts(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """The maps that a node concatenates along their channels."""
        parts, shape = self.flow.sources[node], self.flow.shapes.get(node, ())
        sizes = [self.flow.shapes.get(p, ()) for p in parts]
        alike = len(shape) == 4 and all((s[:1], s[2:]) == (shape[:1], shape[2:]) for s in sizes)
        return parts if name_of(node) in _CAT and len(parts) > 1 and alike else ()

    def _before(self, part: fx.Node, parts: tuple[fx.Node, ...]) -> list[fx.Node]:
        """Those that a part is computed from, in order."""
        return sorted((p for p in parts if part in self.after(p)), key=self.flow.order.__getitem__)

    def _why(self, parts: tuple[fx.Node, ...]) -> str:
        return DEEPER if any(self._before(p, parts) for p in parts) else PARALLEL

    def _new_maps(self, parts: tuple[fx.Node, ...], sums: list[Merge]) -> Iterator[Branch]:
        for part in parts:
            before = self._before(part, parts)
            inside = self.flow.leading(before, part) if before else ()
            if inside and self._is_dense(inside, sums):
                yield Branch(before[0], part, inside, self._owner(inside))

    def _is_dense(self, inside: tuple[fx.Node, ...], sums: list[Merge]) -> bool:
        has_layer = any(map(self.trials.is_layer, inside))
        simple = not self._changes_size(inside) and not self.residual & set(inside)
        return has_layer and simple and not any(self._holds(b, inside[-1]) for m in sums for b in m.branches)

    def _holds(self, branch: Branch, node: fx.Node) -> bool:
        """Whether a node belongs to a residual block, and not to a larger part that a long branch goes round."""
        return node in branch.inside and branch.block in ("", *self.flow.owners(node))

    def _changes_size(self, inside: tuple[fx.Node, ...]) -> bool:
        """Whether there are maps of another size than at the end, those of one position left aside."""
        sizes = [self._size(n) for n in inside]
        return any(prod(s) > 1 and s != sizes[-1] for s in sizes)
