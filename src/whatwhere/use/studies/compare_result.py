"""What the comparison found: accuracies, paired differences, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from whatwhere.lab.rows import Row, RowsResult
from whatwhere.report.page import Report, Table

NONE = "none"
MEASURE, GAIN = "accuracy", "above none"


@dataclass(frozen=True)
class CompareResult(RowsResult):
    """Accuracy of each method over seeds, its paired difference from the plain network, and its cost."""

    kind: ClassVar[str] = "recalibration"
    plotted: ClassVar[tuple[str, ...]] = (MEASURE,)
    cost: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def chance(self) -> float | None:
        """Not shown: the differences are small."""
        return None

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return " ".join(filter(None, [plain(self.rows), verdict(self.rows)]))

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['model']} on {self.data.get('name', 'data')}"

    def table(self) -> list[dict[str, Any]]:
        """One line for each method, in per cent, with its extra parameters and operations."""
        return [{**line, **{k: f"{v:+.2f}" for k, v in self.cost[line["row"]].items()}} for line in super().table()]

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title=f"Does recalibration help {self.settings['model']}?",
            lead="The same network, trained alike with each method inside; differences are paired by seed and picture.",
            figures={"recalibration": self.plot()},
            charts=[self.chart("recalibration")],
            tables=[Table("Accuracy, difference from the plain network, and cost", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def plain(rows: Iterable[Row]) -> str:
    """What the others are compared with."""
    e = next((row.measured[MEASURE] for row in rows if row.name == NONE), None)
    if e is None:
        return ""
    covered = f"; intervals cover {e.covers}" if e.covers else ""
    asked = f"{e.n:,} pictures, {e.repeats} seed{'s' * (e.repeats != 1)}{covered}"
    return f"The plain network: {100 * e.mean:.2f} % [{100 * e.low:.2f}, {100 * e.high:.2f}] right ({asked})."


def verdict(rows: Iterable[Row]) -> str:
    """Of each method: helps, hurts, or no significant difference."""
    texts = []
    for row in rows:
        if GAIN in row.measured:
            e = row.measured[GAIN]
            word = "helps" if e.low > 0 else "hurts" if e.high < 0 else "makes no significant difference"
            texts.append(f"{row.label} {word} ({100 * e.mean:+.2f} points [{100 * e.low:+.2f}, {100 * e.high:+.2f}])")
    return "; ".join(texts) + ("." if texts else "")
