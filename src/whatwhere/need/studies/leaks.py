"""What a removal leaves, said in words: information that goes round the places that are acted on."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.graph.around import ways_round
from whatwhere.need.shuffling import spatial_targets
from whatwhere.site import Site, Sites


def leak_notes(table: Sites, cuts: Sequence[Site]) -> list[str]:
    """Notes on cuts that do less than "from here on": something goes round them, or round a later convolution.

    Args:
        table: the network's sites.
        cuts: where something is removed from there on.
    """
    flow = table.dataflow.flow
    passed = [c.name for c in cuts if flow.entering(c) not in flow.narrows]
    notes = [f"Spatial information goes round {', '.join(passed)}: not all of it is removed there."] if passed else []
    first = min(cuts, key=lambda c: c.order)
    open_ways = ways_round(table.dataflow, spatial_targets(table, f"{first.name}:")).open
    if open_ways:
        notes.append(
            f"Something goes round convolutions by operators that no module holds ({', '.join(open_ways)}), and keeps "
            "its positions there."
        )
    return notes
