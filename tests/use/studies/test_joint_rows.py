"""From cells to rows, against slow loops."""

import numpy as np
import pytest

from small_joint import LOOK, cell, folded
from whatwhere.intervals import student
from whatwhere.use.studies.joint_result import MEAN, above
from whatwhere.use.studies.joint_rows import measures, rows_of


def test_differences_are_paired_by_seed():
    found, result = folded()
    gaps = {"SPC": [], "lost": []}
    for s in range(3):
        ours, twin = found["se", s], found["none", s]
        gaps["SPC"].append(sum(ours["held"]["spc"][t]["b"] - twin["held"]["spc"][t]["b"] for t in "HV") / 2)
        gaps["lost"].append(
            (twin["kept"]["accuracy"]["b"] - ours["kept"]["accuracy"]["b"]) / 0.9
        )  # both are 0.9 intact
    for measure, expected in gaps.items():
        seen = result.at("se", "b").measured[above(measure)]
        assert seen.mean == pytest.approx(np.mean(expected))
        assert seen.high - seen.low == pytest.approx(2 * student(2) * np.std(expected, ddof=1) / 3**0.5)
        assert result.at("se", "b").values[above(measure)] == pytest.approx(expected)
    over = result.at("se", MEAN).values["lost"]
    assert over[1] == pytest.approx(1 - sum(found["se", 1]["kept"]["accuracy"][s] for s in "ab") / 1.8)
    assert result.at("se", "b").measured["SPC"].n == 7
    assert result.at("se", "b").measured[above("lost")].n == 11


def test_a_network_that_is_never_right_has_nothing_to_lose():
    wrong = {**cell(0), "kept": {"accuracy": {"intact": 0.0, "a": 0.0, "b": 0.1}, "n": 11}}
    assert measures(wrong, "b", LOOK)["lost"] == 0


def test_what_a_network_shows_at_each_place_by_hand():
    known = {
        "held": {"spc": {"H": {"a": 0.5, "b": 0.25, "rgb": 0.1}, "V": {"a": 1.0, "b": 0.75, "rgb": 0.3}}, "n": 7},
        "untrained": {"spc": {"H": {"a": 0.25, "b": 0.0}, "V": {"a": 0.75, "b": 0.5}}, "n": 7},
        "kept": {"accuracy": {"intact": 0.8, "a": 0.2, "b": 0.6}, "n": 11},
    }
    assert measures(known, "a", LOOK) == {
        "SPC": 0.75,
        "SPC H": 0.5,
        "SPC V": 1.0,
        "SPC untrained": 0.5,
        "lost": pytest.approx(0.75),
        "accuracy": 0.2,
    }
    assert measures(known, "rgb", LOOK) == {"SPC": pytest.approx(0.2), "SPC H": 0.1, "SPC V": 0.3}
    assert measures(known, "intact", LOOK) == {"accuracy": 0.8}
    assert measures(known, MEAN, LOOK)["lost"] == pytest.approx((0.75 + 0.25) / 2)


def test_of_one_network_an_interval_is_the_whole_range():
    found = {("none", 0): cell(0), ("se", 0): cell(10)}
    rows = {r.name: r for r in rows_of("se", [0], found, LOOK)}
    assert list(rows) == [f"se at {site}" for site in ("rgb", "a", "b", MEAN, "intact")]
    e = rows["se at a"].measured
    assert (e["SPC"].low, e["SPC"].high) == (-1.0, 1.0)
    assert (e["accuracy"].low, e["accuracy"].high) == (0.0, 1.0)
    assert (e[above("SPC")].low, e[above("SPC")].high) == (-2.0, 2.0)
    assert above("SPC") not in rows["se at rgb"].measured
