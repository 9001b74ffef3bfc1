"""What cutting the pictures into patches costs, grid by grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.intervals import Estimate
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALONG = "patches along a side of the picture"
LEAD = (
    "Each picture is cut into g x g patches, which change places at random. A trained network that still recognises it "
    "reads what is inside of the patches, and not where they are."
)


@dataclass(frozen=True)
class Cut:
    """One grid.

    Attributes:
        grid: patches along each side; 1 is the picture as it is.
        patch: (height, width) of a patch, in pixels of the prepared picture.
        score: accuracy in [0, 1], say; of which score it is, the result's `score` says.
        drop: what was lost on the same pictures, positive where it got worse; None for the picture as it is.
        values: the score of each draw.
    """

    grid: int
    patch: tuple[int, int]
    score: Estimate
    drop: Estimate | None = None
    values: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """How sentences call it."""
        return f"{self.grid} x {self.grid} patches of {self.patch[0]} x {self.patch[1]} pixels"


@dataclass(frozen=True)
class PatchesResult(Result):
    """What a network loses when the patches of its pictures change places.

    Attributes:
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: of the network's input.
        settings: scope, repeats, seed, batch_size.
        rows: the picture as it is, then every grid.
        within: the loss that the conclusion allows.
        chance: the score of a guess; None where none is known.
        score: name, label, unit and direction of what was measured; empty: accuracy.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "patches of the input"

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Cut, ...]
    within: float
    chance: float | None = None
    score: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def measured(self) -> Score:
        """How the score is said."""
        return Score(**self.score) if self.score else ACCURACY

    def __getitem__(self, grid: int) -> Cut:
        """The row of a grid."""
        return next(r for r in self.rows if r.grid == grid)

    @property
    def cut(self) -> tuple[Cut, ...]:
        """The grids, without the picture as it is."""
        return tuple(r for r in self.rows if r.drop)

    @property
    def conclusion(self) -> str:
        """The smallest patches within the allowed loss, and the first grid with a loss."""
        drops = {r: r.drop for r in self.cut if r.drop}
        if not drops:
            return "No grid is measured yet."
        held = [r for r, drop in drops.items() if drop.high <= self.within]
        lost = next((r for r, drop in drops.items() if drop.low > 0), None)
        allowed = f"{self.measured.shown(self.within)}{self.measured.points}"
        held_text = f"{held[-1].label} cost at most {allowed}, {self._said(drops[held[-1]])}." if held else ""
        then = f"{lost.label} cost {self._said(drops[lost])}." if lost else "No grid is shown to cost anything."
        return f"{held_text or f'No grid is shown to cost at most {allowed}.'} {then}"

    def _said(self, e: Estimate) -> str:
        """A loss with its interval."""
        return f"{self.measured.shown(e.mean)}{self.measured.points} {self._interval(e)}"

    def _interval(self, e: Estimate | None) -> str:
        return "" if e is None else f"[{self.measured.shown(e.low)}, {self.measured.shown(e.high)}]"

    def records(self) -> Iterable[Cut]:
        """Every row."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """One line for each row."""
        score = self.measured
        worse = "drop" if score.higher_is_better else "rise"
        return [
            {
                "grid": f"{r.grid} x {r.grid}",
                "patch (pixels)": f"{r.patch[0]} x {r.patch[1]}",
                score.heading: score.shown(r.score.mean),
                f"{score.heading} 95 %": self._interval(r.score),
                worse: "" if r.drop is None else score.shown(r.drop.mean),
                f"{worse} 95 %": self._interval(r.drop),
                "95 % covers": r.score.covers,
                "draws": len(r.values) or "",
                "pictures": r.score.n,
            }
            for r in self.rows
        ]

    def plot(self) -> Figure:
        """The score over the number of patches along a side."""
        return curve_figure(
            [self.line(f"{self.network}, patches shuffled")],
            self._levels,
            title=f"{self.network} on {self.data.get('name', 'data')}",
            x=ALONG,
            y=self.measured.axis,
            unit=self.measured.unit,
        )

    @property
    def _levels(self) -> dict[str, float]:
        scale = self.measured.scale
        chance = {} if self.chance is None else {"always the commonest class": scale * self.chance}
        return {"as it is": scale * self.rows[0].score.mean, **chance}

    def chart(self, name: str = "curve", title: str = "") -> Chart:
        """The same, as the page draws it.

        Args:
            name: of the chart.
            title: above it; the score's if not given.
        """
        line, title = self.line("patches shuffled"), title or f"{self.measured.title} for every grid"
        return Chart(name, title, ALONG, self.measured.axis, [line], self._levels)

    def line(self, label: str) -> Line:
        """The score over the patches along a side, with its intervals."""
        estimates, scale = [r.score for r in self.rows], self.measured.scale
        return Line(
            label,
            tuple(float(r.grid) for r in self.rows),
            tuple(scale * e.mean for e in estimates),
            tuple(scale * e.low for e in estimates),
            tuple(scale * e.high for e in estimates),
        )

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        measured = {"data": self.data, "preprocessing": self.preprocessing, "settings": self.settings}
        return Report(
            title=f"How local is what {self.network} recognises?",
            lead=LEAD,
            figures={"curve": self.plot()},
            charts=[self.chart()],
            tables=[Table(f"{self.measured.title} for every grid", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={**measured, **self.provenance},
        )
