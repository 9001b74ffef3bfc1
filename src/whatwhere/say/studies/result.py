"""What a study of bottlenecks found, with its tables, figures and words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.report.page import Report, Table, write_report
from whatwhere.studies.bottleneck import pictures
from whatwhere.studies.bottleneck.words import conclusion, failure_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval over groups of pictures."""

    value: float
    low: float
    high: float
    groups: int

    def percent(self, sign: bool = False) -> str:
        """For a table: value and interval, in per cent."""
        form = "+.2f" if sign else ".2f"
        return f"{100 * self.value:{form}} [{100 * self.low:{form}}, {100 * self.high:{form}}]"


@dataclass(frozen=True)
class SayRow:
    """One kind at one site.

    Attributes:
        site: where.
        kind: of bottleneck; see `kinds.KINDS`.
        channels: what everything behind the site rests on.
        names: of the concepts; numbers for unnamed ones.
        miou: mean intersection over union, pooled over the test pictures; of several seeds from their mean confusions.
        accuracy: share of labelled pixels that are right.
        change: of the mIoU from the intact network's, paired.
        seeds: mIoU of each.
        iou: of each class; None for one that neither occurs nor is said.
        extras: of the first seed: confidence, inspection, failures, leakage, where they were measured.
    """

    site: str
    kind: str
    channels: int
    names: tuple[str, ...]
    miou: Interval
    accuracy: Interval
    change: Interval | None
    seeds: tuple[float, ...]
    iou: tuple[float | None, ...]
    extras: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> SayRow:
        """From plain values."""
        given = {k: Interval(**plain[k]) if plain[k] else None for k in ("miou", "accuracy", "change")}
        tuples = {k: tuple(plain[k]) for k in ("names", "seeds", "iou")}
        return cls(**{**plain, **given, **tuples})


