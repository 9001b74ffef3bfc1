"""What runs a cell of the curve: a chunk of pictures at every cut, or a collapsed network on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from whatwhere.data import Data
from whatwhere.data.boxes import Boxes, BoxSplit
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.parts import Parts
from whatwhere.lab.progress import Meter
from whatwhere.lab.sources import GivenData, GivenNetwork, Held, place
from whatwhere.need.gap_fc import collapse
from whatwhere.need.studies.chunk import AnySplit, Removals, cost, measure, measure_plain
from whatwhere.need.studies.tally import place_of, written
from whatwhere.need.studies.temporary import embeddings_for
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied


@dataclass(frozen=True)
class CurveWorker(PreparedOnce):
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
        folder: of the study; what a cell under way has measured is kept in it.
        study: stands for all that the cells of the folder share.
        device: for a network by name; `auto` leaves an object where it is.
        score: that is measured.
    """

    network: GivenNetwork
    pictures: GivenData
    limit: int | None
    cuts: tuple[str, ...]
    methods: tuple[str, ...]
    reach: str | int
    seed: int
    batch_size: int
    folder: Path
    study: str
    device: str = "auto"
    score: Score = ACCURACY

    @cached_property
    def split(self) -> AnySplit:
        """The test pictures."""
        return limited(self.pictures.given, self.limit).test

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
        how = (self.methods, self.reach, self.seed, self.batch_size, self.score)
        return Removals(self.net, table, cuts, *how, embeddings_for(self.methods, self.net, table))

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell; one that was interrupted goes on where it stopped."""
        with Parts(self.kept(Cell(config)), {"study": self.study, "cell": config}) as parts:
            if "collapse" in config:
                return self._collapsed(config["collapse"], parts)
            return self._chunk(range(*config["rows"]), config["draws"], parts)

    def kept(self, cell: Cell) -> Path:
        """Where a cell's parts are until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.json"

    def stored(self, cell: Cell) -> None:
        """A cell whose result is stored needs no parts."""
        self.kept(cell).unlink(missing_ok=True)

    def _chunk(self, rows: range, draws: Mapping[str, int], parts: Parts) -> dict[str, Any]:
        repeats = {place_of(name): n for name, n in draws.items()}
        title, all_of_it = f"pictures {rows.start}-{rows.stop}", cost(self.removals, rows, repeats)
        with Meter(title, all_of_it) as meter:
            return written(measure(self.removals, self.split, rows, repeats, parts=parts, meter=meter))

    def _collapsed(self, site: str | None, parts: Parts) -> dict[str, Any]:
        try:
            net = collapse(self.net, site) if site else self.net
        except InputError as error:  # a result as well: the page says why the point is not there
            return {"refused": str(error)}
        with Meter(f"GAP+FC from {site}" if site else "intact network", len(self.split)) as meter:
            return measure_plain(net, self.split, self.batch_size, parts, meter, self.score, self.net).to_dict()


AnyData: TypeAlias = Data | Scenes | Boxes


def limited(data: AnyData, limit: int | None) -> AnyData:
    """The pictures, or the test split alone with at most so many of them, balanced over the classes of pictures."""
    few: Any = None if limit is None else {"test": data.test.take(limit)}  # of any kind
    return data if few is None else replace(data, splits=few)


def sized(net: Network, split: AnySplit) -> Network:
    """A network that knows the size of its pictures; if it has none, that of the data.

    Scenes and pictures with boxes are never resized.
    """
    known = net.input_size and not isinstance(split, SceneSplit | BoxSplit)
    return net if known else replace(net, input_size=split.shape(net.preprocessing))


def placed(source: GivenNetwork, split: AnySplit, device: str) -> Network:
    """The network that knows its pictures' size, on the device; one given as an object is never moved itself."""
    net = sized(source.net, split)
    if not isinstance(source.source, Held):
        return place(net, device)
    return net if device == "auto" else place(replace(net, module=copied(net.module)), device)
