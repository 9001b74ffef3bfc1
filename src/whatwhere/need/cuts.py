"""Cuts: the depths at which spatial information can be removed from there on."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.depth import shares_of, within_share
from whatwhere.errors import InputError
from whatwhere.site import Site, Sites


def cuts_of(table: Sites) -> list[Site]:
    """The places a network can be cut at: before each part that learned to mix positions, if nothing goes round it.

    As in the paper these are the k x k convolutions of a plain network, and the blocks of a residual one: inside a
    block the shortcut would carry spatial information around the cut. Found from the dataflow (`Sites.cuts`).

    Raises:
        InputError: if there is none, or the dataflow cannot be followed.
    """
    if not table.cuts:
        raise InputError("no part that mixes positions was found that nothing goes round; name the sites to cut at.")
    return list(table.cuts)


def cut_at_share(cuts: Sequence[Site], share: float, *, slack: float = 0.06) -> Site:
    """The cut that a share names, as in a selection "last 30%": the deepest one with no more of the convolutions.

    Args:
        cuts: where the network can be cut.
        share: share of the convolutions that lose spatial information, in [0, 1].
        slack: the cut's own share may be off by this much.

    Raises:
        InputError: if there is none, or it is further off; the message lists the shares there are.
    """
    cut = within_share(cuts, share)
    if cut is None or abs(cut.depth_share - share) > slack:
        raise InputError(f"share={100 * share:.0f} %: no cut is near; this network can be cut at {shares_of(cuts)}.")
    return cut
