"""What the location test found: how often each network predicts the right square."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from whatwhere.lab.rows import Row, RowsResult
from whatwhere.report.page import Report, Table


@dataclass(frozen=True)
class LocationResult(RowsResult):
    """Accuracy of the predicted square, for each row."""

    kind: ClassVar[str] = "location"
    plotted: ClassVar[tuple[str, ...]] = ("accuracy",)

    @property
    def grid(self) -> int:
        """Squares in a row and in a column of the canvas."""
        return int(self.settings["grid"])

    @property
    def chance(self) -> float:
        """One square of all."""
        return 1 / self.grid**2

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return verdict(self.rows, self.chance)

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['model']}: in which of {self.grid**2} squares is the picture?"

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title="Does global average pooling delete absolute position?",
            lead=f"A picture lies in one of {self.grid} x {self.grid} squares of a canvas; a network that ends in "
            "global average pooling and a linear layer is trained to predict which.",
            figures={"location": self.plot()},
            charts=[self.chart("location")],
            tables=[Table("Accuracy of the predicted square", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def verdict(rows: Iterable[Row], chance: float) -> str:
    """Which rows predict the square better than chance, and which show no significant difference from it."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        e = row.measured["accuracy"]
        kinds[e.low > chance].append(f"{row.label} ({100 * e.mean:.1f} %)")
    better = "The square is predicted better than chance with"
    texts = {True: better, False: f"Not significantly better than chance ({100 * chance:.1f} %):"}
    return " ".join(f"{texts[k]} {', '.join(kinds[k])}." for k in texts if kinds[k])
