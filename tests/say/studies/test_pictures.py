"""Figures of a comparison, from rows that are written out."""

import pytest

from whatwhere.say.studies.pictures import figures, lossless_figure
from whatwhere.say.studies.say_row import Interval, SayRow


def row(site: str, kind: str, miou: float, **extras: object) -> SayRow:
    e = Interval(miou, miou - 0.1, miou + 0.1, 9)
    return SayRow(site, kind, 10, (), e, e, None, (miou,), (miou,), extras=extras)


ROWS = (row("a", "intact", 0.6), row("a", "ssb", 0.5), row("b", "intact", 0.6), row("b", "ssb", 0.3))


def test_every_kind_is_a_dot_with_its_interval_in_the_panel_of_its_site() -> None:
    left, right = lossless_figure(ROWS, Interval(0.8, 0.7, 0.9, 9)).axes
    assert [at.get_title(loc="left") for at in (left, right)] == ["a", "b"]
    assert [t.get_text() for t in left.get_yticklabels()] == ["intact", "ssb"]
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in right.lines]
    assert ([pytest.approx(20), pytest.approx(40)], [1, 1]) in drawn
    assert ([pytest.approx(30)], [1]) in drawn
    assert any(x == [80.0, 80.0] for x, _ in drawn)  # the ceiling


def test_without_a_ceiling_none_is_drawn() -> None:
    left, _ = lossless_figure(ROWS, None).axes
    assert not [line for line in left.lines if len(set(line.get_ydata())) == 2]


def test_what_was_not_measured_has_no_figure() -> None:
    assert set(figures(ROWS, None)) == {"bottleneck"}


def test_risk_over_coverage_of_the_kinds_that_have_it() -> None:
    measures = {"max softmax": {"curve": [(0.5, 0.1), (1.0, 0.25)]}, "concepts": {"curve": [(1.0, 0.25)]}}
    sure = row("a", "ssb", 0.5, confidence={"measures": measures})
    drawn = figures((row("a", "intact", 0.6), sure), None)
    assert set(drawn) == {"bottleneck", "confidence"}
    curves = {str(c.get_label()): c for c in drawn["confidence"].axes[0].get_lines()}
    assert list(curves["ssb: max softmax"].get_xdata()) == [0.5, 1.0]
    assert list(curves["ssb: max softmax"].get_ydata()) == [0.1, 0.25]
    assert "ssb: concepts" in curves
    assert not [label for label in curves if label.startswith("intact")]
