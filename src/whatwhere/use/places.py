"""Where recalibration stands: at the end of every branch that is added, on the new maps of dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from torch import fx, nn

from whatwhere.graph.flow import Call, Flow
from whatwhere.graph.gates import Gate, gates
from whatwhere.graph.merges import ADDED, Branch, Merge, merges
from whatwhere.graph.trials import Trials, name_of
from whatwhere.layers import CHANNELS_FIRST_LEAVES, certain_layout, chw, kind_of
from whatwhere.site import Site, Sites, evaluating


@dataclass(frozen=True)
class Place:
    """A module whose output is recalibrated.

    Attributes:
        module: its name; of a gate between modules that of the module which is to take its place.
        block: the residual block or dense layer that it belongs to; its own name outside of any.
        at: how the map that leaves it is laid out: `shape_in` is that map's.
        nodes: the map, for each call of the module.
        gate: the network's own gate that this module is; None at the end of a branch.
    """

    module: str
    block: str
    at: Site
    nodes: tuple[fx.Node, ...]
    gate: Gate | None = None

    @property
    def channels(self) -> int:
        """Of the map."""
        return self.at.shape_in[0]

    @property
    def owner(self) -> str:
        """The module that a part of its name stands for: of a gate between modules that in whose forward it is."""
        return self.module.rpartition(".")[0]

    @property
    def is_between(self) -> bool:
        """Whether it is a gate between modules."""
        return self.gate is not None and not self.gate.module


class Places:
    """The places of a network.

    Args:
        flow: the network's.
        table: its sites.

    Attributes:
        merges: its additions and concatenations.
        gates: those that it has already.
    """

    def __init__(self, flow: Flow, table: Sites) -> None:
        self.flow, self.table = flow, table
        self.trials = Trials(flow)
        self.merges, self.gates = merges(flow), gates(flow)
        self._products = {g.node: g.entry for g in self.gates}
        self._sites = {(s.module, s.call): s for s in table}
        self._nodes: dict[str, list[fx.Node]] = {}  # that a module gives
        for node, calls in flow.calls.items():
            for call in calls:
                self._nodes.setdefault(call.module, []).append(node)
        with evaluating(flow.module):
            self._tails = {b.end: list(self._back(b, m)) for m, b in self.branches}
            self._in_tails = {n for tail in self._tails.values() for n in tail}
            self._found = {b.end: self._place(b) for _, b in self.branches}

    @property
    def branches(self) -> list[tuple[Merge, Branch]]:
        """Of all merges."""
        return [(m, b) for m in self.merges for b in m.branches]

    @cached_property
    def at_ends(self) -> tuple[Place, ...]:
        """Those at the ends of branches, in the order of the network's modules."""
        by_module: dict[str, Place] = {}
        for place in (p for p in self._found.values() if isinstance(p, Place)):
            before = by_module.get(place.module)
            by_module[place.module] = replace(place, nodes=(*before.nodes, *place.nodes)) if before else place
        return self._ordered(by_module)

    def of_branch(self, branch: Branch) -> Place | None:
        """The place at the end of a branch."""
        found = self._found[branch.end]
        return next((p for p in self.at_ends if isinstance(found, Place) and p.module == found.module), None)

    @property
    def left_out(self) -> dict[str, str]:
        """Branches without a place, by their block, and why."""
        why: dict[str, dict[str, None]] = {}
        for _, b in self.branches:
            if isinstance(reason := self._found[b.end], str):
                why.setdefault(b.block or f"the network ({b.end.name})", {})[reason] = None
        return {block: "; ".join(reasons) for block, reasons in why.items()}

    @cached_property
    def own_gates(self) -> tuple[Place, ...]:
        """The gates that the network has and that can be replaced."""
        return self._ordered({p.module: p for p in self._gates.values() if isinstance(p, Place)})

    @cached_property
    def fixed_gates(self) -> dict[Gate, str]:
        """The others, and why not."""
        return {g: why for g, why in self._gates.items() if isinstance(why, str)}

    @cached_property
    def _gates(self) -> dict[Gate, Place | str]:
        names: set[str] = set()
        return {g: self._at_gate(g) if g.module else self._between(g, names) for g in self.gates}

    def name_of(self, gate: Gate) -> str:
        """The module that is a gate, or that gates between its modules."""
        return gate.module or ("the network", *self.flow.owners(gate.node))[-1]

    @property
    def with_gates_replaced(self) -> tuple[Place, ...]:
        """The gates that the network has, and the ends of those branches that have none."""
        free = [self.of_branch(b) for _, b in self.branches if not any(_holds(self.flow, b, p) for p in self.own_gates)]
        return self._ordered({p.module: p for p in (*free, *self.own_gates) if p})

    def _ordered(self, places: dict[str, Place]) -> tuple[Place, ...]:
        order = {name: i for i, (name, _) in enumerate(self.flow.module.named_modules())}
        return tuple(sorted(places.values(), key=lambda p: order[p.module if p.module in order else p.owner]))

    def _back(self, branch: Branch, merge: Merge) -> Iterator[fx.Node]:
        """From the end of a branch back, as far as what is done to a map can be done before just as well."""
        node: fx.Node | None = branch.end
        if merge.kind == ADDED and len(self.flow.users[branch.end]) > 1:
            return
        while node in branch.inside:
            yield node
            node = self._source(node)

    def _source(self, node: fx.Node) -> fx.Node | None:
        """What a node carries on; None if it does more, or if others see that too."""
        if node in self._products:
            return self._gated(self._products[node], node)
        if self._is_part(node):
            return self.flow.sources[node][0]
        if not self.trials.passes(node) and not self.trials.carries(node):
            return None
        (source,) = self.flow.sources[node]
        return source if self.flow.users[source] == (node,) else None

    def _is_part(self, node: fx.Node) -> bool:
        """Whether a node takes a part of a map of which others take the rest, all of which the branch has made."""
        sources = self.flow.sources[node]
        others = self.flow.users[sources[0]] if len(sources) == 1 else ()
        return bool(others) and sources[0] in self.flow.shapes and all(name_of(n) == "getitem" for n in others)

    def _place(self, branch: Branch) -> Place | str:
        """Where the gate of a branch stands, or why nowhere: before what only lets the branch pass, if possible."""
        fallback: Place | None = None
        for node in self._tails[branch.end]:
            for call in self.flow.calls.get(node, ()):
                at = self._map_of(call, node)
                place = Place(call.module, branch.block or call.module, at, (node,)) if at else None
                if place and self.trials.passes(node):
                    fallback = place if len(self._nodes[call.module]) == 1 else fallback
                elif place and self._is_for_branches_alone(call.module):
                    return place
        return fallback or self._why_not(branch)

    def _gated(self, entry: fx.Node, node: fx.Node) -> fx.Node | None:
        """The map that a gate multiplies, if nothing else reads it."""
        inside = {entry, *self.flow.leading([entry], node)}
        closed = all(set(self.flow.users[n]) <= inside for n in inside - {node})
        return entry if closed else None

    def _is_for_branches_alone(self, module: str) -> bool:
        return all(n in self._in_tails for n in self._nodes[module])

    def _map_of(self, call: Call, node: fx.Node) -> Site | None:
        """How the map that a call gives is laid out; None if it gives none."""
        shape = self.flow.shapes.get(node, ())
        site = self._sites.get((call.module, call.number))
        if site and site.shape and shape == (self.flow.shapes[self.flow.picture][0], *_raw(site.layout, site.shape)):
            return replace(site, shape_in=site.shape)
        m = self.flow.module.get_submodule(call.module)
        single = (1, 1) in (shape[2:], shape[1:3])  # a map of one position is no site
        if len(shape) != 4 or not (single or isinstance(m, CHANNELS_FIRST_LEAVES)):
            return None
        layout = "NHWC" if single and shape[2:] != (1, 1) else "NCHW"
        where = chw(shape[1:], layout)
        return Site(call.module, call.module, call.number, 0, kind_of(m), layout, where, where, 0.0, 0)

    def _at_gate(self, gate: Gate) -> Place | str:
        if gate.calls != 1:
            return f"it runs {gate.calls} times"
        call = next(c for c in self.flow.calls[gate.node] if c.module == gate.module)
        at = self._map_of(call, gate.node)
        if at is None:
            return f"what it weighs is no map (N, C, H, W): {self.flow.shapes[gate.node][1:]} of each picture"
        return Place(gate.module, call.module.rpartition(".")[0] or gate.module, at, (gate.node,), gate)

    def _between(self, gate: Gate, names: set[str]) -> Place | str:
        """A product between modules, if its weights show where the channels of its map are."""
        shape = self.flow.shapes[gate.entry]
        owner = ("", *self.flow.owners(gate.node))[-1]
        if len(shape) == 5:
            return f"it weighs {shape[1]} maps against each other, {shape[1:]} of each picture, and not one map"
        if sum(c.module == owner for calls in self.flow.calls.values() for c in calls) > 1:
            return f"{owner}, in whose forward it is, runs more than once"
        layout = _layout_at(self.flow, gate.entry) if len(shape) == 4 else ""
        if not layout:
            return f"it weighs {shape[1:]} of each picture, and which axis is the channels cannot be told"
        name = _unused(f"{owner}.recalibration".lstrip("."), self.flow.module, names)
        where = chw(shape[1:], layout)
        at = Site(name, name, 1, 0, "other", layout, where, where, 0.0, 0)
        return Place(name, owner or name, at, (gate.node,), gate)

    def _why_not(self, branch: Branch) -> str:
        """Why a branch has no place."""
        if not self._tails[branch.end]:
            return "what it adds is read elsewhere too"
        tail = self._tails[branch.end]
        calls = [(c, n) for n in tail for c in self.flow.calls.get(n, ())]
        if not calls:
            done = ", ".join(dict.fromkeys(map(name_of, tail)))
            return f"it ends in functions ({done}), and no module gives their map to them alone"
        call, node = calls[-1]
        if self._map_of(call, node):
            return f"{call.module}, which ends it, runs elsewhere too"
        return f"what {call.module} gives is no map (N, C, H, W), nor laid out like one"


