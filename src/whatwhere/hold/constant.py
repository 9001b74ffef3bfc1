"""What features of pictures of one colour mark: nothing in such a picture tells positions apart, so the network does.

Padding, a position embedding, or a grid of patches leave a pattern there (in transformers known as grid artefacts). The
definition is ours: of the features of each picture, what differs from their mean over positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.hold.features import Reader, taps_of
from whatwhere.network import Network, as_module
from whatwhere.site import Selection, evaluating, expected_input_size

Floats = NDArray[np.float64]
ROUNDING = 1e-10  # of the features' power: positions that differ by less are alike in float32


@dataclass(frozen=True, eq=False)
class ConstantAt:
    """What marks positions in the output of one site when pictures are of one colour.

    Attributes:
        site: its name.
        n: how many colours.
        pattern: (C, h, w), the mean over colours of the features less their mean over positions, in their own units.
        share: mean square of what differs from the mean over positions, as a share of the features' mean square, over
            all colours; in [0, 1]. 0 where all positions are alike.
        common: the share of that which is the same for all colours, the pattern's; in [0, 1], and 0 if there is none.
    """

    site: str
    n: int
    pattern: Floats = field(repr=False)
    share: float
    common: float


def constant_pattern(
    net: nn.Module | Network,
    *,
    sites: Selection = "cuts",
    colours: Sequence[Sequence[float]] | None = None,
    input_size: tuple[int, int, int] | None = None,
) -> list[ConstantAt]:
    """What a network's features mark on pictures of one colour.

    >>> for at in ww.hold.constant_pattern(ww.load_model("timm/vit_tiny_patch16_224", pretrained=True)):
    ...     print(at.site, at.share, at.common)

    Of tokens those of patches are looked at. Beside it belong `ww.untrained(net)`, and for a transformer the same
    inside of `ww.need.embedding(net, "mean")`, which leaves what its embedding does not mark.

    Args:
        net: the network; it is left alone, and runs in evaluation mode.
        sites: of whose output maps; `cuts`: where the network can be cut (of a transformer each block); see `taps_of`.
        colours: values of the channels, in [0, 1], of pictures as they are before the network's preprocessing; None:
            grey, and all colours whose channels are 0 or 1 (of three channels eight); of more than three channels grey,
            black, white, and each channel alone.
        input_size: (C, H, W) of a picture; None takes the network's own.

    Returns:
        One entry a site, in execution order.

    Raises:
        InputError: if the selection matches nothing, a site's output is not a map, or colours are none.
    """
    size = input_size or expected_input_size(net)
    pictures = _pictures(_checked(colours, size[0]), size)
    whole = net if isinstance(net, Network) else Network(net)
    reader = Reader(net, taps_of(net, sites, input_size=size), size=None)
    with torch.no_grad(), evaluating(as_module(net)), reader.reading() as read:
        maps = [read(whole.prepared(p[None])) for p in pictures]
    return [_at(t.name, torch.cat([m[t.name] for m in maps]).double()) for t in reader.taps]


def _checked(colours: Sequence[Sequence[float]] | None, channels: int) -> list[tuple[float, ...]]:
    if colours is None:
        return [*_corners(channels), (0.5,) * channels]
    found = [tuple(map(float, c)) for c in colours]
    if not found or any(len(c) != channels or not all(0 <= v <= 1 for v in c) for c in found):
        raise InputError(f"colours={colours!r}: give one or more, each {channels} values from 0 to 1.")
    return found


def _corners(channels: int) -> list[tuple[float, ...]]:
    """All colours whose channels are 0 or 1; of more than three channels black, white, and each channel alone."""
    if channels <= 3:
        return list(product((0.0, 1.0), repeat=channels))
    alone = [tuple(float(i == c) for i in range(channels)) for c in range(channels)]
    return [(0.0,) * channels, (1.0,) * channels, *alone]


def _pictures(colours: Sequence[tuple[float, ...]], size: tuple[int, int, int]) -> Tensor:
    """(n, C, H, W) bytes."""
    levels = (255 * torch.tensor(colours)).round().to(torch.uint8)
    return levels[:, :, None, None].expand(-1, *size)


def _at(site: str, maps: Tensor) -> ConstantAt:
    varied = maps - maps.mean((2, 3), keepdim=True)
    pattern, power, spread = varied.mean(0), float(maps.square().mean()), float(varied.square().mean())
    if spread <= ROUNDING * power:
        return ConstantAt(site, len(maps), torch.zeros_like(pattern).numpy(), 0.0, 0.0)
    return ConstantAt(site, len(maps), pattern.numpy(), spread / power, float(pattern.square().mean()) / spread)
