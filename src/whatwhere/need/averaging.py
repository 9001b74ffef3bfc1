"""Maps replaced by means, for a while: of the whole map, or of neighbourhoods."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.interventions import Intervention, When
from whatwhere.need.prefix_tokens import Prefix, prefix_change
from whatwhere.need.shuffling import acting, source_of
from whatwhere.network import Network
from whatwhere.site import Selection, Sites


def pool(
    net: nn.Module | Network,
    sites: Selection = None,
    *,
    window: int | None = None,
    when: When = "always",
    shortcuts: bool = True,
    padding: Literal["keep", "circular"] = "keep",
    prefix: Prefix = "keep",
    seed: int = 0,
    table: Sites | None = None,
) -> Intervention:
    """Replace, for a while, the maps that enter the selected convolutions by their spatial means.

    The deterministic counterpart of `shuffle`: each map becomes constant at its mean. With circular padding it equals
    GAP+FC with the kernels summed over space. The other arguments are those of `shuffle`.

    >>> with ww.need.pool(net, "blocks.3:", window=2):     # tokens merged: 2 x 2 of them have the value of their mean
    ...     ww.evaluate(net, data)

    Args:
        net: see `shuffle`.
        sites: see `shuffle`.
        window: the mean of k x k neighbours takes the place of each of them (those at the end are fewer where k does
            not divide the map); there are as many positions as before. None: the mean of the whole map.
        when: see `shuffle`.
        shortcuts: see `shuffle`.
        padding: see `shuffle`.
        prefix: see `shuffle`.
        seed: of the pictures that prefix tokens are swapped with.
        table: see `shuffle`.

    Raises:
        InputError: as `shuffle`; for a window below 2.
    """
    if window is not None and (not isinstance(window, int) or isinstance(window, bool) or window < 2):
        raise InputError(
            f"window={window!r}: give the side of the windows in positions, from 2; None is the whole map."
        )
    mean = partial(window_means, window=window) if window else spatial_mean
    tokens = prefix_change(prefix, source_of(None, seed))
    how = {"when": when, "shortcuts": shortcuts, "padding": padding}
    return acting(net, sites, lambda _: mean, table=table, prefix=tokens, **how)  # type: ignore[arg-type]


def spatial_mean(maps: Tensor) -> Tensor:
    """Each map, constant at its mean: (N, C, H, W) to the same shape."""
    return maps.mean((2, 3), keepdim=True).expand_as(maps).contiguous(memory_format=torch.channels_last)


def window_means(maps: Tensor, window: int) -> Tensor:
    """The mean of each window at all of its positions: (N, C, H, W) to the same shape."""
    h, w = maps.shape[2:]
    means = functional.avg_pool2d(maps, window, ceil_mode=True, count_include_pad=False)
    spread = means.repeat_interleave(window, 2).repeat_interleave(window, 3)[:, :, :h, :w]
    return spread.contiguous(memory_format=torch.channels_last)
