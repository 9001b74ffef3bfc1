"""Cuts: the depths at which spatial information can be removed from there on."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.errors import InputError
from whatwhere.site import Site, Sites


def cuts_of(table: Sites) -> list[Site]:
    """The places a network can be cut at, as the paper does: before each k x k convolution, or residual block.

    In a residual network these are the blocks and the convolutions outside of them; inside a block the shortcut would
    carry spatial information around the cut.
    """
    blocks = {s.module for s in table if s.kind == "block"}
    cuts = [s for s in table if s.kind == "block" or (s.is_spatial_conv and not blocks & set(s.parents))]
    if not cuts:
        raise InputError("no convolution larger than 1 x 1 and no residual block found; name the sites to cut at.")
    return cuts


def cut_at_share(cuts: Sequence[Site], share: float, *, slack: float = 0.06) -> Site:
    """The cut whose depth share is nearest.

    Args:
        cuts: where the network can be cut.
        share: share of the convolutions that lose spatial information, in [0, 1].
        slack: the nearest cut may be off by this much.

    Raises:
        InputError: if none is near enough; the message lists the shares there are.
    """
    nearest = min(cuts, key=lambda s: abs(s.depth_share - share))
    if abs(nearest.depth_share - share) > slack:
        shares = ", ".join(f"{100 * s.depth_share:.0f}" for s in cuts)
        raise InputError(f"share={100 * share:.0f} %: no cut is near; this network can be cut at {shares} %.")
    return nearest
