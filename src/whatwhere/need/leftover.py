"""What a removal leaves, measured: whether positions at a cut still matter when all maps from there on are pooled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from whatwhere.layers import map_in, with_map
from whatwhere.maps import as_maps, from_maps
from whatwhere.need.averaging import pool
from whatwhere.need.decided import deciding
from whatwhere.network import Network, as_module, running
from whatwhere.site import Site, Sites, evaluating

NOTHING = 1e-4  # of the largest score: rounding


def left_over(net: nn.Module | Network, cut: Site, table: Sites) -> float:
    """How far the output moves when positions at a cut trade places, though every map from there on is pooled.

    A random picture goes through the network twice at once; the second time the positions of the map that enters the
    cut are permuted, for whoever reads it. If spatial information is gone from there on, both outputs are equal.

    Args:
        net: the network; it is not changed.
        cut: a site of it.
        table: all its sites.

    Returns:
        The largest difference, as a share of the largest output; above `NOTHING` something is left.
    """
    module, size = as_module(net), table.input_size
    drawn = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    like = next(module.parameters(), drawn)
    acts, calls = pool(net, f"{cut.name}:", table=table), 0

    def trade(m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        return _traded(cut, args, kwargs) if calls == cut.call else None

    handle = module.get_submodule(cut.module).register_forward_pre_hook(trade, with_kwargs=True)
    seen: list[Any] = []
    decides = deciding(net)
    watch = decides.register_forward_pre_hook(lambda m, args: seen.append(args)) if decides else None
    try:
        with evaluating(module), running(module, size), acts:
            output = module(drawn.expand(2, -1, -1, -1).clone().to(like))
    finally:
        handle.remove()
        if watch:
            watch.remove()
    output = seen or output  # where boxes are chosen, what they are chosen from
    return max((_apart(t) for t in tree_leaves(output) if isinstance(t, Tensor) and len(t) == 2), default=0.0)


def _traded(cut: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Permute the positions of the second map, in place where that can be: others may read it, too."""
    x = map_in(args, kwargs)
    assert x is not None
    maps = as_maps(x, cut).clone()
    order = torch.randperm(maps[0, 0].numel(), generator=torch.Generator().manual_seed(1)).to(maps.device)
    maps[1] = maps[1].flatten(1)[:, order].view_as(maps[1])
    new = from_maps(maps, x, cut)
    try:
        x.copy_(new)
    except RuntimeError:  # several of its entries lie in one place
        return with_map(args, kwargs, new)
    return None


def _apart(pair: Tensor) -> float:
    pair = pair.float()
    return float((pair[0] - pair[1]).abs().max()) / max(float(pair.abs().max()), 1e-12)
