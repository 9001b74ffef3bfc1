"""What runs a cell of the curve: a chunk of pictures at every cut, or a collapsed network on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.parts import Parts
from whatwhere.lab.progress import Meter
from whatwhere.need.gap_fc import collapse
from whatwhere.need.studies.chunk import Removals, cost, measure, measure_plain
from whatwhere.need.studies.on_pictures import OnPictures
from whatwhere.need.studies.tally import place_of, written
from whatwhere.need.studies.temporary import embeddings_for
from whatwhere.site_table import list_sites


@dataclass(frozen=True, kw_only=True)
class CurveWorker(OnPictures):
    """Measures at test time; the network is traced once in each process.

    Attributes:
        cuts: names of the sites to cut at.
        methods: modes of `shuffle`, and `mean`.
        reach: see `Removals`.
    """

    cuts: tuple[str, ...]
    methods: tuple[str, ...]
    reach: str | int

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
