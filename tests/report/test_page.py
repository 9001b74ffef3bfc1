import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from whatwhere.errors import InputError
from whatwhere.report.figures import Line, curve_figure
from whatwhere.report.page import Report, Table, as_csv, as_html, flattened, write_report

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "img", "link", "br", "input", "hr", "base"}


class Page(HTMLParser):
    """The text, and every attribute, of a page whose tags must nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())


def figure() -> Figure:
    return curve_figure(
        [Line("GAP+FC", (0, 50, 100), (70, 60, 10), (69, 59, 9), (71, 61, 11))], {"intact": 70.0}, title=EVIL
    )


def report(text: str = "text") -> Report:
    rows = [
        {"method": f"{text} row", "site": "features.0", "accuracy %": "70.10"},
        {"method": "b", "site": "", "accuracy %": "1"},
    ]
    return Report(
        title=f"{text} title",
        lead=f"{text} lead",
        figures={"curve": figure()},
        tables=[Table(f"{text} table", rows), Table("empty", []), Table("second", [{f"{text} head": 1}])],
        notes=[f"{text} note"],
        conclusion=f"{text} conclusion",
        conclusion_table=[{"": f"{text} number", "before": "1"}],
        facts={"data": {"name": f"{text} fact", "list": [1, f"{text} item"]}, "seed": 0},
        pages={f"{text} label": f"{text}/index.html"},
    )


PLACES = ("title", "lead", "row", "table", "head", "note", "conclusion", "number", "fact", "label")


def test_everything_is_on_the_page_in_order() -> None:
    texts = Page(as_html(report())).texts
    expected = [
        "text title",
        "text lead",
        "text label",
        "text table",
        "text row",
        "70.10",
        "text head",
        "text note",
        "text conclusion",
        "text number",
        "text fact",
    ]
    places = [max(i for i, t in enumerate(texts) if t == e) for e in expected]
    assert places == sorted(places)
    assert texts.index("text conclusion") < texts.index("text label"), "the conclusion opens the page as well"
    assert "1, text item" in texts
    assert "empty" not in texts


def test_everything_is_escaped() -> None:
    html = as_html(report(EVIL))
    page = Page(html)
    assert "script" not in page.tags
    assert "alert(1)</script>" not in html
    for place in PLACES:
        assert f"{EVIL} {place}" in page.texts, place
    assert ("a", "href", f"{EVIL}/index.html") in page.attributes
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_the_figures_name_is_escaped_too() -> None:
    page = Page(as_html(Report("t", "l", {EVIL: figure()})))
    assert "script" not in page.tags
    assert any(name == "alt" and value.startswith(EVIL) for _, name, value in page.attributes)


def test_the_page_needs_nothing_beside_it() -> None:
    html = as_html(report())
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    for tag, name, value in Page(html).attributes:
        if name in ("src", "href", "srcset", "data", "action"):
            assert (tag == "a" and value == "text/index.html") or value.startswith("data:image/svg+xml;base64,")


def test_columns_of_sentences_wrap() -> None:
    long = "a sentence that is much too long for a column of its own"
    text = as_html(Report("t", "l", tables=[Table("T", [{"a.b": "1", "why": "short"}, {"a.b": "2", "why": long}])]))
    assert text.count('<td class="text">') == 2
    assert '<th>a.b</th><th class="text">why</th>' in text


def test_an_empty_report_is_a_page() -> None:
    page = Page(as_html(Report("only a title", "and a lead")))
    assert page.texts[:3] == ["only a title", "only a title", "and a lead"]
    assert "figure" not in page.tags
    assert "What to know when reading this" not in page.texts


def test_the_same_report_is_the_same_page() -> None:
    assert as_html(report()) == as_html(report())


def test_csv_comes_back() -> None:
    rows = [{"a": EVIL, "b, c": "1\n2", "d": "ü"}, {"a": "", "b, c": ",,", "d": " x "}]
    assert list(csv.DictReader(io.StringIO(as_csv(rows), newline=""))) == rows
    assert as_csv([{"a": 1, "b": 2.5}]) == "a,b\n1,2.5\n"
    with pytest.raises(ValueError, match="fields not in"):
        as_csv([{"a": 1}, {"a": 1, "b": 2}])


def test_flattened() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "f": (), "g": {}}
    assert flattened(nested) == [("a.b.c", "1"), ("a.d", "1, 2"), ("e", "None"), ("f", "")]


def test_all_files_are_written_open_and_are_not_empty(tmp_path: Path) -> None:
    page = write_report(tmp_path / "new", report())
    assert page == tmp_path / "new" / "index.html"
    assert sorted(p.name for p in page.parent.iterdir()) == ["curve.png", "curve.svg", "index.html", "table.csv"]
    with Image.open(page.parent / "curve.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    rows = list(csv.DictReader((page.parent / "table.csv").open(encoding="utf-8", newline="")))
    assert rows == list(report().tables[0].rows)
    assert page.read_text(encoding="utf-8") == as_html(report())


def test_a_page_of_ours_is_replaced_and_another_file_never(tmp_path: Path) -> None:
    report = Report("t", "l", {"curve": Figure()}, [Table("n", [{"a": 1}])])
    write_report(tmp_path, report)
    write_report(tmp_path, report)  # its own
    for name in ("index.html", "table.csv", "curve.png", "curve.svg"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(InputError, match=rf"{name} is there already.*overwrite=true"):
            write_report(folder, report)
        assert [p.name for p in folder.iterdir()] == [name], "nothing is written beside it"
        assert (folder / name).read_text() == "mine"
        write_report(folder, report, overwrite=True)
        assert (folder / name).read_bytes() != b"mine"
