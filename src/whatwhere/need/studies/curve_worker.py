"""What runs a cell of the curve: a chunk of pictures at every cut, or a collapsed network on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from whatwhere.data import Data, Split
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData, GivenNetwork, Held, place
from whatwhere.lab.study import Worker
from whatwhere.need.gap_fc import collapse
from whatwhere.need.studies.chunk import Removals, measure
from whatwhere.need.studies.tally import Tally, place_of, written
from whatwhere.network import Network
from whatwhere.site import list_sites
from whatwhere.surgery import copied
from whatwhere.training.evaluate import evaluate


@dataclass(frozen=True)
class CurveWorker(Worker):
    """Measures at test time; the network is traced once in each process.

    Attributes:
        network: where it is.
        pictures: where they are.
        limit: of test pictures.
        cuts: names of the sites to cut at.
        methods: modes of `shuffle`, and `mean`.
        reach: see `Removals`.
        seed: of the draws.
        batch_size: pictures in a forward pass.
        device: for a network by name; `auto` leaves an object where it is.
        quiet: print no progress.
    """

    network: GivenNetwork
    pictures: GivenData
    limit: int | None
    cuts: tuple[str, ...]
    methods: tuple[str, ...]
    reach: str | int
    seed: int
    batch_size: int
    device: str = "auto"
    quiet: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was traced; a process that receives an equal worker again keeps the one it has."""
        return (_received, tuple(getattr(self, f.name) for f in fields(self)))

    @cached_property
    def split(self) -> Split:
        """The test pictures."""
        return limited(self.pictures.data, self.limit).test

    @cached_property
    def net(self) -> Network:
        """The network, on its device."""
        return placed(self.network, self.split, self.device)

    @cached_property
    def removals(self) -> Removals:
        """What is removed, and where."""
        table = list_sites(self.net, input_size=self.split.shape(self.net.preprocessing))
        sites = {s.name: s for s in table}
        cuts = [sites[name] for name in self.cuts]
        return Removals(self.net, table, cuts, self.methods, self.reach, self.seed, self.batch_size)

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        if "collapse" in config:
            return self._collapsed(config["collapse"])
        return self._chunk(range(*config["rows"]), config["draws"])

    def _chunk(self, rows: range, draws: Mapping[str, int]) -> dict[str, Any]:
        repeats = {place_of(name): n for name, n in draws.items()}
        with Meter(f"pictures {rows.start}-{rows.stop}", len(rows), quiet=self.quiet) as meter:
            return written(measure(self.removals, self.split, rows, repeats, on_batch=meter.advance))

    def _collapsed(self, site: str | None) -> dict[str, Any]:
        net = collapse(self.net, site) if site else self.net
        return Tally.of(evaluate(net, self.split, batch_size=self.batch_size).correct[None]).to_dict()


@lru_cache(maxsize=1)
def _received(*values: Any) -> CurveWorker:
    return CurveWorker(*values)


def limited(data: Data, limit: int | None) -> Data:
    """The pictures, or the test split alone with at most so many of them, balanced over the classes."""
    return data if limit is None else Data(data.name, {"test": data.test.take(limit)})


def sized(net: Network, split: Split) -> Network:
    """A network that knows the size of its pictures; if it has none, that of the data."""
    return net if net.input_size else replace(net, input_size=split.shape(net.preprocessing))


def placed(source: GivenNetwork, split: Split, device: str) -> Network:
    """The network that knows its pictures' size, on the device; one given as an object is never moved itself."""
    net = sized(source.net, split)
    if not isinstance(source.source, Held):
        return place(net, device)
    return net if device == "auto" else place(replace(net, module=copied(net.module)), device)
