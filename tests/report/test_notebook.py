"""Tables as a notebook shows them, read back by an HTML parser."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import whatwhere as ww
from small_audit import audit
from whatwhere.report.notebook import MOST, as_html
from whatwhere.wings import result_classes

GOLDEN = sorted(f.parent for f in (Path(__file__).parent.parent / "golden").glob("*/result.json"))
EVIL = "<script>alert(1)</script>&amp;<img src=x onerror='a()'>\"\"{{ 7 * 7 }}{% raw %}"


class Reader(HTMLParser):
    """The text of each cell, row by row, and every tag and style, as a browser takes them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.styles: set[str | None] = set()
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.add(tag)
        self.styles |= {value for _, value in attrs}
        self.in_cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self.in_cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data


def read_back(html: str) -> list[dict[str, str]]:
    names, *rows = Reader(html).rows
    return [dict(zip(names, row, strict=True)) for row in rows]


def as_shown(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    """The same rows by pandas."""
    frame = pd.DataFrame(rows, dtype=object)
    return frame.where(frame.notna(), "").map(str).to_dict("records")


def test_a_table_comes_back_with_what_lacks_blank():
    rows = [{"a": 1, "b": None}, {"a": 0.5, "c": "x"}, {"b": False}]
    expected = [{"a": "1", "b": "", "c": ""}, {"a": "0.5", "b": "", "c": "x"}, {"a": "", "b": "False", "c": ""}]
    assert read_back(as_html([], rows, whole="it")) == expected


@pytest.mark.parametrize(("count", "said"), [(0, 0), (MOST, 0), (MOST + 1, 1), (500, 1)])
def test_no_more_than_thirty_rows_are_shown_and_it_says_so(count, said):
    html = as_html(["A line."], [{"n": i} for i in range(count)], whole=".table()")
    assert MOST == 30
    assert [row["n"] for row in read_back(html)] == [str(i) for i in range(min(count, 30))]
    assert html.count(f"The first 30 of {count} rows; .table() has all.") == said


def test_evil_names_are_text():
    html = as_html([EVIL, "", EVIL], [{EVIL: EVIL}], whole=EVIL, ending=EVIL)
    assert read_back(html) == [{EVIL: EVIL}]
    assert Reader(html).tags == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


def test_no_colour_is_fixed():
    """Legible in light and in dark: colours are the notebook's."""
    html = as_html(["A."], [{"n": i} for i in range(40)], whole="it", ending="B.")
    assert Reader(html).styles == {"color: inherit", "overflow-x: auto", "text-align: left"}


def test_every_kind_of_result_is_shown():
    shown = [*map(ww.load_result, GOLDEN), audit()]
    assert len({r.kind for r in shown}) >= 8
    assert {r.kind for r in shown} <= set(result_classes())
    for result in shown:
        html, rows = result._repr_html_(), result.table()
        assert read_back(html) == as_shown(rows)[:MOST]
        assert re.sub(r"\W+", " ", result.conclusion[:60]) in re.sub(r"(&#\d+;|&\w+;|\W)+", " ", html)
        assert len(repr(result)) < 300
        assert "\n" not in repr(result)


def test_a_network_of_an_evil_name_is_text_in_its_result():
    curve = ww.load_result(GOLDEN[0].parent / "curve")
    points = tuple(replace(p, site=EVIL) for p in curve.points)
    html = replace(curve, points=points)._repr_html_()
    assert EVIL in {row["site"] for row in read_back(html)}
    assert "<script" not in html
