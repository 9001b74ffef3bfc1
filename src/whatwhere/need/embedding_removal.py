"""Take a position embedding away, for a while: zeroed, averaged over its positions, or in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.interventions import Intervention, When
from whatwhere.need.embedding_search import embeddings_of
from whatwhere.need.position_embeddings import Embedding, EmbeddingRemoval, How, Kind
from whatwhere.need.shuffling import source_of
from whatwhere.network import Network, as_module
from whatwhere.site import Sites

NONE_FOUND = (
    "no position embedding was found at this size of pictures: no parameter or buffer is added to a map position by "
    "position, no module hands out rotations, no attention has an index of offsets. What tells positions apart is in "
    "the pixels, in padding or in convolutions: ww.need.shuffle acts on these. An embedding that is brought to another "
    "size by interpolation is not followed: give pictures of the network's own size."
)


def embedding(
    net: nn.Module | Network,
    how: How = "permute",
    *,
    kind: Kind | None = None,
    scope: Literal["batch", "fixed"] = "batch",
    when: When = "always",
    seed: int = 0,
    generator: torch.Generator | None = None,
    table: Sites | None = None,
    found: Sequence[Embedding] | None = None,
) -> Intervention:
    """Remove, for a while, what a transformer's position embeddings say.

    >>> with ww.need.embedding(net, "permute"):        # every token gets the embedding of another position
    ...     ww.evaluate(net, data)
    >>> with ww.need.embedding(net, "mean", kind="absolute"): ...

    Rows of prefix tokens (class token, registers) stay as they are: they are the same in every picture. All embeddings
    of a network are put in the same order, so that what they say agrees; with attention in windows (Swin) positions
    trade places inside of a window.

    Args:
        net: the network; it is not changed, and comes back bit-identical when the block ends.
        how: `permute`: position i gets the embedding of another one. `zero`: zeros are added, nothing is turned, no
            offset has a bias. `mean`: all positions get the mean over positions; of rotary ones the turn in the mean's
            direction. `zero` also takes away what all positions share, which the network was trained with.
        kind: act on absolute, rotary or relative ones alone; None is all.
        scope: `batch`: one order shared by the batch, redrawn every forward pass; `fixed`: one draw.
        when: in training and evaluation, or in one of them.
        seed: of the draws.
        generator: draw from this CPU generator instead.
        table: the network's sites, if at hand.
        found: `ww.need.embeddings_of(net)`, if at hand: saves a few forward passes.

    Returns:
        A context manager; its `matched` are the embeddings, and `ran` counts forward passes without them.

    Raises:
        InputError: for an unknown choice, or if the network has no such embedding; it says what was looked for.
    """
    _check(how, kind, scope)
    rng = source_of(generator, seed)
    every = embeddings_of(net, table=table) if found is None else found
    chosen = [e for e in every if kind in (None, e.kind)]
    if not chosen:
        there = ", ".join(f"{e.name} ({e.kind})" for e in every)
        raise InputError(f"kind={kind!r}: there is none; this network has {there}." if every else f"net: {NONE_FOUND}")
    return EmbeddingRemoval(as_module(net), chosen, how, rng, fixed=scope == "fixed", when=when)


def _check(how: str, kind: str | None, scope: str) -> None:
    if how not in get_args(How):
        raise unknown("how", str(how), get_args(How))
    if kind is not None and kind not in get_args(Kind):
        raise unknown("kind", str(kind), get_args(Kind))
    if scope not in ("batch", "fixed"):
        raise unknown("scope", str(scope), ("batch", "fixed"))
