"""What the joint study says of its rows, in words, tables and figures."""

import re

import numpy as np
import pytest

from small_joint import MORE, folded
from whatwhere.use.studies.joint_result import MEAN, above


def test_conclusion_says_more_less_or_that_there_is_no_significant_difference():
    more, less, same = (folded(**given)[1] for given in (MORE, {"gain": -1.5, "loss": -0.6}, {}))
    assert "se holds more position (SPC +" in more.conclusion
    assert "It needs more spatial information" in more.conclusion
    assert "se holds less position (SPC -" in less.conclusion
    assert "It needs less spatial information" in less.conclusion
    assert "se shows no significant difference in the position it holds" in same.conclusion
    assert same.conclusion.startswith("Compared with the plain network of the same seed, mean over 2 depths: se ")


def test_a_sentence_has_one_number_with_its_interval():
    """The rest stands in the table below the conclusion."""
    result = folded(**MORE)[1]
    sentences = re.split(r"(?<=\.) (?=[A-Z])", result.conclusion.partition(": ")[2])
    assert [len(re.findall(r"[+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]", s)) for s in sentences] == [1, 1]
    assert all(len(re.findall(r"\d+\.\d+", s)) == 3 for s in sentences)


def test_the_table_below_the_conclusion_holds_what_it_rests_on():
    result = folded(**MORE)[1]
    (line,) = result.differences()
    mean = result.at("se", MEAN).measured
    assert line["SPC: single sites with more, with less"] == "2, 0"
    assert line["lost: single sites with more, with less"] == "2, 0"
    for measure in ("SPC", "SPC untrained"):
        e = mean[above(measure)]
        assert line[above(measure)] == f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"
    e = mean[above("lost")]
    assert line[f"{above('lost')} %"] == f"{100 * e.mean:+.2f} [{100 * e.low:+.2f}, {100 * e.high:+.2f}]"
    assert result.report().conclusion_table == [line]


def test_figure_has_both_questions_over_the_same_depths():
    found, result = folded()
    figure = result.plot()
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [t.get_text() for t in left.get_xticklabels()] == ["rgb", "a", "b"]
    drawn = [{h.get_label(): list(h.get_xdata()) for h in at.get_lines()} for at in (left, right)]
    assert drawn[0]["se"] == [0, 1, 2]
    assert drawn[1]["se"] == [1, 2]
    kept = next(h.get_ydata() for h in right.get_lines() if h.get_label() == "se")
    assert kept[0] == pytest.approx(
        100 * np.mean([c["kept"]["accuracy"]["a"] / 0.9 for (n, _), c in found.items() if n == "se"])
    )
    assert "none, untrained" in drawn[0]
    assert "none, untrained" not in drawn[1]
    line = next(r for r in result.table() if (r["method"], r["site"]) == ("se", "a"))
    assert line["share %"] == "100"
    assert line["SPC above none"].startswith(("+", "-"))
