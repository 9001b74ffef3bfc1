"""The result of either protocol: what removing spatial information costs at every depth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.intervals import Estimate
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table, write_report
from whatwhere.studies.dependency.reference import REFERENCE_MODEL, reference_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
PROTOCOLS = {
    "test-time": "A trained network; spatial information is removed when it is tested, from each site on.",
    "train-and-test": "Each network is trained and tested without spatial information from its site on.",
}


@dataclass(frozen=True)
class Point:
    """One removal.

    Attributes:
        method: a mode of `shuffle`, `mean`, or `gap_fc`.
        site: where it begins; "" for the intact network.
        depth_share: share of the convolutions without spatial information, in [0, 1].
        accuracy: in [0, 1].
        drop: what was lost against the intact network on the same pictures (or seeds), in [0, 1]; None for the intact.
        group: which curve it belongs to besides its method ("no augmentation", say).
        values: the accuracy of each draw (test-time) or seed (train-and-test).
    """

    method: str
    site: str
    depth_share: float
    accuracy: Estimate
    drop: Estimate | None = None
    group: str = ""
    values: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        """How a legend calls its curve."""
        name = LABELS.get(self.method, f"shuffle, {self.method}")
        return f"{name} ({self.group})" if self.group else name


LABELS = {"gap_fc": "GAP+FC", "mean": "spatial mean", "intact": "intact"}


@dataclass(frozen=True)
class Entry:
    """One field of the train-mode x test-mode matrix: accuracy over seeds, in [0, 1]."""

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
class DependencyResult:
    """What was measured, and all that it rests on.

    Attributes:
        protocol: `test-time` or `train-and-test`.
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: what the network's input looked like.
        settings: repeats, seeds, recipe, …
        intact: the intact network's point (or points, one a group).
        points: every removal.
        matrix: train-mode x test-mode, where it was measured.
        recommendation: the deepest removal within the stated loss.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

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
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        return {"kind": "dependency", **asdict(self)}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> DependencyResult:
        """From the plain values of `result.json`.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        if plain.get("kind") != "dependency" or plain.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"this result has kind {plain.get('kind')!r}, schema version {plain.get('schema_version')!r}; this "
                f"version of whatwhere reads kind 'dependency', version {SCHEMA_VERSION}."
            )
        fields = {k: v for k, v in plain.items() if k != "kind"}
        for name, read in {"intact": _point, "points": _point, "matrix": _entry}.items():
            fields[name] = tuple(read(p) for p in plain[name])
        advice = plain["recommendation"]
        fields["recommendation"] = Recommendation(**advice) if advice else None
        fields["notes"] = tuple(plain["notes"])
        return DependencyResult(**fields)

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> DependencyResult:
        """Read `result.json` of a folder."""
        return DependencyResult.from_dict(read_json(Path(folder) / "result.json"))

    def table(self) -> list[dict[str, Any]]:
        """One row for each point, accuracies and drops in per cent."""
        return [_row(p) for p in (*self.intact, *self.points)]

    def plot(self) -> Figure:
        """The curve: accuracy over the share of convolutions without spatial information."""
        lines = [self._line(label) for label in dict.fromkeys(p.label for p in self.points)]
        levels = {f"intact{f' ({p.group})' if p.group else ''}": 100 * p.accuracy.mean for p in self.intact}
        title = f"{self.network} on {self.data.get('name', 'data')}"
        return curve_figure(lines, levels, self._references(), title=title)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, table.csv, the figures and index.html; returns the page."""
        write_json(Path(folder) / "result.json", self.to_dict())
        return write_report(Path(folder), self.report())

    def report(self) -> Report:
        """The page's content."""
        return Report(
            title=f"How much where does {self.network} need?",
            lead=PROTOCOLS[self.protocol],
            figures={"curve": self.plot()},
            tables=[Table("Accuracy at every depth", self.table()), *self._matrix_table()],
            notes=self.notes,
            conclusion=self.recommendation.text if self.recommendation else "",
            conclusion_table=_before_after(self.recommendation),
            facts={
                "data": self.data, "preprocessing": self.preprocessing, "settings": self.settings, **self.provenance,
            },
        )  # fmt: skip

    def _line(self, label: str) -> Line:
        points = sorted((p for p in self.points if p.label == label), key=lambda p: p.depth_share)
        group = [p for p in self.intact if p.group == points[0].group] if self.protocol == "train-and-test" else []
        every = [*group, *points]
        return Line(
            label=label,
            x=tuple(100 * p.depth_share for p in every),
            y=tuple(100 * p.accuracy.mean for p in every),
            low=tuple(100 * p.accuracy.low for p in every),
            high=tuple(100 * p.accuracy.high for p in every),
        )

    def _references(self) -> list[Line]:
        on_cifar100 = self.data.get("classes") == 100
        if not self.network.startswith(REFERENCE_MODEL) or not on_cifar100 or self.protocol != "train-and-test":
            return []
        plain = any(p.group for p in self.points)
        return [reference_curve(), *([reference_curve("plain")] if plain else [])]

    def _matrix_table(self) -> list[Table]:
        rows = [
            {
                "trained": e.trained, "tested": e.tested, "convolutions": f"last {100 * e.depth_share:.0f} %",
                **_estimate(e.accuracy, "accuracy %"),
            }
            for e in self.matrix
        ]  # fmt: skip
        return [Table("Trained and tested with and without shuffling", rows)] if rows else []


def _point(plain: Mapping[str, Any]) -> Point:
    drop = Estimate(**plain["drop"]) if plain["drop"] else None
    values = tuple(plain["values"])
    return Point(**{**plain, "accuracy": Estimate(**plain["accuracy"]), "drop": drop, "values": values})


def _entry(plain: Mapping[str, Any]) -> Entry:
    return Entry(**{**plain, "accuracy": Estimate(**plain["accuracy"])})


def _row(p: Point) -> dict[str, Any]:
    row = {"method": p.label, "site": p.site or "-", "share %": f"{100 * p.depth_share:.0f}"}
    return {**row, **_estimate(p.accuracy, "accuracy %"), **_estimate(p.drop, "drop"), **_basis(p.accuracy)}


def _estimate(e: Estimate | None, name: str) -> dict[str, str]:
    if e is None:
        return {name: "", f"{name} 95 %": ""}
    return {name: f"{100 * e.mean:.2f}", f"{name} 95 %": f"[{100 * e.low:.2f}, {100 * e.high:.2f}]"}


def _basis(e: Estimate) -> dict[str, str]:
    return {"spread": f"{100 * e.spread:.2f}", "repeats": str(e.repeats), "pictures": f"{e.n}"}


def _before_after(advice: Recommendation | None) -> Sequence[Mapping[str, str]]:
    if not advice or not advice.before or not advice.after:
        return []
    names = {"parameters": "{:,.0f}", "flops": "{:,.0f}", "latency_ms": "{:.3f}"}
    return [
        {
            "": {"flops": "FLOPs a picture", "latency_ms": "latency, ms a picture"}.get(name, name),
            "intact": form.format(advice.before[name]), "collapsed": form.format(advice.after[name]),
            "ratio": f"{advice.after[name] / advice.before[name]:.2f}",
        }
        for name, form in names.items()
    ]  # fmt: skip
