"""Audits side by side: the result, its table and its page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.audits.differences import Row
from whatwhere.audits.said import EACH, interval, sentences, shown, signed
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAD = (
    "Audits side by side. A difference is that of the network in its row minus that of {first}; paired: picture by "
    "picture, on the same ones; unpaired: of two independent numbers. Where there are two values in a field, the "
    "first is the network's and the second the other's. What was left out is in the last table."
)
DEPTH = "share of layers from the place on (%)"


@dataclass(frozen=True)
class Curve:
    """A curve of one network for a chart.

    Attributes:
        chart: that it is in.
        line: its values.
        control: whether it is there to compare with.
        hidden: whether it is switched off at first.
    """

    chart: str
    line: Line
    control: bool = False
    hidden: bool = False


CHARTS = {
    "need": ("Need: what is lost without spatial information", "what is lost, {unit}"),
    "difference": ("Need: the difference, with its interval", "lost more than {first}, {unit}"),
    "hold": ("Hold: columns, rows and the middle read out of the features", "SPC"),
    "fields": ("Receptive fields: within how many pixels half is seen", "radius, px"),
}


@dataclass(frozen=True)
class Comparison(Result):
    """Two or more audits, each compared with the first.

    Attributes:
        audits: label, folder, network, data, minutes, weights of each.
        rows: every difference.
        plain: what has no interval: speed, operations, known answers.
        left_out: what could not be compared, with whom, and why.
        curves: for the charts.
        unit: of what was lost.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "audits compared"

    audits: tuple[Mapping[str, Any], ...]
    rows: tuple[Row, ...]
    plain: tuple[Mapping[str, Any], ...] = ()
    left_out: tuple[Mapping[str, str], ...] = ()
    curves: tuple[Curve, ...] = ()
    unit: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def sentences(self) -> list[str]:
        """What differs for sure, and what does not."""
        return sentences(self.rows, [a["label"] for a in self.audits])

    @property
    def conclusion(self) -> str:
        """The same, as one text."""
        return "\n".join(self.sentences)

    def records(self) -> Iterable[Row]:
        """Every difference."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """One line for each difference."""
        return [_line(r) for r in self.rows]

    def plot(self) -> Figure:
        """What is lost at every depth, by both."""
        curves = [c for c in self.curves if c.chart == "need" and not c.hidden]
        y = CHARTS["need"][1].format(unit=self.unit)
        return curve_figure([c.line for c in curves], {}, title="", x=DEPTH, y=y, unit=self.unit)

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        first = self.audits[0]["label"]
        names = [a["label"] for a in self.audits]
        return Report(
            title=f"{', '.join(names[1:])} against {first}",
            lead=LEAD.format(first=first),
            charts=list(self._charts()),
            tables=[
                Table("Every difference", self.table()),
                Table("What has no interval", list(self.plain)),
                Table("Left out", list(self.left_out)),
            ],
            notes=self.notes,
            conclusion=self.conclusion,
            verdict=self.sentences,
            facts={"audits": {a["label"]: a for a in self.audits}, **self.provenance},
            pages={f"The audit of {a['label']}": _link(a["folder"], folder) for a in self.audits},
        )

    def _charts(self) -> Iterable[Chart]:
        first = self.audits[0]["label"]
        for name, (title, y) in CHARTS.items():
            # those that are seen at first come first, since colours are given in this order
            curves = sorted((c for c in self.curves if c.chart == name), key=lambda c: c.hidden)
            lines = [c.line for c in curves]
            if lines:
                controls, hidden = ([c.line.label for c in curves if getattr(c, k)] for k in ("control", "hidden"))
                axis = y.format(unit=self.unit, first=first)
                yield Chart(name, title, DEPTH, axis, lines, {}, controls, hidden)


def _link(audit: str, folder: Path | None) -> str:
    """An audit's page, seen from the comparison's folder."""
    page = Path(audit) / "index.html"
    return page.as_posix() if folder is None else Path(os.path.relpath(page, folder)).as_posix()


def _line(r: Row) -> dict[str, Any]:
    shares = [f"{100 * s:.0f}" for s in reversed(r.shares) if s is not None]
    controls = [f"{c:.2f}" for c in reversed(r.controls) if c is not None]
    return {
        "quantity": r.what,
        "share %": " / ".join(dict.fromkeys(shares)),
        "difference": signed(r, r.difference.mean),
        "95 %": interval(r),
        "unit": r.unit,
        "network's own": shown(r, r.second.mean),
        "the other's": shown(r, r.first.mean),
        "paired": "paired" if r.paired else "unpaired",
        "pictures": f"{r.difference.n}" if r.paired else f"{r.second.n} / {r.first.n}",
        "untrained": " / ".join(controls),
        "sites": " / ".join(dict.fromkeys(reversed(r.sites))),
        "places matched": r.matched,
        "network": r.network,
        "against": r.against,
        EACH: r.difference.covers,
    }
