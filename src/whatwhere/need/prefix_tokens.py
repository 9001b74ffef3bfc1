"""Prefix tokens (class token, registers): what they gathered before a place, taken away by averaging or swapping.

They have no position, so that permuting or merging patch tokens leaves them as they are, with all that they have seen.
Zeroing them is not offered: blocks never see zeros there, so that what is lost is more than what the tokens held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.interventions import Change, Intervention, When
from whatwhere.maps import prefix_of
from whatwhere.network import Network, as_module
from whatwhere.site import Selection, Site, Sites
from whatwhere.site_table import list_sites

Prefix = Literal["keep", "mean", "swap"]


def prefix(
    net: nn.Module | Network,
    sites: Selection = None,
    how: Literal["mean", "swap"] = "mean",
    *,
    when: When = "always",
    seed: int = 0,
    generator: torch.Generator | None = None,
    table: Sites | None = None,
) -> Intervention:
    """Take away, for a while, what the prefix tokens hold of a picture; patch tokens stay.

    >>> with ww.need.prefix(net, "blocks.3:", "swap"):     # from block 3 on, those of another picture enter each block
    ...     ww.evaluate(net, data)

    Each block still writes into its prefix tokens what it reads from the patches, so that a class token that enters
    the head is of its own picture, as seen by the last block.

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        sites: as `shuffle`; of the selection the places that a network is cut at (its blocks), where there are any: the
            final norm, which reads the class token alone, is none.
        how: `mean`: the mean over the pictures of the batch. `swap`: those of another picture of the batch, drawn
            anew at each place.
        when: in training and evaluation, or in one of them.
        seed: of the draws.
        generator: draw from this CPU generator instead.
        table: the network's sites, if at hand.

    Returns:
        A context manager; its `matched` and `ran` tell what it acts on and how often it did.

    Raises:
        InputError: for an unknown choice, or a selection without prefix tokens; in the block, for a batch of one
            picture, which has no other.
    """
    change = prefix_change(how, generator or torch.Generator().manual_seed(seed))
    if change is None:
        raise unknown("how", how, get_args(Prefix)[1:])
    places = table or list_sites(net)
    chosen = prefixed(places, places.select(sites))
    return Intervention(
        as_module(net), dict.fromkeys(chosen, _as_it_is), prefixes=dict.fromkeys(chosen, change), when=when
    )


def prefixed(places: Sites, chosen: Sequence[Site]) -> list[Site]:
    """Of chosen sites those whose prefix tokens are acted on: the places to cut at, where there are any.

    Raises:
        InputError: if none has prefix tokens.
    """
    having = [s for s in chosen if prefix_of(s)]
    cuts = {c.name for c in places.cuts}
    found = [s for s in having if s.name in cuts] or having
    if not found:
        raise InputError(
            f"prefix: no tokens come before those of the map at {', '.join(s.name for s in chosen[:4])}; give sites "
            "whose layout is tokens+1 or more (whatwhere sites), or prefix='keep'."
        )
    return found


def prefix_change(how: str, generator: torch.Generator) -> Change | None:
    """What to do with prefix tokens (N, K, C); None to keep them.

    Raises:
        InputError: for an unknown choice.
    """
    if how not in get_args(Prefix):
        raise unknown("prefix", how, get_args(Prefix))
    if how == "keep":
        return None
    return _mean if how == "mean" else lambda tokens: _swapped(tokens, generator)


def _as_it_is(maps: Tensor) -> Tensor:
    return maps


def _mean(tokens: Tensor) -> Tensor:
    _check_several(tokens)
    return tokens.mean(0, keepdim=True).expand_as(tokens)


def _swapped(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture has those of another one: a random order of the batch, and each takes from the next in it."""
    _check_several(tokens)
    order = torch.randperm(len(tokens), generator=generator)
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    return tokens[source.to(tokens.device)]


def _check_several(tokens: Tensor) -> None:
    if len(tokens) < 2:
        raise InputError("prefix: a batch of one picture has no other, whose prefix tokens could be taken; give two.")
