"""Tensors of any layout seen as maps (N, C, H, W), and back."""

from __future__ import annotations

import torch
from torch import Tensor

from whatwhere.site import Site


def as_maps(x: Tensor, site: Site) -> Tensor:
    """A tensor that enters a site, seen as maps (N, C, H, W); a view, prefix tokens left out."""
    if site.layout == "NCHW":
        return x
    if site.layout == "NHWC":
        return x.movedim(-1, 1)
    prefix = int(site.layout.removeprefix("tokens+"))
    return x[:, prefix:].unflatten(1, site.shape_in[1:]).movedim(-1, 1)


def from_maps(maps: Tensor, x: Tensor, site: Site) -> Tensor:
    """Maps (N, C, H, W) back in the layout of the tensor `x` they came from; its prefix tokens are kept."""
    if site.layout == "NCHW":
        return maps
    if site.layout == "NHWC":
        return maps.movedim(1, -1)
    prefix = int(site.layout.removeprefix("tokens+"))
    return torch.cat([x[:, :prefix], maps.movedim(1, -1).flatten(1, 2)], dim=1)
