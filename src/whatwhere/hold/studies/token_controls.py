"""Controls of transformers: the position embedding at its mean, and the patches of each picture in a random order.

The first leaves what the pictures themselves and padding say about position, the second what the embedding says:
patches trade places in front of it, so that each position keeps its embedding and gets another part of the picture.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from whatwhere import need
from whatwhere.interventions import Intervention
from whatwhere.network import Network
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites

EMBEDDING, PATCHES = "embedding", "patches"
LABELS = {EMBEDDING: "embedding at its mean", PATCHES: "patches permuted"}
NOTES = {
    EMBEDDING: "Embedding at its mean: the network as it is, each position embedding at its mean over positions.",
    PATCHES: "Patches permuted: the network as it is, patches of each picture in a random order in front of the "
    "position embedding, if it has one.",
}


def token_controls(net: Network, input_size: tuple[int, int, int]) -> list[str]:
    """The controls that a network can have; none without tokens and position embedding.

    Args:
        net: the network.
        input_size: (C, H, W) of the pictures.
    """
    table = list_sites(net, input_size=input_size)
    embedded = bool(need.embeddings_of(net, table=table))
    tokens = embedded or any(s.layout.startswith("tokens") for s in table)
    return [*([EMBEDDING] if embedded else []), *([PATCHES] if tokens and stem_of(table) else [])]


def acting(kind: str, net: Network, input_size: tuple[int, int, int], seed: int = 0) -> AbstractContextManager[object]:
    """The control, while the block lasts.

    Args:
        kind: of `token_controls`.
        net: the network; it comes back as it was.
        input_size: (C, H, W) of the pictures.
        seed: of the orders of patches.
    """
    table = list_sites(net, input_size=input_size)
    if kind == EMBEDDING:
        return need.embedding(net, "mean", table=table)
    stem = stem_of(table)
    assert stem
    draws = torch.Generator().manual_seed(seed)
    return Intervention(net.module, {}, outputs={stem: lambda maps: moved(maps, draws)})


def stem_of(table: Sites) -> Site | None:
    """The convolution that makes the patches: the first that gives a map of the size of the first block's tokens."""
    blocks = (s.shape_in[1:] for s in table if s.layout.startswith("tokens"))
    grid = next(blocks, None)
    return next((s for s in table.of_kind("conv", "conv1x1") if s.shape and s.shape[1:] == grid), None)


def moved(maps: Tensor, draws: torch.Generator) -> Tensor:
    """Maps (N, C, H, W) whose positions are in another order, alike in all channels, of each picture's own."""
    n, c, h, w = maps.shape
    orders = torch.stack([torch.randperm(h * w, generator=draws) for _ in range(n)]).to(maps.device)
    return maps.flatten(2).gather(2, orders[:, None].expand(-1, c, -1)).view(n, c, h, w)
