"""What the Red-Green test found: accuracy where place agrees with the class, and where it contradicts it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from whatwhere.hold.studies.red_green_data import CLASSES
from whatwhere.lab.rows import Row, RowsResult
from whatwhere.report.page import Report, Table

MARGIN = 0.03  # a smaller difference between similar and dissimilar counts as none


@dataclass(frozen=True)
class RedGreenResult(RowsResult):
    """Accuracy on similar and dissimilar pictures, and their paired difference, for each padding."""

    kind: ClassVar[str] = "red-green"
    plotted: ClassVar[tuple[str, ...]] = ("similar", "dissimilar")

    @property
    def chance(self) -> float:
        """Two classes in equal numbers."""
        return 1 / len(CLASSES)

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return verdict(self.rows)

    @property
    def title(self) -> str:
        """Above the figure."""
        return "Red-Green: place agrees with the class (similar) or contradicts it (dissimilar)"

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title="Which padding lets a convolutional network exploit absolute location?",
            lead="Small networks learn which of two blocks is on the left; in training, their height gives it away.",
            figures={"red-green": self.plot()},
            charts=[self.chart("red-green")],
            tables=[Table("Accuracy where place agrees with the class and where it contradicts it", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def verdict(rows: Iterable[Row]) -> str:
    """Which paddings let location in, in a sentence each for those that do, do not, and may."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        gap = row.measured["gap"]
        kind = "yes" if gap.low > MARGIN else "no" if max(-gap.low, gap.high) <= MARGIN else "open"
        kinds.setdefault(kind, []).append(f"{row.label} ({100 * gap.mean:.1f} points)")
    texts = {
        "yes": "Location is exploited with",
        "no": f"Location is not exploited (within {100 * MARGIN:.0f} points) with",
        "open": "It is undecided whether location is exploited with",
    }
    return " ".join(f"{texts[k]} {', '.join(kinds[k])}." for k in texts if k in kinds)
