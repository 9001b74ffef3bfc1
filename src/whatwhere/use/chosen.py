"""Which places of a network a user has chosen for gates; what has none is refused, and it is said why."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from whatwhere.errors import InputError
from whatwhere.graph.flow import Flow
from whatwhere.site import Selection, Sites
from whatwhere.surgery import describe
from whatwhere.use.places import Place, Places
from whatwhere.use.reasons import left_out_in, why_chosen, why_network
from whatwhere.use.recalibrated import Recalibrated


def chosen_places(places: Places, table: Sites, sites: Selection, replace: bool) -> tuple[list[Place], dict[str, str]]:
    """The places in the selected sites, and the branches in these that have none.

    Args:
        places: of the network.
        table: its sites.
        sites: the selection; None is all.
        replace: whether gates that the network has are places too, in the place of ends of branches.

    Returns:
        The places, and by block why branches are left out.

    Raises:
        InputError: if there are none, if a block never runs, or if one is recalibrated already.
    """
    there = places.with_gates_replaced if replace else places.at_ends
    if replace and not places.gates:
        raise InputError("replace=True: the network has no module that is a gate already; leave replace out.")
    if replace and not there:
        _refuse_fixed(places, {""})
    if not there:
        raise InputError(f"the network holds no residual block and no dense layer: {why_network(places)}.")
    if sites is None:
        _check_blocks(places.flow, there, every=True)
        if replace:
            _refuse_fixed(places, {""})
        return list(there), places.left_out
    found = [_selected(places, there, table, part, replace) for part in _parts(sites)]
    wanted = [p for p in there if any(p in chosen for chosen, _ in found)]
    _check_blocks(places.flow, wanted, every=False)
    return wanted, left_out_in(places, {name for _, names in found for name in names})


def _parts(sites: Selection) -> Sequence[Any]:
    return sites if isinstance(sites, Sequence) and sites and not isinstance(sites, str | nn.Module) else [sites]


def _selected(
    places: Places, there: Sequence[Place], table: Sites, part: Any, replace: bool
) -> tuple[list[Place], set[str]]:
    """Those that one part of a selection names: a block, what holds it, or the module behind which the gate stands.

    A dense layer, whose input is a list, is no site; nor need a block be one. Such are named by themselves too.

    Returns:
        The places, and the names of the modules that were chosen.

    Raises:
        InputError: if there are no such places; it says why.
    """
    own = {s.module for s in table}
    named = [p for p in there if isinstance(part, str) and _is_named(p, part, own)]
    if named:
        return named, {p.module if p.module == part else p.block for p in named}
    chosen = {s.module for s in table.select(part)}
    if replace:
        _refuse_fixed(places, chosen)
    found = [p for p in there if _is_in(p, chosen, there, own)]
    if not found:
        raise InputError(
            f"sites={part if isinstance(part, str) else sorted(chosen)!r} holds no residual block and no dense layer "
            f"with a place for a gate: {why_chosen(places, chosen, there)}. Places in this network: "
            f"{', '.join(list(dict.fromkeys(p.block for p in there))[:8])}."
        )
    return found, chosen


def _refuse_fixed(places: Places, chosen: Container[str]) -> None:
    """Refuse to replace gates in chosen modules that cannot be replaced.

    Raises:
        InputError: naming them, and why.
    """
    fixed = {places.name_of(g): why for g, why in places.fixed_gates.items()}
    found = {n: why for n, why in fixed.items() if "" in chosen or any(p in chosen for p in _prefixes(n))}
    if found:
        some = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:3])
        raise InputError(
            f"replace=True: {len(found)} of the network's {len(places.gates)} gates cannot be replaced: {some}"
            f"{'; …' if len(found) > 3 else ''}. Choose others by sites=..., or leave replace out: then they stay, and "
            "gates are added at the ends of branches."
        )


def _is_in(place: Place, chosen: Container[str], there: Sequence[Place], own: Container[str]) -> bool:
    """Whether a place is in chosen modules; of a block with one gate, behind one of them does not count."""
    around = any(name in chosen for name in _prefixes(place.block))  # a stage selects the blocks in it
    alone = place.block in own and sum(p.block == place.block for p in there) == 1
    return around or (place.module in chosen and not alone)


def _is_named(place: Place, text: str, own: Container[str]) -> bool:
    fits = place.block == text or fnmatchcase(place.block, text)  # a name with brackets in it fits itself
    return text == place.module or (fits and place.block not in own)


def _check_blocks(flow: Flow, wanted: Sequence[Place], *, every: bool) -> None:
    """Refuse blocks that never run, and those that have gates of ours already."""
    modules = dict(flow.module.named_modules())
    blocks = {type(modules[p.block]) for p in wanted if p.block != p.module}
    ran = {name for node in flow.nodes for name in flow.owners(node)}
    idle = [n for n, m in modules.items() if n and type(m) in blocks and n not in ran]
    if every and idle:
        raise InputError(f"these places never ran, or gave no map (N, C, H, W): {', '.join(idle)}; leave them out.")
    for place in wanted:
        for name in _prefixes(place.owner if place.is_between else place.module):
            if name and isinstance(modules[name], Recalibrated):
                raise InputError(
                    f"{place.block} is already recalibrated: {describe(modules[name])}; give the plain network."
                )


def _prefixes(name: str) -> Iterator[str]:
    """The names of the modules that a module is in, its own among them."""
    parts = name.split(".")
    yield from (".".join(parts[:i]) for i in range(1, len(parts) + 1))
