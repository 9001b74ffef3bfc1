"""What padding added: how much it stands out at each site, and how far from the border it reaches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.page import Report, Table
from whatwhere.report.panels import panels_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VISIBLE = 1e-3  # of the features: further in, the figure shows nothing
DISTANCE, SHARE = "distance from the border, in cells of the map", "share of the features' RMS"
ABOUT = "Root mean square of what padding adds, as a share of the features' own, by distance from the border."
LEAD = (
    "Each picture is cut out of a larger one. Padding causes the difference between the features of the cut-out and "
    "those with the true surroundings. Its mean over pictures is a pattern that marks positions whatever the content."
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
class PatternResult(Result):
    """What padding added to the features of a network and of its controls.

    Attributes:
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: of the larger pictures.
        settings: size, margin, pictures, sites.
        rows: every site of every network.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "padding pattern"

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[PatternRow, ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def records(self) -> Iterable[PatternRow]:
        """Every site of every network."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """One row for each site: signal-to-noise of every network; the pattern at the border and at the centre."""
        networks = list(dict.fromkeys(r.network for r in self.rows))
        index = {(r.network, r.site): r for r in self.rows}
        own = [r for r in self.rows if r.network == networks[0]]
        return [
            {
                "site": r.site,
                **{f"SNR {n}": _bare(index.get((n, r.site))) for n in networks},
                "at the border": _share(r.by_border[0], 3),
                "at the centre": _share(r.by_border[-1], 4),
                "pictures": r.n,
            }
            for r in own
        ]

    @property
    def conclusion(self) -> str:
        """The site with the highest signal-to-noise ratio, in a sentence."""
        loudest = max((r for r in self.rows if r.network == self.rows[0].network), key=lambda r: r.loudness)
        return f"Padding stands out most at {loudest.site}: signal to noise {_bare(loudest)}."

    def plot(self) -> Figure:
        """The pattern's share of the features by distance from the border, a panel for each site."""
        title = f"{self.network}: what padding adds"
        return panels_figure(self._panels(), (), title=title, x=DISTANCE, y=SHARE)

    def chart(self) -> Chart:
        """The same, as the page draws it."""
        lines = [line for there in self._panels().values() for line in there]
        controls = [r.network for r in self.rows if r.network != self.rows[0].network]
        return Chart("curve", "What padding adds, site by site", DISTANCE, SHARE, lines, {}, controls, about=ABOUT)

    def _panels(self) -> dict[str, list[Line]]:
        """Curves by site, each as far as there is something to see."""
        panels = {}
        for site in dict.fromkeys(r.site for r in self.rows):
            there = [r for r in self.rows if r.site == site]
            seen = (i for r in there for i, v in enumerate(r.by_border) if v is None or v > VISIBLE)
            reach = max(seen, default=0) + 3
            panels[site] = [_line(r, reach) for r in there]
        return panels

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title=f"What does padding add to the features of {self.network}?",
            lead=LEAD,
            figures={"curve": self.plot()},
            charts=[self.chart()],
            tables=[Table("The pattern, site by site", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={
                "data": self.data,
                "preprocessing": self.preprocessing,
                "settings": self.settings,
                **self.provenance,
            },
        )


def _bare(r: PatternRow | None) -> str:
    if r is None:
        return ""
    return "infinite" if r.snr is None else f"{r.snr:.3g}"


def _share(value: float | None, digits: int) -> str:
    return "infinite" if value is None else f"{value:.{digits}f}"


def _line(r: PatternRow, reach: int) -> Line:
    shown = tuple(math.nan if v is None else v for v in r.by_border[:reach])  # a gap
    return Line(r.network, tuple(float(i) for i in range(len(shown))), shown, panel=r.site)