def _raw(layout: str, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The axes of one picture's map in a layout."""
    c, h, w = shape
    if layout.startswith("tokens+"):
        return (h * w + int(layout.removeprefix("tokens+")), c)
    return (h, w, c) if layout == "NHWC" else (c, h, w)


def _holds(flow: Flow, branch: Branch, place: Place) -> bool:
    """Whether a branch has a gate of the network's in its block."""
    node = place.nodes[0]
    return node in branch.inside and branch.block in ("", *flow.owners(node))


def _layout_at(flow: Flow, node: fx.Node) -> str:
    """How a node's map is laid out, by the last layer before it that tells; "" if none does."""
    shape = flow.shapes.get(node, ())
    while node is not flow.picture:
        told = certain_layout(flow.module.get_submodule(str(node.target))) if node.op == "call_module" else ""
        told = told or _TELLS.get(name_of(node), "")
        if told:
            return told
        before = [s for s in flow.sources[node] if len(flow.shapes.get(s, ())) == 4]
        if name_of(node) == "permute" and before:
            return _permuted(_layout_at(flow, before[0]), node)
        alike = [s for s in before if flow.shapes[s] == shape]
        if not alike:
            return ""
        node = alike[0]
    return "NCHW"


_TELLS = {"conv2d": "NCHW", "batch_norm": "NCHW", "linear": "NHWC", "layer_norm": "NHWC"}


def _permuted(layout: str, node: fx.Node) -> str:
    given = node.args[1:] if len(node.args) > 2 else node.args[1] if len(node.args) == 2 else node.kwargs.get("dims")
    axes = tuple(a % 4 for a in given if isinstance(a, int)) if isinstance(given, tuple | list) else ()
    moved = {("NCHW", "0231"): "NHWC", ("NHWC", "0312"): "NCHW"}
    return moved.get((layout, "".join(map(str, axes))), "")


def _unused(name: str, module: nn.Module, names: set[str]) -> str:
    """A name for a new module, which is noted."""
    parent, _, last = name.rpartition(".")
    while name in names or hasattr(module.get_submodule(parent), last):
        name, last = f"{name}_", f"{last}_"
    names.add(name)
    return name
