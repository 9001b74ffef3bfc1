"""What goes round the convolutions that are acted on: shortcuts of blocks of any make, found in the dataflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import fx

from whatwhere.graph.flow import Region
from whatwhere.graph.mixing import Places
from whatwhere.site import Site

Way = tuple[fx.Node, fx.Node]  # what is read, and by whom
PARTS = ("split", "chunk", "tensor_split", "getitem")  # of a map
LINEAR = ("add", "iadd", "add_", "cat", "concat", "sub", "isub")  # the mean of what they give is that of the means


@dataclass(frozen=True)
class Shortcut:
    """A block in which something goes round the convolutions.

    Attributes:
        block: what enters it is what goes round.
        branches: the modules in it that begin the way through the convolutions, by name; none if that way cannot be
            told from the other, since both begin in operators.
    """

    block: Site
    branches: tuple[str, ...]


@dataclass(frozen=True)
class Ways:
    """Where something goes round the convolutions of a region.

    Attributes:
        shortcuts: what goes round from where a block begins.
        inputs: modules at which a way round begins further in, behind a norm for example.
        outputs: modules whose output is what goes round, by operators, and is changed for all who read it.
        open: places whose way round begins in operators of no block, and which can only be named.
    """

    shortcuts: tuple[Shortcut, ...] = ()
    inputs: tuple[Site, ...] = ()
    outputs: tuple[Site, ...] = ()
    open: tuple[str, ...] = ()


def ways_round(places: Places, targets: Sequence[Site]) -> Ways:
    """What goes round some convolutions, in the regions whose first k x k convolutions are among them.

    Where paths go round most of a network, as the skips of a U-Net, what goes round is that of the blocks in it.

    Args:
        places: of the network.
        targets: sites of convolutions; what enters them is changed.
    """
    nodes = _calls(places, targets)
    every = _calls(places, [s for s in places.table if s.is_spatial_conv])
    wide = {r.entry: r for r in places.flow.regions if _is_wide(places, r, every)}
    begun = [r for r in places.flow.regions if nodes & (_alone if r.entry in wide else _first)(places, r, every)]
    inner = _inner_regions(places, [n for r in wide.values() for n in r.inside if n in nodes])
    found = [_of_region(places, r, nodes) for r in (*begun, *(r for r in inner if nodes & _first(places, r, every)))]
    return Ways(
        tuple(s for w in found for s in w.shortcuts),
        tuple(s for w in found for s in w.inputs),
        tuple(dict.fromkeys(s for w in found for s in w.outputs)),
        tuple(s for w in found for s in w.open),
    )


def _calls(places: Places, sites: Sequence[Site]) -> set[fx.Node]:
    return {n for s in sites for n in [_call(places, s)] if n}


def _first(places: Places, region: Region, convolutions: set[fx.Node]) -> set[fx.Node]:
    """The convolutions of a region that are reached without passing another."""
    free = _without(places, region, convolutions)
    return {u for n in (region.entry, *free) for u in places.flow.users[n]} & convolutions & set(region.inside)


def _alone(places: Places, region: Region, convolutions: set[fx.Node]) -> set[fx.Node]:
    """The convolutions of a region that no other one of it comes before."""
    return {
        n for n in convolutions & set(region.inside) if not places.flow.before(n) & convolutions & set(region.inside)
    }


def _is_wide(places: Places, region: Region, convolutions: set[fx.Node]) -> bool:
    """Whether no block holds a region of several paths, but blocks lie in it."""
    several = len(convolutions & set(region.inside)) > 1 and len(places.flow.sources[region.exit]) > 1
    return several and _block(places, region) is None


def _inner_regions(places: Places, nodes: Sequence[fx.Node]) -> list[Region]:
    """The smallest regions around some nodes, each once, that a block holds."""
    found = [next((r for r in places.flow.around(n) if _block(places, r)), None) for n in nodes]
    return list({(r.entry, r.exit): r for r in found if r}.values())


def _call(places: Places, site: Site) -> fx.Node | None:
    """The node that is a site's call."""
    calls = [n for n in places.flow.nodes if n.op == "call_module" and n.target == site.module]
    return calls[site.call - 1] if len(calls) >= site.call else None


def _of_region(places: Places, region: Region, targets: set[fx.Node]) -> Ways:
    free = _without(places, region, targets)
    leading = {n for n in (region.entry, *free) if _leads(places, n, free, targets)}
    pools = [n for n in leading if n is not region.entry and _pools(places, n)]  # they see positions before the targets
    if region.exit not in free or region.entry not in leading:
        return _at_modules(places, pools)
    leaving = [w for n in leading for u in places.flow.users[n] if u in free - leading for w in _unpacked(places, n, u)]
    early = [(n, u) for n, u in leaving if n is region.entry]
    late = [(n, u) for n, u in leaving if n is not region.entry]
    block = _block(places, region)
    branches = _branches(places, region, block, leading | targets) if block else ()
    if block and early and branches:
        return replace(_of_ways(places, late, pools, targets), shortcuts=(Shortcut(block, branches),))
    found = _of_ways(places, [*early, *late], pools, targets)
    return Ways((Shortcut(block, ()),)) if block and (found.outputs or found.open) else found


