"""Figures of a comparison of bottlenecks, and the same as its page draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whatwhere.report.charts import Chart
from whatwhere.report.figures import COLOURS, MARKERS, STYLE, Line
from whatwhere.report.panels import panels_figure
from whatwhere.say.studies.say_row import Interval, SayRow, row_of, sites_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE = "noise"
FINEST = ("intact", "tuned", "learned", "random", "pca", NOISE)  # beside which a bottleneck of concepts stands
INSPECTED = ("inspectability", "Inspectability", "IoU with the best-matching concept, at least", "share of channels")
SURE = ("confidence", "Risk and coverage", "share answered", "share wrong")
COST = "What a bottleneck costs"
CEILING = "a table from true concepts"
ABOUT = {
    "bottleneck": "The network as it was trained (intact), fine-tuned without a bottleneck (tuned), with each kind.",
    "inspectability": "How many channels overlap with some concept by at least so much; noise shows what luck gives.",
    "confidence": "Of the pixels answered first, the most confident ones, how many are wrong: lower is better.",
}


def charts(rows: tuple[SayRow, ...], ceiling: Interval | None) -> list[Chart]:
    """Every figure of a result, as the page draws it: one style for each kind, whatever the site."""
    sites, kinds = sites_of(rows), list(dict.fromkeys(r.kind for r in rows))
    levels = {CEILING: 100 * ceiling.value} if ceiling else {}
    cost = [_mious([r for r in rows if r.site == site], kinds, site) for site in sites]
    drawn = [Chart("bottleneck", COST, "mIoU (%)", "mIoU (%)", cost, levels, (), (), kinds, joined=False)]
    for named, lines_of in ((INSPECTED, _inspection_lines), (SURE, _risk_lines)):
        lines = [replace(ln, panel=s if len(sites) > 1 else "") for s in sites for ln in lines_of(rows, s)]
        controls = list(dict.fromkeys(ln.label for ln in lines if ln.label.partition(":")[0] in FINEST))
        drawn += [Chart(*named, lines, {}, controls)] if lines else []
    return [replace(chart, about=ABOUT[chart.name]) for chart in drawn]


def _mious(rows: Sequence[SayRow], kinds: Sequence[str], site: str) -> Line:
    """MIoU of each kind at a site, in per cent; x counts the kinds from 0."""
    found = [r.miou for r in rows]
    value, low, high = (tuple(100 * getattr(e, part) for e in found) for part in ("value", "low", "high"))
    return Line(site, tuple(float(kinds.index(r.kind)) for r in rows), value, low, high)


def figures(rows: tuple[SayRow, ...], ceiling: Interval | None) -> dict[str, Figure]:
    """Every figure of a result, by file name."""
    drawn, sites = {"bottleneck": lossless_figure(rows, ceiling)}, sites_of(rows)
    width = max(3.3, 6.4 / len(sites))  # room for the legend
    inspected = {s: _inspection_lines(rows, s) for s in sites}
    if any(inspected.values()):
        drawn["inspectability"] = panels_figure(
            inspected,
            (),
            title=INSPECTED[1],
            x=INSPECTED[2],
            y=INSPECTED[3],
            width=width,
        )
    sure = {s: _risk_lines(rows, s) for s in sites}
    if any(sure.values()):
        drawn["confidence"] = panels_figure(sure, (), title=SURE[1], x=SURE[2], y=SURE[3], width=width)
    return drawn


def lossless_figure(rows: tuple[SayRow, ...], ceiling: Interval | None) -> Figure:
    """MIoU of every kind with its interval, a panel for each site, beside the ceiling of the concepts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    sites, kinds = sites_of(rows), list(dict.fromkeys(r.kind for r in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(sites) + 1.2, 0.34 * len(kinds) + 1.5), layout="constrained")
        axes = figure.subplots(1, len(sites), sharey=True, squeeze=False)[0]
        for at, site in zip(axes, sites, strict=True):
            _dots(at, [r for r in rows if r.site == site], kinds)
            at.set_title(site, loc="left", fontsize=10)
            at.set_xlabel("mIoU, %")
            if ceiling:
                at.axvline(100 * ceiling.value, color="0.5", ls=":", lw=1.2, label=CEILING)
        axes[0].set_yticks(range(len(kinds)), kinds)
        axes[0].invert_yaxis()
        if ceiling:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    return figure


def _dots(axes: Any, rows: Sequence[SayRow], kinds: Sequence[str]) -> None:
    for row in rows:
        y, e = kinds.index(row.kind), row.miou
        axes.plot([100 * e.low, 100 * e.high], [y, y], color=COLOURS[0], lw=2, alpha=0.5)
        axes.plot([100 * e.value], [y], MARKERS[0], color=COLOURS[0], mec="white", ms=7)


def _inspection_lines(rows: tuple[SayRow, ...], site: str) -> list[Line]:
    found = [r for r in rows if r.site == site and "inspection" in r.extras]
    xi = np.linspace(0, 1, 101).tolist()
    noise = [r.extras["inspection"]["noise"] for r in found if "noise" in r.extras["inspection"]][:1]
    return [
        *(_curve(r.kind, xi, r.extras["inspection"]["curve"]) for r in found),
        *(_curve(NOISE, xi, n["curve"]) for n in noise),
    ]


def _risk_lines(rows: tuple[SayRow, ...], site: str) -> list[Line]:
    lines = []
    for kind, names in {"intact": ("max softmax", "temperature scaling"), "ssb": ("max softmax", "concepts")}.items():
        row = row_of(rows, site, kind)
        measures = row.extras["confidence"]["measures"] if row and "confidence" in row.extras else {}
        for name in names:
            if name in measures:
                lines.append(_curve(f"{kind}: {name}", *zip(*measures[name]["curve"], strict=True)))
    return lines


def _curve(label: str, x: Sequence[float], y: Sequence[float]) -> Line:
    return Line(label, tuple(x), tuple(y))
