"""The result of a comparison: kept and read again, its table and its page."""

import json

import pytest

import whatwhere as ww
from small_audit import EVIL
from whatwhere.audits.compared import comparison_of
from whatwhere.audits.comparison import Comparison
from whatwhere.report.page import as_html


@pytest.fixture(scope="module")
def found(audits):
    return comparison_of([audits["net"], audits["broken"]])


def test_it_is_kept_and_read_again(found, tmp_path):
    found.save(tmp_path)
    again = ww.load_result(tmp_path)
    assert isinstance(again, Comparison)
    assert again == found
    found.save(tmp_path)  # its own files are replaced
    assert (tmp_path / "table.csv").read_text().count("\n") == len(found.rows) + 1


def test_a_line_says_which_network_how_and_on_how_many(found):
    line = found.table()[0]
    assert line["quantity"] == "accuracy of the intact network"
    assert (line["network"], line["against"]) == ("small (broken)", "small (net)")
    assert (line["difference"], line["network's own"], line["the other's"]) == ("-50.00", "50.00", "100.00")
    assert (line["paired"], line["pictures"]) == ("paired", "40")
    held = next(r for r in found.table() if r["quantity"].startswith("SPC"))
    assert held["untrained"].count(" / ") == 1


def test_the_page_is_a_view_of_the_template(found, tmp_path):
    text = as_html(found.report(tmp_path))
    charts = json.loads(text.split('id="charts">')[1].split("</script>")[0])
    assert [c["name"] for c in charts] == ["need", "difference", "hold", "fields"]
    need = charts[0]["series"]
    assert [s["hidden"] for s in need] == sorted(s["hidden"] for s in need)  # what is seen first has the first colours
    assert "differs for sure" in text
    assert "The audit of small (net)" in text
    assert len(text) < 2_000_000


def test_links_lead_to_the_audits_from_where_the_page_is(found, audits):
    pages = found.report(audits["net"].parent / "compared").pages
    assert list(pages.values()) == ["../net/index.html", "../broken/index.html"]


def test_names_are_escaped(found):
    plain = json.loads(json.dumps(found.to_dict()).replace("small (broken)", EVIL))
    text = as_html(Comparison.from_dict(plain).report())
    assert EVIL not in text


def test_the_figure_shows_the_losses_of_all(found):
    labels = [t.get_text() for legend in found.plot().legends for t in legend.get_texts()]
    assert {"small (net), shuffle, per-channel", "small (broken), shuffle, per-channel"} <= set(labels)
    assert len(list(found.records())) == len(found.rows)
