"""Effective receptive fields: how far around its place a feature really looks, by gradients (Luo et al. 2016).

Source: [luo2016], who backpropagate from one position and average over inputs. Deviation: the features of a position
are summed with random signs, drawn anew for each picture, and the squares are averaged. A plain sum vanishes behind a
LayerNorm, and channels of opposite sign would hide each other; with signs the mean square is the sum over channels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.data import Data, Split
from whatwhere.errors import InputError
from whatwhere.intervals import PICTURES, Estimate, student
from whatwhere.maps import seen_as_maps
from whatwhere.network import Network, as_module, running
from whatwhere.site import Selection, Site, evaluating
from whatwhere.site_table import list_sites

SHARES = (0.5, 0.95)
GROUPS = 16  # of pictures, each of which is left out once for the interval
NOTHING = 1e-7  # of the largest mean gradient: rounding


@dataclass(frozen=True)
class Field:
    """What one site sees of the picture.

    Attributes:
        site: its name.
        r50: radius in pixels, around the centre of the field, that holds half of the gradient; the interval is over
            pictures.
        r95: likewise, 95 %.
        extent: (height, width) of the box outside of which no pixel has any influence, on these pictures.
        whole: whether that is the whole picture, as behind attention, global pooling or a gate.
    """

    site: str
    r50: Estimate
    r95: Estimate
    extent: tuple[int, int]
    whole: bool


@dataclass(frozen=True)
class ReceptiveFields:
    """Of several sites.

    Attributes:
        network: its name.
        size: (height, width) of the pictures.
        pictures: how many were looked at.
        fields: in the order of execution.
    """

    network: str
    size: tuple[int, int]
    pictures: int
    fields: tuple[Field, ...]

    def __getitem__(self, site: str) -> Field:
        """Of a site."""
        return next(f for f in self.fields if f.site == site)

    def table(self) -> list[dict[str, str]]:
        """One line for each site."""
        return [
            {
                "site": f.site,
                "r50 (px)": f"{f.r50.mean:.1f}",
                "r50 95 %": f"[{f.r50.low:.1f}, {f.r50.high:.1f}]",
                "r95 (px)": f"{f.r95.mean:.1f}",
                "r95 95 %": f"[{f.r95.low:.1f}, {f.r95.high:.1f}]",
                "extent (px)": "all" if f.whole else f"{f.extent[0]} x {f.extent[1]}",
            }
            for f in self.fields
        ]

    def __repr__(self) -> str:
        """One line; `print` shows the table."""
        return f"<{type(self).__name__}, {len(self.fields)} rows: {self.network}>"

    def __str__(self) -> str:
        """The table, aligned, and what it rests on."""
        lines = self.table()
        rows = [list(lines[0]), *(list(line.values()) for line in lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        shown = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        height, width = self.size
        base = f"pictures of {height} x {width} pixels: {self.pictures}; intervals are over pictures"
        return "\n".join([*shown, base])


def receptive_fields(
    net: nn.Module | Network,
    data: Data | Split,
    sites: Selection = None,
    *,
    pictures: int = 32,
    batch_size: int = 8,
    seed: int = 0,
) -> ReceptiveFields:
    """How far each site really sees: the effective receptive field of its middle position, averaged over pictures.

    >>> print(ww.receptive_fields(net, data, "layer*", pictures=16))

    The gradient of the features at the middle of the map, with respect to the picture; its root mean square over
    pictures, at each pixel, is taken as a distribution, whose centre and radii are measured. A batch costs one forward
    pass for all sites, and a backward pass from each.

    Args:
        net: the network; it is not changed.
        data: pictures; of a `Data` the test split is taken. Labels are not needed.
        sites: where, as `Sites.select` reads it; None is every place that gives a map.
        pictures: at most this many.
        batch_size: pictures in a forward pass.
        seed: of the signs that features are summed with.

    Returns:
        A field for each site: what *leaves* it.

    Raises:
        InputError: for fewer than two pictures, a site that gives no map, or one that the picture does not reach.
    """
    given = net if isinstance(net, Network) else Network(net)
    split = (data.test if isinstance(data, Data) else data).take(pictures)
    if len(split) < 2:
        raise InputError(f"pictures: there is {len(split)}, and an interval over pictures needs 2 or more.")
    shape = split.shape(given.preprocessing)
    seen = _Seen(given.module, _chosen(given, sites, shape), shape[1:], min(GROUPS, len(split)), seed)
    with evaluating(given.module), seen.watching():
        for images, _ in split.batches(batch_size, geometry=given.preprocessing):
            with running(given, images.shape[1:]):
                seen.add(given.prepared(images))
    fields = tuple(seen.field(i) for i in range(len(seen.sites)))
    return ReceptiveFields(given.name, shape[1:], len(split), fields)


def _chosen(net: Network, which: Selection, shape: tuple[int, int, int]) -> list[Site]:
    table = list_sites(net, input_size=shape)
    chosen = table.select(which)
    without = [s.name for s in chosen if s.shape is None]
    if which is not None and without and len(without) == len(chosen):
        raise InputError(f"sites={which!r}: {without[0]} gives no map; choose another site (`whatwhere sites`).")
    return [s for s in chosen if s.shape is not None]


@dataclass
class _Seen:
    """Squared gradients at each pixel, summed over the pictures of each group."""

    module: nn.Module
    sites: Sequence[Site]
    size: tuple[int, int]
    groups: int
    seed: int
    caught: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.sums = torch.zeros(len(self.sites), self.groups, *self.size, dtype=torch.float64)
        self._signs = torch.Generator().manual_seed(self.seed)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sum the features at the middle of each site's map, in the moment that they leave it."""
        calls: Counter[str] = Counter()
        modules, by_module = dict(self.module.named_modules()), {s.module: s for s in self.sites}
        begin = as_module(self.module).register_forward_pre_hook(lambda *_: calls.clear())
        handles = [begin, *(modules[name].register_forward_hook(self._catcher(name, calls)) for name in by_module)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _catcher(self, name: str, calls: Counter[str]) -> Callable[..., None]:
        mine = [s for s in self.sites if s.module == name]

        def hook(m: nn.Module, args: object, output: object) -> None:
            calls[name] += 1
            for site in mine:
                if site.call == calls[name] and isinstance(output, Tensor):
                    self.caught[site.name] = self._summed(output, site)  # at once: layers behind may work in place

        return hook

    def _summed(self, output: Tensor, site: Site) -> Tensor:
        assert site.shape
        maps = seen_as_maps(output, site.shape, site.layout)
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
        drawn = torch.randint(2, middle.shape, generator=self._signs)
        return (middle * (2 * drawn - 1).to(middle)).sum()

    def add(self, pictures: Tensor) -> None:
        """Take in prepared pictures (N, C, H, W)."""
        with torch.enable_grad():
            x = pictures.detach().clone().requires_grad_()
            self.module(x)
            for i, site in enumerate(self.sites):
                self._keep(i, self._gradient(site, x))
        self.count += len(pictures)
        self.caught.clear()

    def _gradient(self, site: Site, x: Tensor) -> Tensor:
        summed = self.caught.pop(site.name, None)
        if summed is None or not summed.requires_grad:
            raise InputError(
                f"{site.name}: what leaves it does not follow from the picture by operators with gradients."
            )
        (gradient,) = torch.autograd.grad(summed, x, retain_graph=bool(self.caught), allow_unused=True)
        if gradient is None:
            raise InputError(f"{site.name}: what leaves it does not depend on the picture.")
        return gradient

    def _keep(self, i: int, gradient: Tensor) -> None:
        squares = gradient.detach().double().square().sum(1).cpu()  # (N, H, W)
        for j, square in enumerate(squares):
            self.sums[i, (self.count + j) % self.groups] += square

    def field(self, i: int) -> Field:
        """Of the site of a number."""
        sums = self.sums[i].numpy()
        mass = np.sqrt(sums.sum(0))
        if not mass.max() > 0:
            raise InputError(f"{self.sites[i].name}: its middle position does not depend on the picture.")
        extent = _box(mass > NOTHING * mass.max())
        without = [np.sqrt(np.delete(sums, g, 0).sum(0)) for g in range(len(sums))]
        if not min(left.max() for left in without) > 0:
            raise InputError(
                f"{self.sites[i].name}: its middle position depends on the picture in one of {self.groups} groups of "
                "pictures alone, so that there is no interval over pictures; give more."
            )
        r50, r95 = (_jackknifed(radius(mass, s), [radius(m, s) for m in without], self.count) for s in SHARES)
        return Field(self.sites[i].name, r50, r95, extent, extent == self.size)


def radius(mass: NDArray[np.float64], share: float) -> float:
    """The radius around the centre of a distribution over pixels that holds a share of it.

    Args:
        mass: (H, W), not negative.
        share: in (0, 1).

    Returns:
        In pixels: the smallest distance, from the mass's centre, within which the share lies.
    """
    y, x = np.mgrid[: mass.shape[0], : mass.shape[1]]
    total = mass.sum()
    far = np.hypot(y - (mass * y).sum() / total, x - (mass * x).sum() / total).ravel()
    order = np.argsort(far, kind="stable")
    held = np.cumsum(mass.ravel()[order])
    at = int(np.searchsorted(held, share * held[-1] * (1 - 1e-12)))
    return float(far[order[min(at, len(order) - 1)]])


def _box(inside: NDArray[np.bool_]) -> tuple[int, int]:
    height, width = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return int(height[-1] - height[0] + 1), int(width[-1] - width[0] + 1)


def _jackknifed(value: float, without: Sequence[float], n: int) -> Estimate:
    """A number with its interval over pictures, from the same number without each group of them."""
    groups = len(without)
    spread = math.sqrt((groups - 1) / groups * float(np.sum((np.array(without) - np.mean(without)) ** 2)))
    half = student(groups - 1) * spread
    return Estimate(value, max(0.0, value - half), value + half, spread, n, groups, PICTURES)
