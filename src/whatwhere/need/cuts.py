"""Cuts: the depths at which spatial information can be removed from there on."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.depth import cuts_among, shares_of, within_share
from whatwhere.errors import InputError
from whatwhere.site import Site, Sites


def cuts_of(table: Sites) -> list[Site]:
    """The places a network can be cut at, as the paper does: before each k x k convolution, or residual block.

    In a residual network these are the blocks and the convolutions outside of them; inside a block the shortcut would
    carry spatial information around the cut.
    """
    cuts = cuts_among(table)
    if not cuts:
        raise InputError("no convolution larger than 1 x 1 and no residual block found; name the sites to cut at.")
    return cuts


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