@dataclass(frozen=True)
class BottleneckResult:
    """What was measured, and all that it rests on.

    Attributes:
        rows: by site and kind.
        classes: of the task.
        data: the scenes: names, sizes, fingerprints.
        settings: everything else that decides the numbers.
        ceiling: mIoU that a table from the true concepts of a place to its commonest class reaches.
        concepts: how often each occurs, and what it tells of the class.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "bottleneck"

    rows: tuple[SayRow, ...]
    classes: tuple[str, ...]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    ceiling: Interval | None = None
    concepts: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def row(self, site: str, kind: str) -> SayRow | None:
        """The row of a site and kind, if it was run."""
        return next((r for r in self.rows if (r.site, r.kind) == (site, kind)), None)

    @property
    def sites(self) -> tuple[str, ...]:
        """In the order they were asked for."""
        return tuple(dict.fromkeys(r.site for r in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> BottleneckResult:
        """From the plain values of `result.json`.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        if plain.get("kind") != cls.kind or plain.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"this result has kind {plain.get('kind')!r}, schema version {plain.get('schema_version')!r}; this "
                f"version of whatwhere reads kind {cls.kind!r}, version {SCHEMA_VERSION}."
            )
        given = {k: v for k, v in plain.items() if k != "kind"}
        rows = tuple(SayRow.of(r) for r in plain["rows"])
        top = Interval(**plain["ceiling"]) if plain["ceiling"] else None
        return cls(**{**given, "rows": rows, "ceiling": top, "classes": tuple(plain["classes"]),
                      "notes": tuple(plain["notes"])})  # fmt: skip

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> BottleneckResult:
        """Read `result.json` of a folder."""
        return cls.from_dict(read_json(Path(folder) / "result.json"))

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return conclusion(self)

    def table(self) -> list[dict[str, Any]]:
        """A line for each site and kind: what is lost."""
        return [
            {
                "site": r.site, "kind": r.kind, "channels": r.channels, "mIoU % [95 %]": r.miou.percent(),
                "change from intact": r.change.percent(sign=True) if r.change else "",
                "pixel accuracy %": r.accuracy.percent(),
                "AUiC": f"{r.extras['inspection']['auic']:.3f}" if "inspection" in r.extras else "",
                "seeds": len(r.seeds),
            }
            for r in self.rows
        ]  # fmt: skip

    def confidence_table(self) -> list[dict[str, Any]]:
        """A line for each site, kind and confidence."""
        return [line for r in self.rows if "confidence" in r.extras for line in _confidence_lines(r)]

    def failures(self, site: str | None = None) -> list[dict[str, Any]]:
        """The ways of being wrong of the supervised bottleneck, with their reasons."""
        row = self.row(site or self.sites[0], "ssb")
        return failure_lines(row.extras["failures"], self.classes, row.names) if row and row.extras else []

    def plot(self) -> Figure:
        """MIoU of every site and kind."""
        return pictures.lossless_figure(self)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, table.csv, the figures and index.html; returns the page."""
        write_json(Path(folder) / "result.json", self.to_dict())
        return write_report(Path(folder), self.report(Path(folder)))

    def report(self, folder: Path | None = None) -> Report:
        """The page's content; with a folder, it links to the pages that `explain` and `intervene` wrote there."""
        failures = [Table(f"Failures at {s}: wrong pixels against right ones", self.failures(s)) for s in self.sites]
        pages = {"explain": "Examples, concept maps and reasons", "intervene": "An intervention"}
        there = {f"{n}/index.html": t for n, t in pages.items() if folder and (folder / n / "index.html").exists()}
        return Report(
            title="Can it say what is where?",
            lead=f"{self.settings['network']['name']} on {self.data['name']}: everything behind a site rests on "
            "concept maps alone.",
            figures=pictures.figures(self),
            tables=[
                Table("What a bottleneck costs", self.table()),
                Table("How well a confidence tells right from wrong", self.confidence_table()),
                *(t for t in failures if t.rows),
                *self._leakage_tables(),
                Table("Concepts in the training pictures", [_concept_line(c) for c in self.concepts]),
            ],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={"data": self.data, "settings": self.settings, **self.provenance},
            pages={label: page for page, label in there.items()},
        )

    def _leakage_tables(self) -> list[Table]:
        lines = [_leakage_line(r) for r in self.rows if "leakage" in r.extras]
        drops = [
            {"site": r.site, "concept dropped": name, "change of mIoU": f"{100 * change:+.2f}"}
            for r in self.rows if "leakage" in r.extras
            for name, change in sorted(r.extras["leakage"]["dropped"].items(), key=lambda kv: kv[1])
        ]  # fmt: skip
        return [Table("Overwritten concept maps (mIoU %, nothing trained again)", lines),
                Table("Each concept dropped in turn", drops)] if lines else []  # fmt: skip


def _confidence_lines(row: SayRow) -> list[dict[str, Any]]:
    lines = []
    for name, m in row.extras["confidence"]["measures"].items():
        low, high = m["coverage interval"]
        lines.append({
            "site": row.site, "kind": row.kind, "confidence": name,
            "AUROC [95 %]": _auroc(*m["auroc"]),
            "AURC": f"{m['aurc']:.4f}", "ECE": f"{m['ece']:.3f}", "Brier": f"{m['brier']:.3f}",
            "coverage at 99 % [95 %]": f"{100 * m['coverage']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
            "accuracy there": f"{100 * m['accuracy']:.2f} %" if m["accuracy"] is not None else "nothing answered",
        })  # fmt: skip
    return lines


def _auroc(value: float | None, low: float | None, high: float | None) -> str:
    return "all right, or all wrong" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _leakage_line(row: SayRow) -> dict[str, Any]:
    seen = row.extras["leakage"]
    return {
        "site": row.site, "as they are": f"{100 * row.miou.value:.2f}",
        **{name: f"{100 * seen[name]:.2f}" for name in ("binarised", "permuted", "oracle")},
    }  # fmt: skip


def _concept_line(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "concept": c["concept"],
        "share of labelled pixels": "" if c["share"] is None else f"{100 * c['share']:.2f} %",
        "pictures": c["pictures"],
        "bits about the class": f"{c['bits about the class']:.3f}",
        "coincides with": c["copy of"] or "",
    }
