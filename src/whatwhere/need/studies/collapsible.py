"""Where the network of a cut can be collapsed (GAP+FC), as the dataflow says: nothing is built to find it."""

from __future__ import annotations

from collections.abc import Iterable

from whatwhere.graph.flow import flow_of
from whatwhere.graph.mixing import Places
from whatwhere.need.decided import NO_COLLAPSE, deciding
from whatwhere.network import Network
from whatwhere.site import Site, Sites

GOES_ROUND = "spatial information flows around it"


def pooled_sites(net: Network, table: Sites, cuts: Iterable[Site]) -> tuple[list[str], list[str]]:
    """The sites to pool at for some cuts, each place once; and a note for every cut that is left out.

    A place inside of a block, which something goes round, stands for the innermost module around it that nothing goes
    round.

    Args:
        net: the network.
        table: its sites.
        cuts: some of them.
    """
    if deciding(net) is not None:
        return [], [f"GAP+FC is left out: {NO_COLLAPSE}."]
    places = Places(flow_of(net, input_size=table.input_size), table)
    found = {cut: collapsible(places, cut) for cut in cuts}
    notes = [f"GAP+FC is left out at {c.name}: {GOES_ROUND}." for c, place in found.items() if place is None]
    return list(dict.fromkeys(place for place in found.values() if place)), notes


def collapsible(places: Places, cut: Site) -> str | None:
    """Where to pool for a cut: there, or before the innermost module around it that nothing goes round, if any."""
    by_name = {s.name: s for s in places.table}
    around = [by_name[p] for p in reversed(cut.parents) if p in by_name]
    narrow = next((s for s in (cut, *around) if places.flow.entering(s) in places.flow.narrows), None)
    return _usual_name(places, narrow) if narrow else None


def _usual_name(places: Places, site: Site) -> str:
    """Of several sites that one map enters, the one that is a cut."""
    node = places.flow.entering(site)
    cuts = {c.name for c in places.table.cuts}
    return next((s.name for s in places.at.get(node, []) if s.name in cuts), site.name) if node else site.name
