"""A curve's removals by name: which intervention each is, where it makes sense, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from whatwhere.errors import InputError
from whatwhere.interventions import Intervention
from whatwhere.maps import prefix_of
from whatwhere.need.averaging import pool
from whatwhere.need.embedding_removal import embedding
from whatwhere.need.embedding_search import embeddings_of
from whatwhere.need.position_embeddings import Embedding
from whatwhere.need.prefix_tokens import prefix
from whatwhere.need.shuffling import MODES, shuffle
from whatwhere.need.studies.result import GAP_FC, MEAN
from whatwhere.network import Network
from whatwhere.site import Site, Sites

INPUT = "(input)"  # the place of what acts once, whatever the depth
SHOWN = 3  # embeddings in a note
Where = Literal["cuts", "prefix", "input"]


@dataclass(frozen=True)
class Removal:
    """One removal of a curve.

    Attributes:
        act: makes the intervention, from the network and a selection of sites.
        drawn: whether it is drawn at random, so that draws differ.
        where: it acts: at every cut, at those with prefix tokens, or once at the input.
    """

    act: Callable[..., Intervention]
    drawn: bool = True
    where: Where = "cuts"


def _at_input(how: str) -> Callable[..., Intervention]:
    def act(net: Network, sites: Any, **options: Any) -> Intervention:
        return embedding(net, how, **options)  # type: ignore[arg-type]

    return act


REMOVALS: Mapping[str, Removal] = {
    **{mode: Removal(partial(shuffle, mode=mode)) for mode in MODES},  # type: ignore[arg-type]
    "per-channel-sample": Removal(partial(shuffle, mode="per-channel", scope="sample")),
    "shared-sample": Removal(partial(shuffle, mode="shared", scope="sample")),
    MEAN: Removal(pool, drawn=False),
    "merge-2": Removal(partial(pool, window=2), drawn=False),
    "merge-4": Removal(partial(pool, window=4), drawn=False),
    "prefix-mean": Removal(partial(prefix, how="mean"), drawn=False, where="prefix"),
    "prefix-swap": Removal(partial(prefix, how="swap"), where="prefix"),
    "embedding-zero": Removal(_at_input("zero"), drawn=False, where="input"),
    "embedding-mean": Removal(_at_input("mean"), drawn=False, where="input"),
    "embedding-permute": Removal(_at_input("permute"), where="input"),
}


def at_input(table: Sites) -> Site:
    """The place of what acts once: before the first site, by a name that none has."""
    return replace(table[0], name=INPUT, depth_share=1.0)


def places(methods: Sequence[str], cuts: Sequence[Site]) -> list[tuple[str, str]]:
    """Where each method is measured: (method, site)."""
    having = [(m, c.name) for c in cuts for m in methods if _makes_sense(m, c)]
    return [*having, *((m, INPUT) for m in methods if REMOVALS[m].where == "input")]


def _makes_sense(method: str, cut: Site) -> bool:
    where = REMOVALS[method].where
    return where == "cuts" or (where == "prefix" and prefix_of(cut) > 0)


def embeddings_for(methods: Sequence[str], net: Network, table: Sites) -> tuple[Embedding, ...]:
    """The network's position embeddings, if a method acts on them."""
    asked = any(m != GAP_FC and REMOVALS[m].where == "input" for m in methods)
    return embeddings_of(net, table=table) if asked else ()


def check_places(methods: Sequence[str], net: Network, table: Sites, cuts: Sequence[Site], last_batch: int) -> None:
    """Refuse methods that this network has no place for.

    Args:
        methods: by name.
        net: the network.
        table: its sites.
        cuts: where it is cut.
        last_batch: pictures in the smallest batch.

    Raises:
        InputError: naming the method and the reason.
    """
    there = {m for m, _ in places(methods, cuts)}
    about_prefix = [m for m in methods if REMOVALS[m].where == "prefix"]
    if missing := [m for m in methods if m not in there]:
        raise InputError(f"methods: {missing[0]} needs tokens before those of the map (a class token), at no cut here.")
    if about_prefix and last_batch < 2:
        raise InputError(
            f"methods: {about_prefix[0]} takes the prefix tokens of other pictures in the batch, and the last batch "
            "has one picture; give another batch_size or limit."
        )
    for method in methods:
        if REMOVALS[method].where == "input":
            REMOVALS[method].act(net, None, table=table)


def token_notes(methods: Sequence[str], net: Network, table: Sites, cuts: Sequence[Site]) -> list[str]:
    """What must be said of these methods on a network with tokens.

    Args:
        methods: of the curve, `gap_fc` among them.
        net: the network.
        table: its sites.
        cuts: where it is cut.
    """
    count = max(map(prefix_of, cuts), default=0)
    kept = [m for m in methods if m == GAP_FC or REMOVALS[m].where == "cuts"]
    notes = []
    if count and kept:
        notes.append(
            f"{count} prefix {'token' if count == 1 else 'tokens'} (class token, registers) at the blocks' inputs have "
            f"no position: {', '.join(kept)} keep{'s' if len(kept) == 1 else ''} them, with what they gathered before."
        )
    if swapped := [m for m in methods if m != GAP_FC and REMOVALS[m].where == "prefix"]:
        notes.append(
            f"{', '.join(swapped)}: the prefix tokens that enter each block are those of other pictures of the batch, "
            "and the patch tokens stay; behind the last block the class token is of its own picture."
        )
    moved = [m for m in methods if m != GAP_FC and REMOVALS[m].where == "input"]
    return [*notes, *([_of_embeddings(moved, embeddings_for(moved, net, table), table)] if moved else [])]


def _of_embeddings(methods: Sequence[str], found: Sequence[Embedding], table: Sites) -> str:
    names = [f"{e.name} ({e.kind})" for e in found[:SHOWN]] + ["…"] * (len(found) > SHOWN)
    whole = {s.shape_in[1] * s.shape_in[2] for s in table}
    windows = any(e.kind == "relative" and e.positions not in whole for e in found)
    inside = " Offsets inside of windows are acted on; which tokens share a window stays." if windows else ""
    return (
        f"{', '.join(methods)}: all position embeddings, {', '.join(names)}, once, whatever the depth; rows of prefix "
        f"tokens stay.{inside}"
    )
