"""Rows by site and kind, and intervals in per cent."""

from whatwhere.say.studies.say_row import Interval, SayRow, row_of, sites_of


def row(site: str, kind: str) -> SayRow:
    e = Interval(0.5, 0.4, 0.6, 9)
    return SayRow(site, kind, 10, (), e, e, None, (0.5,), (0.5, None))


ROWS = (row("deep", "intact"), row("deep", "ssb"), row("early", "intact"))


def test_an_interval_in_per_cent_with_a_sign_where_it_is_a_difference() -> None:
    assert Interval(0.5, 0.405, 0.6, 9).percent() == "50.00 [40.50, 60.00]"
    assert Interval(-0.01, -0.02, 0.005, 9).percent(sign=True) == "-1.00 [-2.00, +0.50]"


def test_a_row_is_found_by_site_and_kind() -> None:
    assert row_of(ROWS, "deep", "ssb") is ROWS[1]
    assert row_of(ROWS, "early", "ssb") is None


def test_sites_are_each_once_in_their_order() -> None:
    assert sites_of(ROWS) == ("deep", "early")
    assert sites_of(()) == ()
