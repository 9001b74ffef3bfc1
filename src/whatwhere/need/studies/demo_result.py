"""What the demo found: three studies side by side, and whether the known answers came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from whatwhere.intervals import Estimate
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.need.studies.result import GAP_FC, INTACT, SHARE, NeedResult, Point, line_of
from whatwhere.report.charts import Chart
from whatwhere.report.figures import curve_figure
from whatwhere.report.page import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL, WIDTH = "cifar/vgg11", 0.25
CHANCES = "chance of what and where"
CHANCE = 1 / 12  # of the tasks with a known answer
COST, NEAR, LEARNED = 0.03, 0.05, 0.95  # what a collapse may cost, how near chance is, and that a task was learned
EXPECTED = {
    "what": "The class is which textures there are, so a bag of them is enough: the collapse should cost nothing.",
    "where": "The textures are always the same and the class is their arrangement: the collapse should fall to chance "
    "(1 in 12).",
    "digits": "Real scans of handwritten digits, to see where they stand between the two.",
}


@dataclass(frozen=True)
class DemoResult(Result):
    """The studies of the demo.

    Attributes:
        tasks: the study of each task.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "demo"

    tasks: Mapping[str, NeedResult]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in result.json: each task as in its own."""
        return {**super().to_dict(), "tasks": {task: r.to_dict() for task, r in self.tasks.items()}}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """From the plain values of result.json.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        tasks = {task: NeedResult.from_dict(r) for task, r in plain.get("tasks", {}).items()}
        return super().from_dict({**plain, "tasks": tasks})

    @property
    def conclusion(self) -> str:
        """Whether the known answers came out."""
        return verdict(self.tasks["what"], self.tasks["where"]) if {"what", "where"} <= self.tasks.keys() else ""

    def records(self) -> Iterable[dict[str, Any]]:
        """The points of all tasks."""
        return ({"task": task, **r.named(vars(p))} for task, r in self.tasks.items() for p in r.records())

    def table(self) -> list[dict[str, Any]]:
        """One line for each task: its deepest collapse."""
        return [_row(task, r) for task, r in self.tasks.items()]

    def plot(self) -> Figure:
        """GAP+FC on the tasks, in one figure."""
        lines = [line_of(task, _collapsed(r)) for task, r in self.tasks.items()]
        return curve_figure(lines, {CHANCES: 100 * CHANCE}, title="Trained with GAP+FC")

    def chart(self) -> Chart:
        """The same, as the page draws it."""
        lines, levels = [line_of(task, _collapsed(r)) for task, r in self.tasks.items()], {CHANCES: 100 * CHANCE}
        return Chart("curve", "Trained with GAP+FC", SHARE, "accuracy (%)", lines, levels)

    def report(self, folder: Path | None = None) -> Report:
        """The page's content; with a folder, links to the tasks' pages."""
        pages = {f"{task}: curve, table, recommendation": f"{task}/index.html" for task in self.tasks}
        return Report(
            title="How much where do these tasks need?",
            lead=f"{MODEL} (width {WIDTH:g}), trained and tested without spatial information from each depth on.",
            figures={"curve": self.plot()},
            charts=[self.chart()],
            tables=[Table("No spatial information after the first convolution (GAP+FC)", self.table())],
            notes=[*(f"{task}: {EXPECTED[task]}" for task in self.tasks), *self.notes],
            conclusion=self.conclusion,
            facts=self.provenance,
            pages=pages if folder else {},
        )


def verdict(what: NeedResult, where: NeedResult) -> str:
    """Whether the measurement gave the answers known in advance, by the ends of the 95 % intervals."""
    lost, left = _deepest(what)[1], _deepest(where)[0].accuracy
    intact = where.intact[0].accuracy
    to_chance = left.low >= CHANCE - NEAR and left.high <= CHANCE + NEAR
    held = lost.high <= COST and to_chance and intact.low >= LEARNED
    return (
        f"{'As expected' if held else 'NOT as expected'}: the collapse costs at most {100 * lost.high:.1f} points "
        f"where a bag of textures is enough ({_points(lost)}; allowed {100 * COST:.0f}); where the class is the "
        f"arrangement, accuracy falls from {_points(intact)} % to {_points(left)} % (chance is {100 * CHANCE:.1f} %), "
        f"each on {left.n} test pictures."
    )


def _points(e: Estimate) -> str:
    return f"{100 * e.mean:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"


def _collapsed(r: NeedResult) -> list[Point]:
    """The intact network's point and those of GAP+FC, by depth."""
    return sorted((p for p in r.records() if p.method in (INTACT, GAP_FC)), key=lambda p: p.depth_share)


def _deepest(r: NeedResult) -> tuple[Point, Estimate]:
    """The deepest collapse, and what it costs."""
    return max(((p, p.drop) for p in _collapsed(r) if p.drop), key=lambda pair: pair[0].depth_share)


def _row(task: str, r: NeedResult) -> dict[str, str]:
    p, drop = _deepest(r)
    return {
        "task": task,
        "collapsed from": p.site,
        "intact %": f"{100 * r.intact[0].accuracy.mean:.2f}",
        "collapsed %": f"{100 * p.accuracy.mean:.2f}",
        "drop": f"{100 * drop.mean:.2f}",
        "drop 95 %": f"[{100 * drop.low:.2f}, {100 * drop.high:.2f}]",
        "test pictures": str(p.accuracy.n),
    }
