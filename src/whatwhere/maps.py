"""Tensors of any layout seen as maps (N, C, H, W), and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from whatwhere.site import Site


def as_maps(x: Tensor, site: Site) -> Tensor:
    """A tensor that enters a site, seen as maps (N, C, H, W); a view, prefix tokens left out."""
    if site.layout == "NCHW":
        return x
    if site.layout == "NHWC":
        return x.movedim(-1, 1)
    return x[:, prefix_of(site) :].unflatten(1, site.shape_in[1:]).movedim(-1, 1)


def from_maps(maps: Tensor, x: Tensor, site: Site) -> Tensor:
    """Maps (N, C, H, W) back in the layout of the tensor `x` they came from; its prefix tokens are kept."""
    if site.layout == "NCHW":
        return maps
    if site.layout == "NHWC":
        return maps.movedim(1, -1)
    return torch.cat([x[:, : prefix_of(site)], maps.movedim(1, -1).flatten(1, 2)], dim=1)


def prefix_of(site: Site) -> int:
    """How many tokens without a position (class token, registers) come before those of the map; 0 in other layouts."""
    return int(site.layout.removeprefix("tokens+")) if site.layout.startswith("tokens") else 0


def with_prefix(x: Tensor, site: Site, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor that enters a site with its prefix tokens (N, K, C) changed."""
    count = prefix_of(site)
    return torch.cat([change(x[:, :count]), x[:, count:]], dim=1)


def seen_as_maps(output: Tensor, shape: tuple[int, int, int], layout: str) -> Tensor:
    """What left a site, seen as maps (N, C, h, w): channels first or last, or tokens behind a prefix; a view.

    Args:
        output: what its module gave.
        shape: (C, H, W) that the site's table says; H and W may be others now, but of tokens.
        layout: of the site's input, which decides where the shape does not.
    """
    channels, height, width = shape
    if output.ndim == 4:
        first, last = output.shape[1] == channels, output.shape[-1] == channels
        return output if first and (not last or layout == "NCHW") else output.movedim(-1, 1)
    return output[:, output.shape[1] - height * width :].unflatten(1, (height, width)).movedim(-1, 1)
