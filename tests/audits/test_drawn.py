"""What the page draws holds the numbers of the parts."""

from small_audit import audit, hold, need
from whatwhere.audits.drawn import charts_of


def test_the_strip_holds_each_place_once_with_what_is_known_of_it():
    strip, curve, position = charts_of(audit())
    assert strip.places == ["s2", "s1", "s0"]
    lost, read, seen = strip.tracks
    assert lost.label == "lost by shuffling, points"
    assert [round(v) for v in lost.values] == [50, 30, 0]
    assert read.values == [None, 0.8, 0.8]
    assert read.control == [None, 0.9, 0.9]
    assert seen.values == [None, None, 3.0]
    assert (seen.low[2], seen.high[2]) == (2.5, 3.5)
    assert {line.label for line in curve.lines} == {"GAP+FC", "shuffle, per-channel"}
    assert position.controls == ["H, untrained", "H, padding circular"]
    assert position.ticks == ["s0", "s1"]


def test_what_was_not_measured_is_not_drawn():
    assert [c.name for c in charts_of(audit(need=need()))] == ["strip", "need"]
    assert [c.name for c in charts_of(audit(hold=hold()))] == ["strip", "hold"]
