"""Why a chosen part of a network has no place for a gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from torch import fx

from whatwhere.graph.merges import ADDS, Branch, Merge
from whatwhere.graph.trials import name_of
from whatwhere.use.places import Place, Places

NOTHING = "it adds and concatenates no maps"


def why_network(places: Places) -> str:
    """What a network without any place has instead.

    Args:
        places: of the network.
    """
    left_out = "; ".join(f"{block}: {why}" for block, why in list(places.left_out.items())[:4])
    return left_out or "; ".join(_joins(places.merges)) or next(_spread(places, {""}), NOTHING)


def why_chosen(places: Places, chosen: Collection[str], there: Sequence[Place]) -> str:
    """Why there is no place in chosen modules.

    Args:
        places: of the network.
        chosen: names of the modules.
        there: the places of the network.
    """
    inside = [m for m in places.merges if _runs_in(places, m.node, chosen)]
    return (
        "; ".join(f"{block}: {why}" for block, why in left_out_in(places, chosen).items())
        or "; ".join(_joins(inside))
        or next(_spread(places, chosen), "")
        or next(_parts(places, chosen, there), "")
        or NOTHING
    )


def left_out_in(places: Places, chosen: Collection[str]) -> dict[str, str]:
    """Blocks that are chosen, or lie in what is chosen, with branches that have no place; and why.

    Args:
        places: of the network.
        chosen: names of modules.
    """
    around = tuple(f"{c}." for c in chosen)
    return {b: why for b, why in places.left_out.items() if b in chosen or b.startswith(around) or "" in chosen}


def _joins(merges: Iterable[Merge]) -> Iterator[str]:
    kinds = Counter(f"{m.kind} are {m.why}" for m in merges if m.why)
    return (f"in {n} places what is {kind}" for kind, n in kinds.items())


def _runs_in(places: Places, node: fx.Node, chosen: Collection[str]) -> bool:
    return "" in chosen or any(name in chosen for name in places.flow.owners(node))


def _spread(places: Places, chosen: Collection[str]) -> Iterator[str]:
    """Sums in chosen modules of which one term is spread over the other, and is no map of its size."""
    flow = places.flow
    for node in (n for n in flow.nodes if name_of(n) in ADDS and _runs_in(places, n, chosen)):
        shapes = [flow.shapes.get(s, ()) for s in flow.sources[node]]
        if len(set(shapes)) == 2 and max(map(len, shapes)) > 2:
            yield f"it adds values of different sizes, {' and '.join(str(s[1:]) for s in shapes)} of each picture"


def _parts(places: Places, chosen: Collection[str], there: Sequence[Place]) -> Iterator[str]:
    """Blocks and branches that chosen modules are a part of."""
    nodes = {n for n in places.flow.nodes if _runs_in(places, n, chosen)}
    found = (_of_branch(places, b, there) for _, b in places.branches if nodes & {*b.inside})
    yield from chain.from_iterable(found)
    for place in (p for p in there if any(c.startswith(f"{p.block}.") for c in chosen)):
        if place.gate:
            yield f"it is no gate; that of {place.block} is {place.module}: choose that"
        yield f"it lies in no branch of {place.block}; where one ends, behind {place.module}, a gate can stand"


def _of_branch(places: Places, branch: Branch, there: Sequence[Place]) -> Iterator[str]:
    name = branch.block or f"the network ({branch.end.name})"
    held = [p for p in there if p.gate and any(n in branch.inside for n in p.nodes)]
    place = next(iter(held), None) or places.of_branch(branch)
    if place:
        yield f"it lies in a branch of {name}, whose gate stands behind {place.module}: choose that"
    elif name in places.left_out:
        yield f"it lies in a branch of {name}, which has no place: {places.left_out[name]}"
