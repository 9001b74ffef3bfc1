"""What fits into some minutes: how many pictures, draws and sites each part gets, from times that were measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from whatwhere.need.studies.chunk import AnySplit
from whatwhere.network import Network, running
from whatwhere.site import Site, Sites, evaluating

# Of the time; the rest is for what is fixed.
SHARES = {
    "need": 0.45,
    "hold": 0.25,
    "patches": 0.12,
    "fields": 0.08,
    "failures": 0.03,
}
LEAST, TIMED = 24, 8  # pictures of a part; pictures that are timed
MANY_TIMED, QUICK = 96, 1.0  # pictures that are timed if that takes less than so many seconds
BATCH, BATCHES = 32, 8  # pictures in a pass, at most; passes, at least: each has draws of its own, so that few will do
MANY, FEW = 10, 5  # sites, where there is time for them
LOOKED = 200  # pictures, of which some are shown
DRAWS = 2  # of a shuffle
READS = 3  # networks that a read-out measures beside the given one: two untrained, one with another padding
SHUFFLED = 1.45  # a pass that is shuffled and scored, against one that is not: measured on two networks
READ_FROM = 800  # pictures of a read-out, at most: of small networks, comparing maps takes longer than they do
SLOWER = 3.0  # float64 products of the read-out, against the network's own operations


@dataclass(frozen=True)
class Speed:
    """How fast a network is here.

    Attributes:
        forward: seconds of a picture's forward pass.
        serve: seconds in which a picture is read and prepared.
        flops: floating-point operations of a forward pass.
    """

    forward: float
    serve: float
    flops: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def speed_of(net: Network, split: AnySplit, table: Sites) -> Speed:
    """Time some pictures: read the first time that they are seen, put through the network the second time.

    Of quick networks more are timed, in larger batches: what a call costs by itself is most of a few pictures' time.
    """
    found = _timed(net, split, TIMED, 4)
    if split.comes_with != "boxes" and MANY_TIMED * sum(found) < QUICK:
        found = _timed(net, split, MANY_TIMED, BATCH)
    return Speed(*found, table.total_flops)


def _timed(net: Network, split: AnySplit, pictures: int, size: int) -> tuple[float, float]:
    """Seconds of a picture's forward pass, and of reading it."""
    few = split.take(pictures)
    started = time.perf_counter()
    geometry = net.preprocessing
    seen = [given for given, _ in few.batches(1 if split.comes_with == "boxes" else size, geometry=geometry)]
    serve = time.perf_counter() - started
    _pass(net, seen)
    return _pass(net, seen) / len(few), serve / len(few)


def _pass(net: Network, batches: Sequence[Tensor]) -> float:
    """Seconds of a forward pass over some pictures."""
    started = time.perf_counter()
    for pictures in batches:
        with evaluating(net.module), running(net, pictures.shape[1:]):
            prepared = net.prepared(pictures)
            net.module(prepared)
    if prepared.is_cuda:
        torch.cuda.synchronize(prepared.device)  # a call returns before the GPU is done
    return time.perf_counter() - started


def spread(sites: Sequence[Site], n: int) -> list[Site]:
    """At most n of some sites, spread evenly over them, the last among them."""
    if len(sites) <= n:
        return list(sites)
    return [sites[round((i + 1) * len(sites) / n) - 1] for i in range(n)]


@dataclass(frozen=True)
class Budget:
    """Seconds for each part.

    Attributes:
        speed: of the network.
        seconds: for all parts.
        table: its sites.
        places: the sites that can be asked.
    """

    speed: Speed
    seconds: float
    table: Sites
    places: Sequence[Site]

    def of(self, part: str) -> float:
        """Seconds of a part."""
        return self.seconds * SHARES[part]

    def need(self, most: int, *, collapse: bool, reach: str | int) -> dict[str, Any]:
        """Sites and pictures of the curve: fewer sites where there would be too few pictures."""
        for n in (MANY, FEW):
            sites = spread(self.places, n)
            pictures = self._fits("need", self._curve(sites, collapse=collapse), most)
            if pictures >= 2 * LEAST or n == FEW:
                break
        return {"sites": [s.name for s in sites], "limit": pictures, "repeats": DRAWS, "reach": reach}

    @staticmethod
    def batch(pictures: int) -> int:
        """Pictures that share a draw: few enough for several batches, whose draws are independent of each other."""
        return min(BATCH, max(2, pictures // BATCHES))

    def _curve(self, sites: Sequence[Site], *, collapse: bool) -> float:
        """Forward passes a picture: what follows each cut for every draw, and what lies before it where collapsed."""
        before = [s.flops_before / max(1, self.speed.flops) for s in sites]
        return 1 + sum((1 - b) * (DRAWS + 1) for b in before) + (sum(before) if collapse else 0)

    def patches(self, most: int, grids: Sequence[int]) -> dict[str, Any]:
        """Pictures of the shuffled patches."""
        return {"grids": list(grids), "repeats": DRAWS, "limit": self._fits("patches", 1 + DRAWS * len(grids), most)}

    def hold(self, most: int, size: int) -> dict[str, Any]:
        """Sites and pictures of the read-out, of which a quarter is tested on."""
        sites = spread(self.places, FEW)
        rate = self.speed.flops / max(self.speed.forward, 1e-6) / SLOWER
        products = sum(2 * s.shape[0] ** 2 * size**2 for s in sites if s.shape) / rate
        per_picture = (1 + READS) * (self.speed.forward + self.speed.serve + products)
        n = max(2 * LEAST, min(most, READ_FROM, int(self.of("hold") / per_picture)))
        return {"sites": [s.name for s in sites], "pictures": n - n // 4, "test_pictures": n // 4, "size": size}

    def fields(self, most: int) -> dict[str, Any]:
        """Sites and pictures of the receptive fields: a backward pass for each site."""
        sites = spread(self.places, MANY)
        passes = 1 + 2 * sum(s.flops_before for s in sites) / max(1, self.speed.flops)
        per_picture = self.speed.serve + passes * self.speed.forward
        return {
            "sites": [s.name for s in sites],
            "pictures": max(4, min(most, 32, int(self.of("fields") / per_picture))),
        }

    def failures(self, most: int) -> int:
        """Pictures that are looked at for some to show: two passes each."""
        return min(self._fits("failures", 2, most), LOOKED)

    def _fits(self, part: str, passes: float, most: int) -> int:
        """Pictures that a part has time for."""
        return min(most, max(LEAST, int(self.of(part) / (self.speed.serve + SHUFFLED * passes * self.speed.forward))))
