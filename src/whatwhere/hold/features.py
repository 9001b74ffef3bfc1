"""Features: the maps that leave some sites, brought to one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.hold.targets import resized
from whatwhere.maps import seen_as_maps
from whatwhere.network import Network, as_module
from whatwhere.site import Selection, Site, Sites
from whatwhere.site_table import list_sites

RGB = "rgb"
HEADS = ("classifier", "head", "fc")  # what comes after the features
AT_ONCE = 64  # channels of a batch that are brought to size together
RESNET_TAPS = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Tap:
    """A place where features are read.

    Attributes:
        name: the site's name, or `rgb` for the network's input itself.
        channels: of its maps.
        shape: (h, w) of its maps.
        depth_share: of the site; 1 for the input.
        site: None for the input.
    """

    name: str
    channels: int
    shape: tuple[int, int]
    depth_share: float = 1.0
    site: Site | None = None


@dataclass(frozen=True)
class Group:
    """Taps that are read together.

    Attributes:
        name: how results call it: a tap's name, or `all`.
        taps: in order.
    """

    name: str
    taps: tuple[Tap, ...]

    @property
    def channels(self) -> int:
        """Of all taps together."""
        return sum(t.channels for t in self.taps)


def taps_of(
    net: nn.Module | Network, which: Selection = "levels", *, input_size: tuple[int, int, int] | None = None
) -> list[Tap]:
    """The places to read at, in execution order.

    Args:
        net: the network.
        which: `levels` (the last map of each resolution, pools and the classifier left out: the papers' f1 ... f5 of a
            VGG), `cuts` (where the network can be cut, as by `Sites.cuts`: of a transformer every block), `resnet`
            (layer1 ... layer4, the paper's four), any selection of sites, or a sequence of these; `rgb` in it is passed
            over, the raw input is `rgb_tap`.
        input_size: (C, H, W) of one input.

    Raises:
        InputError: if nothing matches, or the output of a chosen site is not a map.
    """
    table = list_sites(net, input_size=input_size)
    parts = which if isinstance(which, Sequence) and not isinstance(which, str) else [which]
    chosen = {s.name: s for part in parts if not _is_rgb(part) for s in _meant(table, part)}
    return [_tap(s) for s in sorted(chosen.values(), key=lambda s: _end(table, s))]


def _is_rgb(part: object) -> bool:
    return isinstance(part, str) and part == RGB


def _end(table: Sites, site: Site) -> tuple[int, int]:
    """When the output of a site is there: after everything inside of it, and after the last thing inside of it."""
    return max([site.order, *(s.order for s in table if site.name in s.parents)]), -site.order


def _meant(table: Sites, part: Selection) -> list[Site]:
    if isinstance(part, str) and part == "levels":
        return levels(table)
    if isinstance(part, str) and part == "cuts":
        return [s for s in table.cuts if s.shape]
    return table.select(list(RESNET_TAPS) if isinstance(part, str) and part == "resnet" else part)


def rgb_tap(input_size: tuple[int, int, int]) -> Tap:
    """The network's input as a place to read at: the paper's row "PosENet"."""
    return Tap(RGB, input_size[0], (input_size[1], input_size[2]))


def _tap(site: Site) -> Tap:
    if site.shape is None:
        raise InputError(f"sites: {site.name} has no map as its output; choose another site (`whatwhere sites`).")
    return Tap(site.name, site.shape[0], site.shape[1:], site.depth_share, site)


def levels(table: Sites) -> list[Site]:
    """The last map of each resolution, before the classifier: a stage's own output where the network has stages."""
    inner = [s for s in table if s.shape and s.kind != "pool" and s.name.split(".")[0] not in HEADS]
    leaves = {s.shape[1:]: s for s in inner if s.shape and s.kind not in ("group", "block")}
    return [_stage(inner, size) or leaf for size, leaf in leaves.items()]


def _stage(sites: Sequence[Site], size: tuple[int, ...]) -> Site | None:
    """The last module that puts out maps of a size and is inside no other such module, if there is any."""
    stages = [s for s in sites if s.kind in ("group", "block") and s.shape and s.shape[1:] == size]
    names = {s.name for s in stages}
    return next((s for s in reversed(stages) if not names & set(s.parents)), None)


class Reader:
    """Runs a network and hands out the maps that leave some taps.

    >>> with Reader(net, taps, size=28).reading() as read:
    ...     maps = read(x)                     # {tap: (N, C, 28, 28)}, float32 on the CPU
    """

    def __init__(
        self, net: nn.Module | Network, taps: Sequence[Tap], *, size: int | None = 28, enlarge: bool = True
    ) -> None:
        """Choose network, taps and size.

        Args:
            net: the network, which is not changed.
            taps: where to read.
            size: maps come as size x size (bilinear, corners aligned [code]); None leaves them as they are.
            enlarge: False leaves maps with fewer positions as they are.
        """
        self.module, self.taps, self.size, self.enlarge = as_module(net), list(taps), size, enlarge

    @contextmanager
    def reading(self) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
        """A function from prepared pictures (N, C, H, W) to maps by tap, while the block lasts."""
        caught: dict[str, Tensor] = {}
        calls: Counter[str] = Counter()
        modules = dict(self.module.named_modules())
        by_module: dict[str, list[Tap]] = {}
        for tap in self.taps:
            if tap.site:
                by_module.setdefault(tap.site.module, []).append(tap)
        handles = [
            modules[name].register_forward_hook(self._catcher(name, taps, calls, caught))
            for name, taps in by_module.items()
        ]

        def read(x: Tensor) -> dict[str, Tensor]:
            caught.clear()
            calls.clear()
            like = next(self.module.parameters(), x)
            if by_module:
                self.module(x.to(device=like.device, dtype=like.dtype))
            return {t.name: caught[t.name] if t.site else self._sized(x.float().cpu()) for t in self.taps}

        try:
            yield read
        finally:
            for handle in handles:
                handle.remove()

    def _catcher(
        self, name: str, taps: Sequence[Tap], calls: Counter[str], caught: dict[str, Tensor]
    ) -> Callable[..., None]:
        def hook(m: nn.Module, args: object, output: object) -> None:
            calls[name] += 1
            for tap in taps:
                if tap.site and tap.site.call == calls[name] and isinstance(output, Tensor):
                    caught[tap.name] = self._sized(maps_of(output, tap).float().cpu())

        return hook

    def _sized(self, maps: Tensor) -> Tensor:
        sized = maps if self.size is None or self._stays(maps) else resized(maps, self.size)
        return sized.clone() if sized is maps else sized  # a layer that works in place may follow

    def _stays(self, maps: Tensor) -> bool:
        return not self.enlarge and max(maps.shape[-2:]) <= (self.size or 0)


def maps_of(output: Tensor, tap: Tap) -> Tensor:
    """What left a site, seen as maps (N, C, h, w): channels first or last, or tokens behind a prefix.

    The size of the maps may differ from the tap's (another input size); the number of channels may not.
    """
    return seen_as_maps(output, (tap.channels, *tap.shape), tap.site.layout if tap.site else "NCHW")


def joined(maps: Mapping[str, Tensor], taps: Sequence[Tap], size: int | None = None) -> Tensor:
    """The maps of some taps as one, (N, sum of channels, h, w); they have one size, or are brought to `size`."""
    return torch.cat([maps[t.name] if size is None else resized(maps[t.name], size) for t in taps], dim=1)


@dataclass(frozen=True)
class InParts:
    """The maps of some taps at one size, some channels at a time, as often as they are asked for.

    A batch of all channels at the size that is read takes more memory than anything else but the products of columns.

    Attributes:
        maps: (N, C, h, w) by tap.
        taps: in order.
        size: height and width that are read.
    """

    maps: Mapping[str, Tensor]
    taps: Sequence[Tap]
    size: int

    def __iter__(self) -> Iterator[Tensor]:
        """(N, at most `AT_ONCE`, size, size) each."""
        for tap in self.taps:
            for part in self.maps[tap.name].split(AT_ONCE, 1):
                yield resized(part, self.size)
