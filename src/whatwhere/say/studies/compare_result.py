"""What the comparison of bottlenecks found, with its tables, figures and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.errors import InputError, unknown
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.page import Report, Table
from whatwhere.say.studies import pictures
from whatwhere.say.studies.say_row import Interval, SayRow, row_of, sites_of
from whatwhere.say.studies.words import CONTROLS, conclusion, ends, failure_lines, on_broden

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGES = {"explain": "Examples, concept maps and reasons", "intervene": "An intervention"}
INSPECTED = "How well channels line up with concepts, beside noise of the same width and a channel that is always on"
ALTERED = ("binarised", "permuted", "oracle")  # concept maps


@dataclass(frozen=True)
class SayResult(Result):
    """What bottlenecks of concepts cost and give, and what these numbers rest on.

    Attributes:
        rows: by site and kind.
        classes: of the task.
        data: the scenes: names, sizes, fingerprints.
        settings: everything else that decides the numbers.
        ceiling: mIoU that a table from the true concepts of a place to its commonest class reaches.
        concepts: how often each occurs, and its mutual information with the class.
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
        """The row of a site and kind, if it was measured."""
        return row_of(self.rows, site, kind)

    @property
    def sites(self) -> tuple[str, ...]:
        """In the order they were asked for."""
        return sites_of(self.rows)

    @property
    def conclusion(self) -> str:
        """The answer in words."""
        return conclusion(self.rows, self.ceiling, self.data["sizes"]["test"])

    def records(self) -> Iterable[SayRow]:
        """The rows."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """A line for each site and kind: the loss, and the inspectability beside that of noise."""
        auic = "AUiC (Broden+)" if any(map(on_broden, self.rows)) else "AUiC"
        return [_cost_line(r, auic) for r in self.rows]

    def inspection_table(self) -> list[dict[str, Any]]:
        """A line for each site and kind: what its AUiC is worth."""
        return [_inspection_line(r) for r in self.rows if "noise" in r.extras.get("inspection", {})]

    def confidence_table(self) -> list[dict[str, Any]]:
        """A line for each site, kind and confidence."""
        return [line for r in self.rows if "confidence" in r.extras for line in _confidence_lines(r)]

    def failures(self, site: str | None = None) -> list[dict[str, Any]]:
        """The commonest confusions of the supervised bottleneck (`ssb`), with their reasons; none without one.

        Args:
            site: the first one if not given.

        Raises:
            InputError: for a site without rows, or a result that has none at all.
        """
        if not self.rows:
            raise InputError("this result has no rows, so that nothing is known of failures; run the comparison first.")
        if site not in (None, *self.sites):
            raise unknown("site", site, self.sites)
        row = self.row(site or self.sites[0], "ssb")
        return failure_lines(row.extras.get("failures", ()), self.classes, row.names) if row else []

    def plot(self) -> Figure:
        """MIoU of every site and kind."""
        return pictures.lossless_figure(self.rows, self.ceiling)

    def report(self, folder: Path | None = None) -> Report:
        """The page's content; with a folder, it links to the pages that `explain` and `intervene` wrote there."""
        failures = [Table(f"Failures at {s}: wrong pixels against right ones", self.failures(s)) for s in self.sites]
        where = "Broden+'s training pictures" if self.settings["concepts"].get("broden") else "the training pictures"
        return Report(
            title="Can it say what is where?",
            lead=f"{self.settings['network']['name']} on {self.data['name']}: everything behind a site rests on "
            "concept maps alone.",
            figures=pictures.figures(self.rows, self.ceiling),
            charts=pictures.charts(self.rows, self.ceiling),
            tables=[
                Table("What a bottleneck costs", self.table()),
                *(t for t in [Table(INSPECTED, self.inspection_table())] if t.rows),
                Table("How well a confidence separates right from wrong", self.confidence_table()),
                *(t for t in failures if t.rows),
                *self._leakage_tables(),
                Table(f"Concepts in {where}", [_concept_line(c) for c in self.concepts]),
            ],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={"data": self.data, "settings": self.settings, **self.provenance},
            pages=_pages(folder),
        )

    def _leakage_tables(self) -> list[Table]:
        rows = [r for r in self.rows if "leakage" in r.extras]
        drops = [
            {"site": r.site, "concept dropped": name, "change of mIoU": f"{100 * change:+.2f}"}
            for r in rows
            for name, change in sorted(r.extras["leakage"]["dropped"].items(), key=lambda kv: kv[1])
        ]
        if not rows:
            return []
        return [
            Table("Overwritten concept maps (mIoU %, nothing trained again)", [_leakage_line(r) for r in rows]),
            Table("Each concept dropped in turn", drops),
        ]


