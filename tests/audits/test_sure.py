"""What each part rests on, from intervals that are given."""

from dataclasses import replace

from small_audit import around, audit, hold, need, page
from whatwhere.audits.sure import in_short, rests_on


def test_the_widest_interval_of_each_part():
    lines = {line["part"]: line for line in rests_on(audit())}
    assert lines["need"]["95 % interval, at most"] == "±2.0 points"
    assert lines["need"]["numbers"] == 6
    assert lines["need"]["pictures"] == 50
    assert lines["hold"]["95 % interval, at most"] == "±0.02"
    assert lines["fields"]["95 % interval, at most"] == "±0.5"
    assert list(lines) == ["need", "hold", "fields"]


def test_one_wide_interval_is_the_one_that_is_named():
    wide = need()
    points = (replace(wide.points[0], drop=around(0.0, half=0.2)), *wide.points[1:])
    assert rests_on(audit(need=replace(wide, points=points)))[0]["95 % interval, at most"] == "±20.0 points"


def test_an_interval_that_is_not_known_is_not_the_widest():
    known = hold()
    rows = (replace(known.rows[0], spc=around(0.5, half=float("nan"))), *known.rows[1:])
    assert rests_on(audit(hold=replace(known, rows=rows)))[0]["95 % interval, at most"] == "±0.02"


def test_the_page_says_it_first():
    assert (
        "How sure: 95 % intervals of at most ±2.0 points for the loss of accuracy, layers without space (50 pictures), ±0.02"
        in page(audit())
    )


def test_nothing_measured_nothing_said():
    nothing = replace(audit(), parts={})
    assert (in_short(nothing), rests_on(nothing)) == ("", [])
