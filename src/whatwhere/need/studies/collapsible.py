"""Where the network of a cut can be collapsed (GAP+FC), and why not elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from whatwhere.errors import InputError
from whatwhere.need.gap_fc import collapse
from whatwhere.network import Network
from whatwhere.site import Site


def collapsible(net: Network, cut: Site) -> str:
    """Where to pool for a cut: there, or before the innermost enclosing module that no shortcut bypasses.

    Raises:
        InputError: if there is no such place; the reason is that of the cut itself.
    """
    reasons = []
    for name in (cut.name, *reversed(cut.parents)):
        try:
            collapse(net, name)
            return name
        except InputError as error:
            reasons.append(error)
    raise reasons[0]


def pooled_sites(net: Network, cuts: Iterable[Site]) -> tuple[list[str], list[str]]:
    """The sites to pool at for some cuts, each once; and a note for every reason that leaves cuts out."""
    sites: dict[str, None] = {}
    refused: dict[str, str] = {}
    for cut in cuts:
        try:
            sites[collapsible(net, cut)] = None
        except InputError as error:
            refused.setdefault(str(error), cut.name)
    return list(sites), [f"GAP+FC is left out at {site}: {why}" for why, site in refused.items()]
