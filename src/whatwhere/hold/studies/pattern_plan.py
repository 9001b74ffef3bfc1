"""The plan of the padding pattern: a cell is one network, the given one or a control."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from whatwhere.data import Split
from whatwhere.errors import InputError
from whatwhere.hold.border import PatternAt, padding_pattern, pattern_sites
from whatwhere.hold.features import taps_of
from whatwhere.hold.studies.pattern import Pattern
from whatwhere.hold.studies.pattern_result import PatternResult, PatternRow
from whatwhere.hold.studies.pictures import prepared
from whatwhere.hold.studies.variants import (
    GIVEN,
    UNTRAINED,
    Shape,
    Variant,
    cell_of,
    identity,
    placed,
    possible,
    variants_of,
)
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.options import as_tuple
from whatwhere.lab.progress import Meter
from whatwhere.lab.rows import checked_counts
from whatwhere.lab.sources import GivenData, GivenNetwork
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.network import Network, Preprocessing
from whatwhere.site import expected_input_size


@dataclass(frozen=True)
class Cutting:
    """How pictures are cut out, and which sites are looked at.

    Attributes:
        size: height and width of the cut-out.
        margin: pixels of surroundings on each side.
        sites: by name; None is every k x k convolution.
    """

    size: int
    margin: int
    sites: tuple[str, ...] | None = None

    @property
    def selection(self) -> list[str] | None:
        """The sites, as instruments take them."""
        return None if self.sites is None else list(self.sites)

    def network(self, net: Network) -> Network:
        """The network, expecting cut-outs."""
        return replace(net, input_size=cut_out(net, self.size))

    def preprocessing(self, net: Network) -> Preprocessing:
        """Of the larger pictures."""
        return replace(net.preprocessing, size=(self.size + 2 * self.margin,) * 2)


def cut_out(net: Network, size: int) -> Shape:
    """(C, H, W) of a prepared cut-out."""
    return (expected_input_size(net)[0], size, size)


class PatternPlan(Plan[Pattern, PatternResult]):
    """A cell is one network: the given one, an untrained one, or one with another padding.

    Raises:
        InputError: for options that cannot work.
    """

    def __init__(self, study: Pattern) -> None:
        super().__init__(study)
        if study.untrained not in (0, 1):
            raise InputError(f"untrained={study.untrained}: give 1 to measure an untrained network as well, else 0.")
        checked_counts(pictures=study.pictures, batch_size=study.batch_size)
        self.asked = variants_of(study.untrained, as_tuple(study.paddings))

    @cached_property
    def net(self) -> Network:
        """The given network, expecting cut-outs."""
        return self.cutting.network(self.study.network_source.net)

    @cached_property
    def cutting(self) -> Cutting:
        """The cut-out, and the sites as chosen in the given network; wrong sizes are refused here."""
        o, net = self.study, self.study.network_source.net
        size = expected_input_size(net)[1] if o.input_size is None else o.input_size
        if size < 1 or o.margin < 1:
            raise InputError(f"input_size={size}, margin={o.margin}: give both in pixels, at least 1 each.")
        if o.sites is None:
            return Cutting(size, o.margin)
        return Cutting(size, o.margin, tuple(t.name for t in taps_of(net, o.sites, input_size=cut_out(net, size))))

    @cached_property
    def pictures(self) -> Split:
        """The pictures to measure on."""
        return self.study.data_source.data.test.take(self.study.pictures)

    @property
    def measured(self) -> list[Split]:
        """The splits that its numbers come from."""
        return [self.pictures]

    @cached_property
    def _possible(self) -> tuple[list[Variant], list[str]]:
        return possible(self.asked, self.net, cut_out(self.net, self.cutting.size))

    @property
    def _settings(self) -> dict[str, Any]:
        c = self.cutting
        sites = str(None) if c.sites is None else ", ".join(c.sites)
        return {"size": c.size, "margin": c.margin, "pictures": len(self.pictures), "sites": sites}

    def shared(self) -> Mapping[str, Any]:
        """The network, the pictures and how they are cut out."""
        return {**identity(self.net), "data": self.pictures.fingerprint, "settings": self._settings}

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The given network and its controls, as far as it can have them."""
        return [cell_of(variant) for variant in self._possible[0]]

    def check(self, how: Run) -> None:
        """Margins, sites and pictures that a network cannot be measured with are refused."""
        if len(self.pictures) < 2:
            raise InputError(f"pictures: there is {len(self.pictures)}, and a variance over pictures needs at least 2.")
        c = self.cutting
        channels, shape = self.pictures.shape(c.preprocessing(self.net))[0], cut_out(self.net, c.size)
        for variant in (v for v in self._possible[0] if v.kind != UNTRAINED):
            net = variant.build(self.net, shape)
            pattern_sites(net, channels=channels, size=c.size, margin=c.margin, sites=c.selection)

    def worker(self, how: Run) -> PatternWorker:
        """Measures one network."""
        o = self.study
        given = (o.network_source, o.data_source)
        return PatternWorker(*given, self.cutting, o.pictures, o.batch_size, how.device)

    def fold(self, done: Finished) -> PatternResult:
        """Rows of every network that was asked for and is finished.

        Raises:
            InputError: if the given network is not among them.
        """
        cells = [(v, done[cell]) for v in self._possible[0] if (cell := cell_of(v)) in done]
        if not cells or cells[0][0].kind != GIVEN:
            raise InputError("the given network is not measured yet; run the study without fold_only.")
        return PatternResult(
            network=self.net.name,
            data=self.study.data_source.data.describe(),
            preprocessing=self.cutting.preprocessing(self.net).to_dict(),
            settings=self._settings,
            rows=tuple(row_of(variant.label, row) for variant, cell in cells for row in cell["rows"]),
            notes=(*random_weights(self.net), *self._possible[1], *done.notes()),
        )


@dataclass(frozen=True)
class PatternWorker(PreparedOnce):
    """Measures one network.

    Attributes:
        network: the given one.
        data: the pictures.
        cutting: how they are cut out, and which sites are looked at.
        most: pictures to measure on.
        batch: pictures in a forward pass.
        device: to run the network on.
    """

    network: GivenNetwork
    data: GivenData
    cutting: Cutting
    most: int
    batch: int
    device: str = "auto"

    @cached_property
    def pictures(self) -> Split:
        """The pictures to measure on."""
        return self.data.data.test.take(self.most)

    def __call__(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one cell."""
        c, variant, given = self.cutting, Variant(**config), self.cutting.network(self.network.net)
        net = variant.build(given, cut_out(given, c.size))
        title = f"padding pattern of {variant.title}"
        with placed(net, self.device), Meter(title, len(self.pictures)) as meter:
            batches = self._batches(c.preprocessing(net), meter)
            found = padding_pattern(net, batches, size=c.size, margin=c.margin, sites=c.selection)
        return {"rows": [plain_row(p) for p in found]}

    def _batches(self, preprocessing: Preprocessing, meter: Meter) -> Iterator[Tensor]:
        for _, x in prepared(self.pictures, preprocessing, self.batch):
            yield x
            meter.advance(len(x))


def plain_row(p: PatternAt) -> dict[str, Any]:
    """What is kept of a site; None is infinite."""
    return {"site": p.site, "n": p.n, "snr": _finite(p.snr), "by_border": [_finite(v) for v in p.by_border]}


def row_of(network: str, plain: Mapping[str, Any]) -> PatternRow:
    """The row of a network's site."""
    return PatternRow(network, plain["site"], plain["n"], plain["snr"], tuple(plain["by_border"]))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