def _of_ways(places: Places, ways: Sequence[Way], pools: Sequence[fx.Node], targets: set[fx.Node]) -> Ways:
    """Each way at the module that it begins with; of one that begins with an operator, at the module it comes from."""
    at_modules = _at_modules(places, [*(u for _, u in ways), *pools])
    by_operators = [(n, u) for n, u in ways if u.name in at_modules.open]
    changed = targets | {u for _, u in ways if u.name not in at_modules.open}
    makers = {u.name: _maker(places, n, changed) for n, u in by_operators}
    outputs = tuple(dict.fromkeys(s for s in makers.values() if s))
    return replace(at_modules, outputs=outputs, open=tuple(n for n in at_modules.open if not makers.get(n)))


def _unpacked(places: Places, node: fx.Node, reader: fx.Node) -> list[Way]:
    """Who reads a node, or a part of it."""
    if _name(reader) not in PARTS:
        return [(node, reader)]
    return [w for u in places.flow.users[reader] for w in _unpacked(places, reader, u)]


def _at_modules(places: Places, nodes: Sequence[fx.Node]) -> Ways:
    sites = {n: _site_of(places, n) for n in nodes}
    return Ways((), tuple(s for s in sites.values() if s), (), tuple(n.name for n, s in sites.items() if not s))


def _maker(places: Places, node: fx.Node, changed: set[fx.Node]) -> Site | None:
    """The call whose output a node passes on, if it can be changed there: whoever reads it adds it, or is changed."""
    while _name(node) in PARTS:
        node = places.flow.sources[node][0]
    site, waiting = _giver(places, node), list(places.flow.users[node])
    while site and waiting:
        reader = waiting.pop()
        if _name(reader) in PARTS:
            waiting.extend(places.flow.users[reader])
        elif reader not in changed and _name(reader) not in LINEAR:
            return None
    return site


def _giver(places: Places, node: fx.Node) -> Site | None:
    """The outermost site whose call gives a node's map: it is complete by then, also for who repeats what follows."""
    calls, shape = {(c.module, c.number) for c in places.flow.calls.get(node, ())}, places.flow.shapes.get(node, ())
    return next((s for s in places.table if (s.module, s.call) in calls and s.shape == shape[1:]), None)


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target)) if node.op != "call_module" else ""


def _pools(places: Places, node: fx.Node) -> bool:
    """Whether a node is a pool that leaves more than one position."""
    shape = places.flow.shapes.get(node, ())
    return places.resamples(node) and len(shape) == 4 and shape[2] * shape[3] > 1


def _without(places: Places, region: Region, targets: set[fx.Node]) -> set[fx.Node]:
    """The nodes of a region that are reached without passing a target."""
    inside, found, waiting = set(region.inside), set[fx.Node](), [region.entry]
    while waiting:
        fresh = [u for u in places.flow.users[waiting.pop()] if u in inside and u not in found | targets]
        found.update(fresh)
        waiting.extend(u for u in fresh if u is not region.exit)
    return found


def _leads(places: Places, node: fx.Node, free: set[fx.Node], targets: set[fx.Node]) -> bool:
    """Whether a node leads to a target by nodes that are reached without passing one."""
    seen, waiting = {node}, [node]
    while waiting:
        users = places.flow.users[waiting.pop()]
        if targets & set(users):
            return True
        fresh = [u for u in users if u in free and u not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return False


def _site_of(places: Places, node: fx.Node) -> Site | None:
    """The site that is a node's call."""
    return next((s for s in places.table if _call(places, s) is node), None) if node.op == "call_module" else None


def _block(places: Places, region: Region) -> Site | None:
    """The innermost site that holds a region whole."""
    owners = [set(places.flow.owners(n)) for n in region.inside]
    holding = [s for s in places.at.get(region.entry, []) if all(s.module in o for o in owners)]
    return holding[-1] if holding else None


def _branches(places: Places, region: Region, block: Site, through: set[fx.Node]) -> tuple[str, ...]:
    """The outermost modules in a block by which its way through the convolutions begins; none if one has no module."""
    begins = [u for u in places.flow.users[region.entry] if u in through & set(region.inside)]
    found = [next(_inner(places, region, block, n), None) for n in begins]
    return tuple(dict.fromkeys(f for f in found if f)) if all(found) else ()


def _inner(places: Places, region: Region, block: Site, node: fx.Node) -> Iterator[str]:
    owners = set(places.flow.owners(node))
    inside = (s for s in places.at[region.entry] if s.module.startswith(f"{block.module}."))
    return (s.module for s in inside if s.module in owners)
