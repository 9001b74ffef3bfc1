"""From cells to rows, against slow loops."""

import numpy as np
import pytest

from small_joint import LOOK, cell, folded
from whatwhere.intervals import over_networks, student
from whatwhere.lab.packed import pack, pack_scores
from whatwhere.use.studies.joint_result import MEAN, above
from whatwhere.use.studies.joint_rows import lost, measures, pictured, rows_of


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


def pictured_cell(seed):
    """As `cell`, with what every picture shows."""
    g = np.random.default_rng(seed)
    scores = {k: {t: {s: g.random(7, np.float32) for s in (*LOOK.sites, "rgb")} for t in "HV"} for k in "tu"}
    hits = {"intact": g.random(11) < 0.9, **{s: g.integers(0, LOOK.repeats + 1, 11) for s in LOOK.sites}}
    held, fresh = (
        {
            "spc": {t: {s: float(v.astype(float).mean()) for s, v in of.items()} for t, of in scores[k].items()},
            "n": 7,
            "scores": {t: {s: pack_scores(v) for s, v in of.items()} for t, of in scores[k].items()},
        }
        for k in "tu"
    )
    share = {s: float(np.mean(h / (1 if s == "intact" else LOOK.repeats))) for s, h in hits.items()}
    kept = {"accuracy": share, "n": 11, "hits": {s: pack(np.asarray(h, np.uint8)) for s, h in hits.items()}}
    return {"held": held, "untrained": fresh, "kept": kept}


def test_pictures_have_the_means_that_networks_have():
    found = pictured_cell(0)
    for site in ("rgb", *LOOK.sites, MEAN, "intact"):
        means, pictures = measures(found, site, LOOK), pictured(found, site, LOOK)
        assert pictures.keys() == means.keys()
        for measure, of in pictures.items():
            assert of.mean() == pytest.approx(means[measure]), (site, measure)


def test_the_share_lost_is_linear_around_its_means():
    """By brute force: one picture more or less moves the ratio as its part says."""
    g = np.random.default_rng(0)
    right, intact = g.random(4000), (g.random(4000) < 0.9) * 1.0
    parts = lost(right, intact)
    without = np.array([1 - np.delete(right, i).mean() / np.delete(intact, i).mean() for i in range(20)])
    ratio = 1 - right.mean() / intact.mean()
    assert parts.mean() == pytest.approx(ratio)
    assert 4000 * ratio - 3999 * without == pytest.approx(parts[:20], abs=1e-3)
    assert not lost(right, np.zeros(4000)).any()


def test_intervals_are_over_seeds_and_pictures_where_cells_hold_them():
    found = {(n, s): pictured_cell(s + 10 * (n == "se")) for n in ("none", "se") for s in range(3)}
    row = next(r for r in rows_of("se", [0, 1, 2], found, LOOK) if r.name == "se at b")
    own, twin = ([pictured(found[n, s], "b", LOOK) for s in range(3)] for n in ("se", "none"))
    expected = np.array([a["SPC"] - b["SPC"] for a, b in zip(own, twin, strict=True)])
    assert row.measured[above("SPC")] == over_networks(expected, counted=False, low=-2.0, high=2.0)
    assert row.measured[above("lost")].covers == "seeds and test pictures"
    means_only = folded()[1].at("se", "b").measured[above("SPC")]  # cells of the first version
    assert means_only.covers == "seeds, on these test pictures"
