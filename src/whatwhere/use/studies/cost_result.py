"""What recalibration costs: absolute, and compared with the plain network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from whatwhere.costs import Cost
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import COLOURS, STYLE, Line
from whatwhere.report.page import Report, Table
from whatwhere.use.studies.compare_result import NONE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MORE = "more than the plain network (%)"


@dataclass(frozen=True)
class CostResult(Result):
    """What each network costs.

    Attributes:
        costs: by method, the plain network `none` among them.
        slower: by method, time of a forward pass as a multiple of the plain network's.
        settings: model, methods, rounds, and the hardware that latency was measured on.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "recalibration cost"

    costs: Mapping[str, Cost]
    slower: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __getitem__(self, method: str) -> Cost:
        """What the network with a method costs."""
        return self.costs[method]

    @property
    def methods(self) -> list[str]:
        """The methods, without the plain network."""
        return [name for name in self.costs if name != NONE]

    def extra(self, method: str) -> dict[str, float]:
        """Extra parameters, FLOPs and latency of a method, in per cent of the plain network's."""
        c, base = self.costs[method], self.costs[NONE]
        times = {"parameters": c.parameters / base.parameters, "FLOPs": c.flops / base.flops}
        return {name: 100 * (value - 1) for name, value in {**times, "latency": self.slower[method]}.items()}

    @property
    def conclusion(self) -> str:
        """What each method adds."""
        return " ".join(self._sentence(name) for name in self.methods)

    def _sentence(self, method: str) -> str:
        extra = self.extra(method)
        return (
            f"{method} takes {self.slower[method]:.2f} times the time of the plain network, with "
            f"{extra['parameters']:+.2f} % parameters and {extra['FLOPs']:+.2f} % FLOPs."
        )

    def records(self) -> list[dict[str, Any]]:
        """One record for each method."""
        return [{"method": n, **c.to_dict(), "slower": self.slower[n]} for n, c in self.costs.items()]

    def table(self) -> list[dict[str, Any]]:
        """One line for each method, absolute and compared with the plain network."""
        base = self.costs[NONE]
        return [
            {
                "method": name,
                "parameters": f"{c.parameters:,}",
                "extra": _extra(c.parameters, base.parameters, ",.0f"),
                "MFLOPs": f"{c.flops / 1e6:,.2f}",
                "extra MFLOPs": _extra(c.flops / 1e6, base.flops / 1e6),
                "ms a picture": f"{c.latency_ms:.2f} ({100 * (self.slower[name] - 1):+.1f} %)",
                "MB kept": f"{c.kept_bytes / 1e6:.2f}",
                "extra MB": _extra(c.kept_bytes / 1e6, base.kept_bytes / 1e6),
            }
            for name, c in self.costs.items()
        ]

    def plot(self) -> Figure:
        """Extra parameters, FLOPs and latency of each method, in per cent."""
        methods = self.methods or [NONE]
        return bars_figure(
            {name: self.extra(name) for name in methods},
            title=self._title,
            x=MORE,
        )

    def chart(self) -> Chart:
        """The same, as the page draws it."""
        methods = self.methods or [NONE]
        extra = [self.extra(name) for name in methods]
        places = tuple(map(float, range(len(methods))))
        lines = [Line(what, places, tuple(e[what] for e in extra)) for what in extra[0]]
        return Chart("cost", self._title, MORE, MORE, lines, {}, (), (), methods, joined=False)

    @property
    def _title(self) -> str:
        return f"{self.settings.get('model', 'network')}: cost of recalibration"

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        size = " x ".join(map(str, self.settings["size"]))
        return Report(
            title=f"What does recalibration cost in {self.settings['model']}?",
            lead=f"Each method inside the same network, on a picture of {size}; nothing is trained.",
            figures={"cost": self.plot()},
            charts=[self.chart()],
            tables=[Table("Absolute, and compared with the plain network", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={"settings": self.settings, **self.provenance},
        )


def _extra(value: float, base: float, how: str = ",.2f") -> str:
    return f"{value - base:+{how}} ({100 * (value / base - 1):+.2f} %)"


def bars_figure(rows: Mapping[str, Mapping[str, float]], *, title: str, x: str) -> Figure:
    """Horizontal bars: a group for each row, a colour for each of its values.

    Args:
        rows: values by name, by row; from above. All rows have the same names.
        title: above the axes.
        x: along the horizontal axis.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(next(iter(rows.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.6 + 0.65 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for i, name in enumerate(names):
            _bars(axes, [row[name] for row in rows.values()], name, i, len(names))
        axes.axvline(0, color="0.25", lw=1)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.15)
        axes.set_xlabel(x)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _bars(axes: Any, values: Sequence[float], name: str, i: int, of: int) -> None:
    height = 0.8 / of
    at = np.arange(len(values)) + (i - (of - 1) / 2) * height
    bars = axes.barh(at, values, 0.9 * height, color=COLOURS[i], label=name, zorder=3)
    axes.bar_label(bars, fmt="%+.2f", padding=3, fontsize=8)
