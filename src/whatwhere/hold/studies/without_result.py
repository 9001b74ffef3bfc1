"""What is left of position and of the task, with position taken out and with other directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.intervals import Estimate
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.page import Report, Table
from whatwhere.report.panels import panels_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAD = (
    "The directions that a linear read-out of position uses are projected out of the features at a site, round by "
    "round. What is left of position is what a read-out that is fitted anew finds on other pictures (SPC: Spearman's "
    "rank correlation of predicted and true map); what is left of the task is the accuracy on the same pictures."
)
SHOWN = ("nothing", "position")
NOTHING = "shuffled positions, nothing to find"
OUT = "directions taken out"
ABOUT = (
    "SPC: rank correlation of the map that is read out anew with the true one; 1 is perfect, 0 is nothing. Controls: "
    "as many directions of read-outs that had nothing to find, and as many random ones."
)


@dataclass(frozen=True)
class Left:
    """With some directions taken out.

    Attributes:
        removed: nothing; position; shuffled positions (directions of read-outs that had nothing to find); random; or
            untrained, a network of fresh weights with nothing taken out.
        rank: how many directions.
        variance: the share of the features' variance along them, in [0, 1].
        spc: by target.
        shuffled: by target, of shuffled positions, on the same features: what finding nothing looks like.
        accuracy: in [0, 1]; None of untrained networks.
        drop: what was lost on the same pictures; None with nothing taken out.
    """

    removed: str
    rank: int
    variance: float
    spc: Mapping[str, Estimate]
    shuffled: Mapping[str, Estimate]
    accuracy: Estimate | None = None
    drop: Estimate | None = None


@dataclass(frozen=True)
class WithoutResult(Result):
    """What is left.

    Attributes:
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: of the network's input.
        settings: site, channels, targets, rounds, pictures, size, seed.
        rows: nothing taken out, position round by round, then the controls.
        gone: whether after the last round no target is read better than shuffled positions.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "position taken out"

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Left, ...]
    gone: bool
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def last(self) -> Left:
        """After the last round."""
        return [r for r in self.rows if r.removed in SHOWN][-1]

    def control(self, removed: str) -> Left | None:
        """The row of other directions, or of untrained networks."""
        return next((r for r in self.rows if r.removed == removed), None)

    @property
    def conclusion(self) -> str:
        """Whether position is gone, and what that costs beside as many random directions."""
        first, last = self.rows[0], self.last
        site, channels = self.settings["site"], self.settings["channels"]
        if not last.rank:
            return f"{site} holds no position that a linear read-out finds: {_read(first)}."
        fate = "is gone" if self.gone else "is not gone"
        text = f"Without {last.rank} of {channels} directions at {site} position {fate}: {_read(first)} before"
        text += f", {_read(last)} after"
        if not last.drop:
            return f"{text}."
        other = self.control("random")
        beside = f"; as many random directions cost {_points(other.drop)}" if other and other.drop else ""
        return f"{text}. That costs {_points(last.drop)} of accuracy{beside}."

    def records(self) -> Iterable[Left]:
        """Every row."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """One line for each row."""
        return [
            {
                "taken out": r.removed,
                "directions": r.rank,
                "variance %": f"{100 * r.variance:.2f}",
                **{f"SPC {t}": _spc(e) for t, e in r.spc.items()},
                **{f"SPC {t} shuffled": _spc(e) for t, e in r.shuffled.items()},
                "accuracy %": _percent(r.accuracy),
                "drop": _percent(r.drop),
                "pictures": next(iter(r.spc.values())).n,
            }
            for r in self.rows
        ]

    def plot(self) -> Figure:
        """SPC and accuracy over the number of directions, beside the controls."""
        title = f"{self.network}, {self.settings['site']}: position taken out"
        panels = {"SPC": self._spc_lines()}
        if kept := self._accuracy_lines():
            panels["accuracy"] = kept
        return panels_figure(panels, (), title=title, x="directions", y="")

    def charts(self) -> list[Chart]:
        """The same, as the page draws it."""
        floor = [_line(f"{t}, {NOTHING}", self._own, [r.shuffled[t] for r in self._own]) for t in self._own[0].shuffled]
        lines = [*self._spc_lines(), *floor]
        controls = [line.label for line in lines if not line.label.endswith(", position")]
        drawn = [Chart("curve", "What is left of position", OUT, "SPC", lines, {}, controls, about=ABOUT)]
        if kept := self._accuracy_lines():
            kept = [replace(k, y=_hundredfold(k.y), low=_hundredfold(k.low), high=_hundredfold(k.high)) for k in kept]
            others = [line.label for line in kept[1:]]
            drawn.append(Chart("curve-accuracy", "What is left of the task", OUT, "accuracy (%)", kept, {}, others))
        return drawn

    def _spc_lines(self) -> list[Line]:
        own = self._own
        return [
            *(_line(f"{t}, position", own, [r.spc[t] for r in own]) for t in own[0].spc),
            *(_line(f"{t}, {r.removed}", [r], [r.spc[t]]) for r in self._others for t in r.spc),
        ]

    def _accuracy_lines(self) -> list[Line]:
        if not self._own[0].accuracy:
            return []
        kept = _line("position", self._own, [r.accuracy for r in self._own if r.accuracy])
        return [kept, *(_line(r.removed, [r], [r.accuracy]) for r in self._others if r.accuracy)]

    @property
    def _own(self) -> list[Left]:
        return [r for r in self.rows if r.removed in SHOWN]

    @property
    def _others(self) -> list[Left]:
        return [r for r in self.rows if r.removed not in SHOWN and r.rank]

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        measured = {"data": self.data, "preprocessing": self.preprocessing, "settings": self.settings}
        return Report(
            title=f"What is left of {self.network} without position?",
            lead=LEAD,
            figures={"curve": self.plot()},
            charts=self.charts(),
            tables=[Table("Left of position and of the task", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={**measured, **self.provenance},
        )


def _line(label: str, rows: Iterable[Left], estimates: Iterable[Estimate]) -> Line:
    found = list(estimates)
    ends = (tuple(e.low for e in found), tuple(e.high for e in found))
    return Line(label, tuple(float(r.rank) for r in rows), tuple(e.mean for e in found), *ends)


def _hundredfold(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(100 * v for v in values)


def _read(r: Left) -> str:
    return "SPC of " + ", ".join(f"{t} {_spc(e)}" for t, e in r.spc.items())


def _spc(e: Estimate) -> str:
    return f"{e.mean:.2f} [{e.low:.2f}, {e.high:.2f}]"


def _percent(e: Estimate | None) -> str:
    return "" if e is None else f"{100 * e.mean:.2f} [{100 * e.low:.2f}, {100 * e.high:.2f}]"


def _points(e: Estimate) -> str:
    return f"{_percent(e)} points"
