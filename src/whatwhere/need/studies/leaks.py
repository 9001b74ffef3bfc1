"""What a removal leaves, said in words: information that goes round the places that are acted on."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.graph.around import ways_round
from whatwhere.need.leftover import NOTHING, left_over
from whatwhere.need.shuffling import spatial_targets
from whatwhere.network import Network
from whatwhere.site import Site, Sites


def leak_notes(net: Network, table: Sites, cuts: Sequence[Site]) -> list[str]:
    """Notes on cuts that do less than "from here on": something goes round them, or round a later convolution.

    Args:
        net: the network.
        table: its sites.
        cuts: where something is removed from there on.
    """
    flow = table.dataflow.flow
    passed = [c.name for c in cuts if flow.entering(c) not in flow.narrows]
    notes = [f"Spatial information goes round {', '.join(passed)}: not all of it is removed there."] if passed else []
    left = {c: share for c in cuts if (share := left_over(net, c, table)) > NOTHING}
    if left:
        most = max(left, key=left.__getitem__)
        notes.append(
            f"From {', '.join(c.name for c in left)} on, positions still matter: when those of the map there are "
            f"permuted and every later place is pooled, scores of a random picture move by up to "
            f"{100 * left[most]:.2g} % of the largest ({most.name}){_why(table, most)}."
        )
    return notes


def _why(table: Sites, cut: Site) -> str:
    """What goes round convolutions from a cut on, where it is known."""
    ways = ways_round(table.dataflow, spatial_targets(table, f"{cut.name}:")).open
    return f"; something goes round convolutions by operators that no module holds: {', '.join(ways)}" if ways else ""
