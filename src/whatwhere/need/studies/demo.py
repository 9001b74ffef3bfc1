"""The demo: the whole measurement on tasks whose answer is known, on pictures that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whatwhere.files import write_json
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table, write_report
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.studies.dependency.result import DependencyResult, Point
from whatwhere.studies.dependency.study import dependency_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL, WIDTH = "cifar/vgg11", 0.25
SHARES = (0.62, 0.88)  # of VGG-11's 8 convolutions; 88 % is everything after the first
TASKS = {"known/what": "what", "known/where": "where", "digits": "digits"}
EXPECTED = {
    "what": "The class is which textures there are, so a bag of them is enough: the collapse must cost nothing.",
    "where": "Always the same textures, the class is their arrangement: the collapse must fall to chance (1 in 12).",
    "digits": "Real scans of handwritten digits, to see where they stand between the two.",
}


@dataclass(frozen=True)
class DemoResult:
    """The three studies of the demo, by task."""

    tasks: Mapping[str, DependencyResult]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        return {"kind": "demo", "schema_version": 1, "tasks": {k: r.to_dict() for k, r in self.tasks.items()}}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> DemoResult:
        """From the plain values of `result.json`."""
        return DemoResult({k: DependencyResult.from_dict(r) for k, r in plain["tasks"].items()})

    def save(self, folder: Path | str) -> Path:
        """Write result.json, table.csv, the figure and the page; returns the page."""
        write_json(Path(folder) / "result.json", self.to_dict())
        return write_report(Path(folder), self.report())

    def plot(self) -> Figure:
        """GAP+FC on the three tasks, in one figure."""
        lines = [_line(name, r) for name, r in self.tasks.items()]
        return curve_figure(lines, {"chance of what and where": 100 / 12}, title="GAP+FC, trained so, on known answers")

    def report(self) -> Report:
        """The page's content."""
        rows = [_row(name, r) for name, r in self.tasks.items()]
        return Report(
            title="How much where do these tasks need?",
            lead=f"{MODEL} (width {WIDTH:g}), trained and tested without spatial information from each depth on.",
            figures={"curve": self.plot()},
            tables=[Table("Everything after the first convolution without spatial information (GAP+FC)", rows)],
            notes=[f"{name}: {EXPECTED[name]}" for name in self.tasks],
            conclusion=verdict(self.tasks),
            facts={"command": command(), "versions": versions(), "hardware": hardware()},
            pages={f"{name}: curve, table, recommendation": f"{name}/index.html" for name in self.tasks},
        )  # fmt: skip


def demo(out: Path, *, within: float = 0.01, quiet: bool = False) -> Path:
    """Train small networks on the known-answer tasks and the digits with and without space, measure, write the page.

    Args:
        out: folder; run again to go on.
        within: loss that the recommendations may cost.
        quiet: print no progress.

    Returns:
        The page.
    """
    tasks = {
        name: dependency_study(
            MODEL, source, out=out / name, recipe="demo", width=WIDTH, shares=SHARES, seeds=(0,), matrix=(SHARES[0],),
            within=within, quiet=quiet,
        )
        for source, name in TASKS.items()
    }  # fmt: skip
    return DemoResult(tasks).save(out)


def after_the_first(r: DependencyResult) -> Point:
    """The deepest collapse of a study."""
    return max((p for p in r.points if p.method == "gap_fc"), key=lambda p: p.depth_share)


def verdict(tasks: Mapping[str, DependencyResult]) -> str:
    """Whether the instrument gave the answers known in advance."""
    what, where = after_the_first(tasks["what"]), after_the_first(tasks["where"])
    intact = tasks["where"].intact[0].accuracy.mean
    assert what.drop
    held = what.drop.mean <= 0.03 and abs(where.accuracy.mean - 1 / 12) <= 0.05 and intact >= 0.95
    return (
        f"{'As it must be' if held else 'NOT as it must be'}: the collapse costs {100 * what.drop.mean:.1f} points "
        f"where a bag of textures is enough, and leaves {100 * where.accuracy.mean:.1f} % (chance is 8.3 %) of "
        f"{100 * intact:.1f} % where the class is the arrangement."
    )


def _line(name: str, r: DependencyResult) -> Line:
    points = sorted(
        (p for p in (*r.intact, *r.points) if p.method in ("intact", "gap_fc")), key=lambda p: p.depth_share
    )
    ends = [[100 * getattr(p.accuracy, end) for p in points] for end in ("mean", "low", "high")]
    y, low, high = map(tuple, ends)
    return Line(name, tuple(100 * p.depth_share for p in points), y, low, high)


def _row(name: str, r: DependencyResult) -> dict[str, str]:
    p = after_the_first(r)
    assert p.drop
    return {
        "task": name, "collapsed from": p.site, "intact %": f"{100 * r.intact[0].accuracy.mean:.2f}",
        "collapsed %": f"{100 * p.accuracy.mean:.2f}", "drop": f"{100 * p.drop.mean:.2f}",
        "drop 95 %": f"[{100 * p.drop.low:.2f}, {100 * p.drop.high:.2f}]", "test pictures": str(p.accuracy.n),
    }  # fmt: skip
