"""What cutting the pictures into patches costs, grid by grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.intervals import Estimate
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        accuracy: in [0, 1].
        drop: what was lost on the same pictures, in [0, 1]; None for the picture as it is.
        values: the accuracy of each draw.
    """

    grid: int
    patch: tuple[int, int]
    accuracy: Estimate
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
        within: the loss that the conclusion allows, in [0, 1].
        chance: the accuracy of a guess, in [0, 1].
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
    chance: float
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

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
        allowed = f"{100 * self.within:g} point{'' if self.within == 0.01 else 's'}"
        first = f"{held[-1].label} cost at most {allowed}{_points(drops[held[-1]])}." if held else ""
        none = f"No grid is shown to cost at most {allowed}."
        then = f"{lost.label} cost {_lost(drops[lost])}." if lost else "No grid is shown to cost anything."
        return f"{first or none} {then}"

    def records(self) -> Iterable[Cut]:
        """Every row."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """One line for each row, in per cent."""
        return [
            {
                "grid": f"{r.grid} x {r.grid}",
                "patch (pixels)": f"{r.patch[0]} x {r.patch[1]}",
                "accuracy %": f"{100 * r.accuracy.mean:.2f}",
                "accuracy 95 %": _interval(r.accuracy),
                "drop": "" if r.drop is None else f"{100 * r.drop.mean:.2f}",
                "drop 95 %": "" if r.drop is None else _interval(r.drop),
                "95 % covers": r.accuracy.covers,
                "draws": len(r.values),
                "pictures": r.accuracy.n,
            }
            for r in self.rows
        ]

    def plot(self) -> Figure:
        """Accuracy over the number of patches along a side."""
        return curve_figure(
            [self.line(f"{self.network}, patches shuffled")],
            {"as it is": 100 * self.rows[0].accuracy.mean, "a guess": 100 * self.chance},
            title=f"{self.network} on {self.data.get('name', 'data')}",
            x="patches along a side of the picture",
        )

    def line(self, label: str) -> Line:
        """Accuracy over the patches along a side, with its intervals."""
        estimates = [r.accuracy for r in self.rows]
        return Line(
            label,
            tuple(float(r.grid) for r in self.rows),
            tuple(100 * e.mean for e in estimates),
            tuple(100 * e.low for e in estimates),
            tuple(100 * e.high for e in estimates),
        )

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        measured = {"data": self.data, "preprocessing": self.preprocessing, "settings": self.settings}
        return Report(
            title=f"How local is what {self.network} recognises?",
            lead=LEAD,
            figures={"curve": self.plot()},
            tables=[Table("Accuracy for every grid", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={**measured, **self.provenance},
        )


def _interval(e: Estimate) -> str:
    return f"[{100 * e.low:.2f}, {100 * e.high:.2f}]"


def _points(e: Estimate) -> str:
    return f" ({100 * e.mean:.2f} {_interval(e)})"


def _lost(e: Estimate) -> str:
    return f"{100 * e.mean:.2f} points {_interval(e)}"
