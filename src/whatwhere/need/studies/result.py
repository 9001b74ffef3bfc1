"""What removing spatial information costs at every depth: the result of both protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from whatwhere.intervals import Estimate
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.need.studies.reference import REFERENCE_MODEL, reference_curve
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INTACT, GAP_FC, MEAN, TRUNCATED = "intact", "gap_fc", "mean", "truncate"
LABELS = {
    GAP_FC: "GAP+FC",
    MEAN: "spatial mean",
    INTACT: "intact",
    "pointwise": "1 x 1 convolutions",
    "pointwise-average": "1 x 1 convolutions after 3 x 3 averages",
    "pointwise-max": "1 x 1 convolutions after 3 x 3 maxima",
    TRUNCATED: "truncated",
    "per-channel-sample": "shuffle, per-channel, each picture its own",
    "shared-sample": "shuffle, shared, each picture its own",
    "merge-2": "means of 2 x 2",
    "merge-4": "means of 4 x 4",
    "prefix-mean": "prefix tokens, mean of the batch",
    "prefix-swap": "prefix tokens of other pictures",
    "embedding-zero": "position embedding zeroed",
    "embedding-mean": "position embedding, mean of all positions",
    "embedding-permute": "position embedding permuted",
}
PROTOCOLS = {
    "test-time": "A trained network is tested without spatial information from each site on, without retraining.",
    "train-and-test": "Each network is trained and tested without spatial information from its site on.",
}
ALONE = "A trained network is tested without spatial information {where}, without retraining{but}."
SHARE = "share of layers without spatial information, from the last (%)"
DEPTH = "share of layers from the site on (%)"  # along the axis where only some of them are without
POINTS, OLD = ("intact", "points"), "accuracy"  # of a result's points; what their score is called in result.json
COSTS = {
    "parameters": ("parameters", "{:,.0f}"),
    "flops": ("FLOPs per picture", "{:,.0f}"),
    "latency_ms": ("latency, ms per picture", "{:.3f}"),
}


@dataclass(frozen=True)
class Point:
    """One removal.

    Attributes:
        method: a removal of `temporary.REMOVALS` or of `removals.REMOVALS`.
        site: where it begins; "" for the intact network, "(input)" for what acts once, whatever the depth.
        depth_share: share of the convolutions from the site on, in [0, 1]; all of them are without spatial information
            but where `reach` is a number of sites.
        score: what was measured: accuracy in [0, 1], say; of which score it is, the result's `score` says.
        drop: what was lost against the intact network on the same pictures (or seeds), positive where the score got
            worse; None for the intact.
        group: of its curve, besides the method ("no augmentation").
        values: the score of each draw (test-time) or seed (train-and-test).
    """

    method: str
    site: str
    depth_share: float
    score: Estimate
    drop: Estimate | None = None
    group: str = ""
    values: tuple[float, ...] = ()

    @property
    def accuracy(self) -> Estimate:
        """The score, by the name that it had when accuracy was the only one; result.json has it still."""
        return self.score

    @property
    def label(self) -> str:
        """How a legend calls its curve."""
        name = LABELS.get(self.method, f"shuffle, {self.method}")
        return f"{name} ({self.group})" if self.group else name


@dataclass(frozen=True)
class Entry:
    """One field of the train-mode x test-mode matrix.

    Attributes:
        trained: the method in training.
        tested: the method in testing.
        depth_share: share of the convolutions that the shuffled mode acts on.
        accuracy: over seeds, in [0, 1].
    """

    trained: str
    tested: str
    depth_share: float
    accuracy: Estimate


@dataclass(frozen=True)
class Recommendation:
    """The deepest removal within a stated loss.

    Attributes:
        text: in one or two sentences.
        within: the loss allowed, in [0, 1].
        site: where to collapse; None when no removal is within the loss.
        before: parameters, flops, latency_ms of the intact network.
        after: the same of the collapsed one.
    """

    text: str
    within: float
    site: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NeedResult(Result):
    """What removing spatial information costs.

    Attributes:
        protocol: `test-time` or `train-and-test`.
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: of the network's input.
        settings: repeats, seeds, recipe, ...
        intact: the intact network's point, one for each group.
        points: every removal.
        matrix: train-mode x test-mode, where it was measured.
        recommendation: the deepest removal within the stated loss.
        notes: what the reader must know.
        commands: what makes the networks that were measured: a command, or lines of Python.
        provenance: versions, hardware, command, seconds.
        score: name, label, unit and direction of what was measured; empty: accuracy.
    """

    kind: ClassVar[str] = "dependency"

    protocol: str
    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    intact: tuple[Point, ...]
    points: tuple[Point, ...]
    matrix: tuple[Entry, ...] = ()
    recommendation: Recommendation | None = None
    notes: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    score: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> Score:
        """What was measured: how it is called and shown, and which way is better."""
        return Score(**self.score) if self.score else ACCURACY

    @property
    def reach(self) -> str | int:
        """How far a removal goes: "from" its site to the end, or a number of sites (1: only its own)."""
        return self.settings.get("reach", "from")

    @property
    def lead(self) -> str:
        """What was done, in a sentence."""
        if self.reach == "from":
            return PROTOCOLS[self.protocol]
        where = "at each site alone" if self.reach == 1 else f"at {self.reach} sites, from each one on"
        but = " (GAP+FC: from each site to the end)" if any(p.method == GAP_FC for p in self.points) else ""
        return ALONE.format(where=where, but=but)

    @property
    def conclusion(self) -> str:
        """The recommendation, if there is one."""
        return self.recommendation.text if self.recommendation else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in result.json; without what is empty in the first version, whose points have accuracies."""
        plain = super().to_dict()
        points = {name: [self.named(p) for p in plain[name]] for name in POINTS}
        empty = {name for name in ("commands", "score") if not plain[name]}
        return {k: v for k, v in {**plain, **points}.items() if k not in empty}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """From the plain values of result.json; a point's score is called its accuracy where that is what it is.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        points = {name: [{"score": p.get(OLD), **p} for p in plain[name]] for name in POINTS if name in plain}
        return super().from_dict({**plain, **points})

    def named(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a point, the score by its name if it is accuracy."""
        return {OLD if name == "score" and not self.score else name: value for name, value in point.items()}

    def to_frame(self) -> pd.DataFrame:
        """The points as numbers: `accuracy.mean`, or `score.mean` of another score, `drop.low`, ..."""
        frame = super().to_frame()
        return frame if self.score else frame.rename(columns=lambda c: re.sub(r"^score\.", f"{OLD}.", c))

    def records(self) -> Iterable[Point]:
        """The intact network's points, then every removal."""
        return (*self.intact, *self.points)

    def table(self) -> list[dict[str, Any]]:
        """One row for each point, shares and their drops in per cent."""
        share = "share %" if self.reach == "from" else "from the site on %"
        return [_row(p, self.measured, share) for p in self.records()]

    def plot(self) -> Figure:
        """The curve: the score over the share of convolutions without spatial information."""
        title = f"{self.network} on {self.data.get('name', 'data')}"
        score, x = self.measured, self._across
        return curve_figure(
            self.lines, self._levels, self._references(), title=title, x=x, y=score.axis, unit=score.unit
        )

    def chart(self, name: str = "curve", title: str = "") -> Chart:
        """The same, as the page draws it.

        Args:
            name: of the chart.
            title: above it; the score's if not given.
        """
        lines, references = self.lines, self._references()
        title = title or f"{self.measured.title} at every depth"
        controls = [line.label for line in references]
        return Chart(name, title, self._across, self.measured.axis, [*lines, *references], self._levels, controls)

    @property
    def lines(self) -> list[Line]:
        """A curve for each removal."""
        return [self._line(label) for label in dict.fromkeys(p.label for p in self.points)]

    @property
    def _levels(self) -> dict[str, float]:
        scale = self.measured.scale
        return {f"intact{f' ({p.group})' if p.group else ''}": scale * p.score.mean for p in self.intact}

    @property
    def _across(self) -> str:
        return SHARE if self.reach == "from" else DEPTH

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        measured = {"data": self.data, "preprocessing": self.preprocessing, "settings": self.settings}
        return Report(
            title=f"How much where does {self.network} need?",
            lead=self.lead,
            figures={"curve": self.plot()},
            charts=[self.chart()],
            tables=[Table(f"{self.measured.title} at every depth", self.table()), *self._matrix_table()],
            notes=self.notes,
            conclusion=self.conclusion,
            conclusion_table=_before_after(self.recommendation),
            facts={**measured, **self.provenance},
            commands=self.commands,
        )

    def _line(self, label: str) -> Line:
        points = sorted((p for p in self.points if p.label == label), key=lambda p: p.depth_share)
        group = [p for p in self.intact if p.group == points[0].group] if self.protocol == "train-and-test" else []
        return line_of(label, [*group, *points], self.measured)

    def _references(self) -> list[Line]:
        on_cifar100 = self.data.get("classes") == 100 and self.measured is ACCURACY  # what the paper shows
        if not self.network.startswith(REFERENCE_MODEL) or not on_cifar100 or self.protocol != "train-and-test":
            return []
        plain = any(p.group for p in self.points)
        return [reference_curve(), *([reference_curve("plain")] if plain else [])]

    def _matrix_table(self) -> list[Table]:
        rows = [
            {
                "trained": e.trained,
                "tested": e.tested,
                "convolutions": f"last {100 * e.depth_share:.0f} %",
                **_estimate(e.accuracy, self.measured.heading, self.measured),
            }
            for e in self.matrix
        ]
        return [Table("Trained and tested with and without shuffling", rows)] if rows else []


