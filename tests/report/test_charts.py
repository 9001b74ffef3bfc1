"""What the page draws: plain data, with nothing in it that could end its element."""

import json
import math

from whatwhere.report.charts import Chart, Strip, Track, as_script
from whatwhere.report.figures import Line

EVIL = "</script><script>alert(1)</script>&"
LINE = Line(EVIL, (0.0, 1.0), (1.0, math.nan), (0.5, -math.inf), (1.5, 2.0))


def test_rows_hold_every_point_and_no_number_that_json_has_not():
    chart = Chart("c", "t", "x", "y", [LINE], ticks=["a", "b"])
    assert chart.rows() == [
        {"series": EVIL, "x": 0.0, "place": "a", "y": 1.0, "low": 0.5, "high": 1.5},
        {"series": EVIL, "x": 1.0, "place": "b", "y": None, "low": None, "high": 2.0},
    ]
    assert Chart("c", "t", "x", "y", [Line("l", (1.0,), (2.0,))]).rows()[0]["low"] is None


def test_a_script_cannot_be_ended_from_within():
    text = as_script([Chart("c", EVIL, "x", "y", [LINE], {EVIL: 1.0}, [EVIL])])
    assert not set("<>&") & set(text)
    (chart,) = json.loads(text)
    assert chart["title"] == EVIL
    assert chart["series"] == [{"label": EVIL, "control": True, "hidden": False}]
    assert chart["levels"] == [{"label": EVIL, "y": 1.0}]


def test_a_strip_has_a_row_for_each_place():
    strip = Strip("s", "t", ["a", "b"], [Track("lost", [1.0, None], [0.5, None], [2.0, None], [None, 3.0], "control")])
    assert strip.rows()[0] == {"place": "a", "lost": 1.0, "lost, low": 0.5, "lost, high": 2.0, "control": None}
    (track,) = json.loads(as_script([strip]))[0]["tracks"]
    assert track["points"][1] == {"i": 1, "place": "b", "y": None, "low": None, "high": None, "control": 3.0}


def test_curves_of_one_label_are_one_series_in_all_panels():
    lines = [Line("a", (0.0,), (1.0,), panel="left"), Line("a", (0.0,), (2.0,), panel="right")]
    plain = Chart("c", "t", "x", "y", lines).plain()
    assert [s["label"] for s in plain["series"]] == ["a"]
    assert [r["panel"] for r in plain["rows"]] == ["left", "right"]
    assert Chart("c", "t", "x", "y", lines, joined=False).plain()["kind"] == "points"