def _pages(folder: Path | None) -> dict[str, str]:
    """By label, the pages that were written into a result's folder."""
    there = {n: t for n, t in PAGES.items() if folder and (folder / n / "index.html").exists()}
    return {label: f"{name}/index.html" for name, label in there.items()}


def _cost_line(row: SayRow, auic: str) -> dict[str, Any]:
    return {
        "site": row.site,
        "kind": row.kind,
        "channels": row.channels,
        "mIoU % [95 %]": row.miou.percent(),
        "change from intact": row.change.percent(sign=True) if row.change else "",
        **{f"from {c}": row.against[c].percent(sign=True) if c in row.against else "" for c in CONTROLS},
        "pixel accuracy %": row.accuracy.percent(),
        **_auic(row, auic),
        "95 % covers": row.miou.covers,
        "seeds": len(row.seeds),
    }


def _auic(row: SayRow, title: str) -> dict[str, str]:
    """An AUiC, and what it must be compared with."""
    seen = row.extras.get("inspection", {})
    noise, one = (f"{seen[k]['auic']:.3f}" if k in seen else "" for k in ("noise", "commonest"))
    return {
        title: f"{seen['auic']:.3f}{ends(seen.get('interval', (None, None)))}" if seen else "",
        f"{title} of noise": noise,
        f"{title} always on": one,
    }


def _inspection_line(row: SayRow) -> dict[str, Any]:
    seen = row.extras["inspection"]
    noise, own = seen["noise"], seen.get("named")
    return {
        "site": row.site,
        "kind": row.kind,
        "AUiC [95 %]": f"{seen['auic']:.3f}{ends(seen['interval'])}",
        "above noise": _signed(noise["above"]),
        "draws of noise": f"{len(noise['draws'])}: {min(noise['draws']):.3f} to {max(noise['draws']):.3f}",
        "above always on": _signed(seen["commonest"]["above"]),
        "above intact": _signed(seen["against"]["intact"]) if "intact" in seen["against"] else "",
        "above learned": _signed(seen["against"]["learned"]) if "learned" in seen["against"] else "",
        "with its own concept": f"{own['iou'][0]:.3f}{ends(own['iou'][1:])}" if own else "",
        "that always on": f"{own['always on']:.3f}" if own else "",
    }


def _signed(difference: Sequence[float | None]) -> str:
    value, low, high = difference
    return f"{value:+.3f}" + ("" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]")


def _confidence_lines(row: SayRow) -> list[dict[str, Any]]:
    lines = []
    for name, m in row.extras["confidence"]["measures"].items():
        low, high = m["coverage interval"]
        lines.append(
            {
                "site": row.site,
                "kind": row.kind,
                "confidence": name,
                "AUROC [95 %]": _auroc(*m["auroc"]),
                "AURC": f"{m['aurc']:.4f}",
                "ECE": f"{m['ece']:.3f}",
                "Brier": f"{m['brier']:.3f}",
                "coverage at 99 % [95 %]": f"{100 * m['coverage']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
                "accuracy there": f"{100 * m['accuracy']:.2f} %" if m["accuracy"] is not None else "nothing answered",
            }
        )
    return lines


def _auroc(value: float | None, low: float | None, high: float | None) -> str:
    return "all right, or all wrong" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _leakage_line(row: SayRow) -> dict[str, Any]:
    seen = row.extras["leakage"]
    altered = {name: f"{100 * seen[name]:.2f}" for name in ALTERED if name in seen}
    return {"site": row.site, "as they are": f"{100 * row.miou.value:.2f}", **altered}


def _concept_line(c: Mapping[str, Any]) -> dict[str, Any]:
    """Concepts that are labelled on other pictures than the classes have no information about the class."""
    line = {
        "concept": c["concept"],
        "share of labelled pixels": "" if c["share"] is None else f"{100 * c['share']:.2f} %",
        "pictures": c["pictures"],
    }
    if "bits about the class" not in c:
        return line
    return {**line, "bits about the class": f"{c['bits about the class']:.3f}", "coincides with": c["copy of"] or ""}