def title_of(p: Point) -> str:
    """How a command calls what it makes."""
    return f"{p.label} from {p.site} on (the last {100 * p.depth_share:.0f} %)"


def line_of(label: str, points: Sequence[Point], score: Score = ACCURACY) -> Line:
    """A score over the share of convolutions without spatial information, with its intervals."""
    return Line(
        label=label,
        x=tuple(100 * p.depth_share for p in points),
        y=tuple(score.scale * p.score.mean for p in points),
        low=tuple(score.scale * p.score.low for p in points),
        high=tuple(score.scale * p.score.high for p in points),
    )


def _row(p: Point, score: Score, share: str) -> dict[str, Any]:
    row = {"method": p.label, "site": p.site or "-", share: f"{100 * p.depth_share:.0f}"}
    worse = "drop" if score.higher_is_better else "rise"
    return {
        **row,
        **_estimate(p.score, score.heading, score),
        **_estimate(p.drop, worse, score),
        **_basis(p.score, score),
    }


def _estimate(e: Estimate | None, name: str, score: Score) -> dict[str, str]:
    if e is None:
        return {name: "", f"{name} 95 %": ""}
    return {name: score.shown(e.mean), f"{name} 95 %": f"[{score.shown(e.low)}, {score.shown(e.high)}]"}


def _basis(e: Estimate, score: Score) -> dict[str, str]:
    return {"95 % covers": e.covers, "spread": score.shown(e.spread), "repeats": str(e.repeats), "pictures": f"{e.n}"}


def _before_after(advice: Recommendation | None) -> Sequence[Mapping[str, str]]:
    if not advice or not advice.before or not advice.after:
        return []
    return [
        {
            "measure": label,
            "intact": form.format(advice.before[name]),
            "collapsed": form.format(advice.after[name]),
            "ratio": f"{advice.after[name] / advice.before[name]:.2f}",
        }
        for name, (label, form) in COSTS.items()
    ]
