"""What padding adds to the features of a network and of its controls, measured without any read-out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whatwhere.data import Data, load_data
from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.models.load import random_weights
from whatwhere.network import Network
from whatwhere.position.features import taps_of
from whatwhere.position.pattern import PatternAt, padding_pattern
from whatwhere.report.figures import Line
from whatwhere.report.page import Report, Table, write_report
from whatwhere.report.panels import panels_figure
from whatwhere.runs.progress import Meter
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.sites import Selection, expected_input_size
from whatwhere.studies.position.variants import PADDING, Variant, variants_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
VISIBLE = 1e-3  # of the features: further in, the figure shows nothing
LEAD = (
    "Each picture is cut out of a larger one. What the features of the cut-out differ by from those with the true "
    "surroundings is what padding did. Its mean over pictures is a pattern that marks positions whatever the content."
)


@dataclass(frozen=True)
class PatternRow:
    """One site of one network.

    Attributes:
        network: `network`, `untrained`, or `padding MODE`.
        site: its name.
        n: pictures.
        snr: power of the pattern over power of what varies around it between pictures; None where nothing varies.
        by_border: root mean square of the pattern by distance to the border, as a share of the features' own; None
            where they are zero and the pattern is not.
    """

    network: str
    site: str
    n: int
    snr: float | None
    by_border: tuple[float | None, ...]

    @property
    def loudness(self) -> float:
        """The signal-to-noise ratio, to compare."""
        nothing = self.snr is None and not any(v is None or v > 0 for v in self.by_border)
        return 0.0 if nothing else math.inf if self.snr is None else self.snr


@dataclass(frozen=True)
class PatternResult:
    """What was measured, and all that it rests on; the fields are those of `PositionResult`."""

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[PatternRow, ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        return {"kind": "padding pattern", **asdict(self)}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> PatternResult:
        """From the plain values of `result.json`.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        if plain.get("kind") != "padding pattern" or plain.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"this result has kind {plain.get('kind')!r}, schema version {plain.get('schema_version')!r}; this "
                f"version of whatwhere reads kind 'padding pattern', version {SCHEMA_VERSION}."
            )
        fields = {k: v for k, v in plain.items() if k != "kind"}
        rows = tuple(PatternRow(**{**r, "by_border": tuple(r["by_border"])}) for r in plain["rows"])
        return PatternResult(**{**fields, "rows": rows, "notes": tuple(plain["notes"])})

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> PatternResult:
        """Read `result.json` of a folder."""
        return PatternResult.from_dict(read_json(Path(folder) / "result.json"))

    def table(self) -> list[dict[str, Any]]:
        """One row for each site: signal-to-noise of every network; the pattern at the border and at the centre."""
        networks = list(dict.fromkeys(r.network for r in self.rows))
        index = {(r.network, r.site): r for r in self.rows}
        own = [r for r in self.rows if r.network == networks[0]]
        return [
            {
                "site": r.site,
                **{f"SNR {n}": _bare(index.get((n, r.site))) for n in networks},
                "at the border": _share(r.by_border[0], 3), "at the centre": _share(r.by_border[-1], 4),
                "pictures": r.n,
            }
            for r in own
        ]  # fmt: skip

    @property
    def conclusion(self) -> str:
        """Where padding speaks loudest, in a sentence."""
        loudest = max((r for r in self.rows if r.network == self.rows[0].network), key=lambda r: r.loudness)
        return f"Padding stands out most at {loudest.site}: signal to noise {_bare(loudest)}."

    def plot(self) -> Figure:
        """The pattern's share of the features by distance from the border, a panel for each site."""
        panels = {}
        for site in dict.fromkeys(r.site for r in self.rows):
            there = [r for r in self.rows if r.site == site]
            seen = (i for r in there for i, v in enumerate(r.by_border) if v is None or v > VISIBLE)
            reach = max(seen, default=0) + 3
            panels[site] = [_line(r, reach) for r in there]
        return panels_figure(
            panels,
            (),
            title=f"{self.network}: what padding adds",
            x="distance from the border",
            y="share of the features' RMS",
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, table.csv, the figure and index.html; returns the page."""
        write_json(Path(folder) / "result.json", self.to_dict())
        return write_report(Path(folder), self.report())

    def report(self) -> Report:
        """The page's content."""
        return Report(
            title=f"What does padding add to the features of {self.network}?",
            lead=LEAD,
            figures={"curve": self.plot()},
            tables=[Table("The pattern, site by site", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={
                "data": self.data, "preprocessing": self.preprocessing, "settings": self.settings, **self.provenance,
            },
        )  # fmt: skip


def pattern_study(
    net: nn.Module | Network,
    data: Data | str | os.PathLike[str],
    *,
    input_size: int | None = None,
    margin: int = 32,
    sites: Selection = None,
    untrained: int = 1,
    paddings: Sequence[str] = ("circular", "reflect", "replicate"),
    pictures: int = 200,
    batch_size: int = 16,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> PatternResult:
    """Measure what padding adds to the features of a network, of an untrained one, and under other paddings.

    Args:
        net: the network; it is never changed.
        data: pictures, with or without labels, of at least `input_size + 2 margin` pixels (smaller ones are enlarged).
        input_size: height and width of the cut-out; None is the network's own.
        margin: pixels of true surroundings on each side; at least half the receptive field of the deepest site, or
            the result is a lower bound.
        sites: where; None is every k x k convolution, `levels` the last map of each resolution.
        untrained: untrained networks to measure.
        paddings: other paddings of the same network to measure.
        pictures: at most so many.
        batch_size: pictures in a forward pass.
        out: folder for the result.
        quiet: print no progress.

    Raises:
        InputError: as `padding_pattern`, or for a padding the network cannot have.
    """
    net, data = net if isinstance(net, Network) else Network(net), data if isinstance(data, Data) else load_data(data)
    started = time.perf_counter()
    split = data.test.take(pictures)
    size = input_size or expected_input_size(net)[1]
    if untrained > 1:
        raise InputError(f"untrained={untrained}: the pattern is measured in at most one untrained network.")
    variants = variants_of(untrained, paddings)
    chosen = None if sites is None else [t.name for t in taps_of(net, sites, input_size=_shape(net, size))]
    rows: list[PatternRow] = []
    prep = replace(net.preprocessing, size=(size + 2 * margin,) * 2)
    sized = replace(net, input_size=_shape(net, size))
    notes: list[str] = []
    with Meter(f"padding pattern of {net.name}", len(split) * len(variants), quiet=quiet) as meter:
        for variant in variants:
            rows += _measured(variant, sized, _served(split, prep, batch_size, meter), size, margin, chosen, notes)
    result = PatternResult(
        network=net.name,
        data=data.describe(),
        preprocessing=prep.to_dict(),
        settings={"size": size, "margin": margin, "pictures": len(split), "sites": str(sites)},
        rows=tuple(rows),
        notes=(*random_weights(net), *notes),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out:
        result.save(out)
    return result


def _shape(net: Network, size: int) -> tuple[int, int, int]:
    return (expected_input_size(net)[0], size, size)


def _measured(
    variant: Variant,
    net: Network,
    served: Iterator[Tensor],
    size: int,
    margin: int,
    sites: Selection,
    notes: list[str],
) -> list[PatternRow]:
    try:
        built = variant.build(net, net.input_size or expected_input_size(net))
    except InputError as error:
        if variant.kind != PADDING:
            raise
        notes.append(f"Padding {variant.mode} is left out: {error}")
        return []
    found = padding_pattern(built, served, size=size, margin=margin, sites=sites)
    return [_row(variant.label, p) for p in found]


def _row(network: str, p: PatternAt) -> PatternRow:
    return PatternRow(network, p.site, p.n, _finite(p.snr), tuple(_finite(v) for v in p.by_border))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _served(split: Any, prep: Any, batch: int, meter: Meter) -> Iterator[Tensor]:
    for images, _ in split.batches(batch, geometry=prep, order=torch.arange(len(split))):
        yield prep.normalise(images)
        meter.advance(len(images))


def _bare(r: PatternRow | None) -> str:
    if r is None:
        return ""
    return "infinite" if r.snr is None else f"{r.snr:.3g}"


def _share(value: float | None, digits: int) -> str:
    return "infinite" if value is None else f"{value:.{digits}f}"


def _line(r: PatternRow, reach: int) -> Line:
    shown = tuple(math.nan if v is None else v for v in r.by_border[:reach])  # a gap
    return Line(r.network, tuple(float(i) for i in range(len(shown))), shown)
