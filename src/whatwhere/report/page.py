"""One HTML page with everything in it: text, tables, figures as inline images; nothing is fetched."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from whatwhere.files import refuse_foreign, write_text
from whatwhere.report.charts import Chart, Strip, as_script
from whatwhere.report.figures import KINDS, rendered, save_figure
from whatwhere.report.gallery import Gallery, fitting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In every page's head; the second one is of the first version's.
MARKS = ('<meta name="generator" content="whatwhere">', ":root { color-scheme: light; --ink: #1b1f24; --soft: #57606a;")

LARGEST = 1_950_000  # bytes of a page: what goes by mail, and opens at once


@dataclass(frozen=True)
class Table:
    """Rows of equal columns, values as they are to be printed."""

    title: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Report:
    """What a page shows, the answer first.

    Attributes:
        title: the question.
        lead: one sentence on what was done.
        figures: by file name.
        tables: the first is also written as `table.csv`.
        notes: what the reader must know.
        conclusion: what follows from it; stands right below the lead.
        conclusion_table: its numbers, before and after.
        facts: nested plain values: data, settings, versions, hardware.
        pages: other pages to link to, by label.
        commands: what makes that which was measured, to be copied, by label.
        commands_title: above these.
        verdict: the conclusion sentence by sentence, where it has several.
        charts: what the page draws itself; with any of them its tables are folded, and can be sorted.
        galleries: small pictures, below the charts; as many as a page of `LARGEST` bytes has room for.
    """

    title: str
    lead: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    conclusion: str = ""
    conclusion_table: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    commands_title: str = "Commands that make these networks"
    verdict: Sequence[str] = ()
    charts: Sequence[Chart | Strip] = ()
    galleries: Sequence[Gallery] = ()


def write_report(folder: Path, report: Report, *, overwrite: bool = False) -> Path:
    """Write table.csv, the figures (SVG and PNG) and index.html; each file is whole or not there.

    Args:
        folder: made if it is not there; in one of a result, or with a page of ours, what belongs to it is replaced.
        report: the content.
        overwrite: replace other files of these names as well.

    Returns:
        The page.

    Raises:
        InputError: if there are such files.
    """
    page = folder / "index.html"
    ours = _is_page(page) or (folder / "result.json").is_file()  # `Result.save` has looked at that
    refuse_foreign(folder, files_of(folder, report), ours=ours, overwrite=overwrite)
    for name, figure in report.figures.items():
        save_figure(figure, folder, name)
    if report.tables:
        write_text(folder / "table.csv", as_csv(report.tables[0].rows))
    write_text(page, as_html(report))
    return page


def files_of(folder: Path, report: Report) -> list[Path]:
    """What `write_report` writes."""
    names = [f"{name}.{kind}" for name in report.figures for kind in KINDS]
    return [folder / name for name in (*names, *(["table.csv"] if report.tables else []), "index.html")]


def _is_page(file: Path) -> bool:
    """Whether a page is of this package's."""
    return file.is_file() and any(mark in file.read_text(encoding="utf-8", errors="replace") for mark in MARKS)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as comma-separated values with a head line."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_html(report: Report) -> str:
    """The page; every value is escaped."""
    loader = jinja2.PackageLoader("whatwhere", "report")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["wordy"] = wordy
    drawn = {shown.name for shown in (*report.charts, *report.galleries)}
    images = {name: _inline(figure) for name, figure in report.figures.items() if name not in drawn}
    facts, charts = flattened(report.facts), as_script(report.charts)
    template = environment.get_template("page.html")
    values = {"report": report, "images": images, "facts": facts, "charts": charts}
    bare = template.render(values, galleries=[])
    room = LARGEST - len(bare.encode())
    return template.render(values, galleries=fitting(report.galleries, room)) if report.galleries else bare


def wordy(rows: Sequence[Mapping[str, object]]) -> set[str]:
    """Columns of sentences, which wrap: those with more than 40 letters somewhere."""
    return {head for row in rows for head, value in row.items() if len(str(value)) > 40}


def _inline(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(rendered(figure, "svg")).decode()


def flattened(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain values as (dotted name, text) pairs."""
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        rows += flattened(inner, f"{name}.") if isinstance(inner, Mapping) else [(name, _text(inner))]
    return rows


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
