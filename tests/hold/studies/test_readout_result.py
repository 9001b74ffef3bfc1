"""The tables of the read-out, from rows that are written out."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from whatwhere.hold.studies.readout_result import ReadoutResult, Row
from whatwhere.intervals import Estimate
from whatwhere.lab.packed import pack_maps


def row(network="network", site="all", target="H", inputs="pictures", spc=0.5, mae=0.1, above=None, size=16):
    spread = Estimate(spc, spc - 0.1, spc + 0.1, 0.1, 6, 1)
    error = Estimate(mae, mae, mae, 0.0, 6, 1)
    lead = None if above is None else Estimate(above, above - 0.25, above + 0.25, 0.1, 6, 2)
    return Row(network, "ridge", site, 0.5, 1, target, inputs, spread, error, 0, 0.25, lead, size=size)


ROWS = (
    row(spc=0.9, above=0.5),
    row(site="4", spc=0.8),
    row(site="rgb", spc=0.25, mae=0.3),
    row(target="V", spc=0.7),
    row("shuffled positions", spc=0.01),
    row("untrained", spc=0.4),
    row("untrained", inputs="black", spc=0.05, mae=0.5),
    row(inputs="black", spc=0.6, mae=0.2),
    row("padding circular", inputs="black", spc=0.0),
)


def result(rows=ROWS) -> ReadoutResult:
    return ReadoutResult("small", {}, {}, {}, rows)


def test_rows_by_network_and_values():
    assert result().of() == [r for r in ROWS if r.network == "network"]
    assert result().of("untrained", inputs="black") == [ROWS[6]]
    assert result().of(site="rgb", target="H") == [ROWS[2]]
    assert result().controls == ["shuffled positions", "untrained", "padding circular"]


def test_controls_stand_in_the_row_that_they_are_for():
    lines = result().table()
    assert [(x["site"], x["target"]) for x in lines] == [("all", "H"), ("4", "H"), ("rgb", "H"), ("all", "V")]
    assert lines[0] == {
        "target": "H",
        "site": "all",
        "kernel": 1,
        "read-out": "ridge",
        "SPC": "0.900",
        "SPC 95 %": "[0.800, 1.000]",
        "compared at": "16 px",
        "SPC shuffled positions": "0.010",
        "SPC untrained": "0.400",
        "SPC padding circular": "",
        "SPC rgb": "0.250",
        "above untrained": "+0.500 [+0.250, +0.750]",
        "MAE": "0.100",
        "MAE best constant": "0.250",
        "constant": 0,
        "pictures": 6,
    }
    assert lines[3]["SPC rgb"] == lines[3]["SPC untrained"] == lines[3]["above untrained"] == ""


def test_the_papers_layout_has_the_targets_side_by_side():
    lines = result().paper_table()
    assert [(x["network"], x["inputs"]) for x in lines] == [
        ("network", "pictures"),
        ("rgb (PosENet)", "pictures"),
        ("shuffled positions", "pictures"),
        ("untrained", "pictures"),
        ("untrained", "black"),
        ("network", "black"),
        ("padding circular", "black"),
    ]
    assert (lines[0]["H SPC"], lines[0]["V SPC"]) == ("0.900", "0.700")
    assert lines[1]["H MAE"] == "0.300"


def test_without_all_sites_together_the_papers_layout_is_of_the_deepest():
    rows = (row(site="1", spc=0.1), row(site="4", spc=0.8), row(site="rgb", spc=0.25))
    assert [(x["site"], x["H SPC"]) for x in result(rows).paper_table()] == [("4", "0.800"), ("rgb", "0.250")]


def test_pictures_without_content_are_a_table_of_the_network_and_untrained_ones():
    fresh, own = result().blanks()
    assert (fresh["network"], fresh["SPC black"], fresh["MAE black"]) == ("untrained", "0.050", "0.500")
    assert (own["network"], own["SPC black"], own["MAE black"]) == ("network", "0.600", "0.200")
    assert [t.title for t in result(ROWS[:2]).report().tables] == [
        "Position, site by site, beside its controls",
        "In the paper's layout",
    ]


def test_a_result_that_does_not_say_its_size_claims_none():
    (line,) = result((row(size=None),)).table()
    assert line["compared at"] == ""


def test_the_curve_runs_over_the_sites_from_the_raw_input_on():
    axes = result().plot().axes
    assert [a.get_title(loc="left") for a in axes[:2]] == ["H", "V"]
    curve = next(line for line in axes[0].lines if line.get_label() == "network")
    assert list(curve.get_xdata()) == [0.0, 1.0, 2.0]  # rgb, all, 4: in the order of the rows
    assert list(curve.get_ydata()) == pytest.approx([0.25, 0.9, 0.8])
    assert result().plot_gallery() is None


def test_the_pages_curves_are_the_rows_with_every_control_to_switch():
    other = replace(row(site="4", spc=0.75), readout="official")
    chart = result((*ROWS, other)).chart()
    drawn = {(r["panel"], r["series"], r["place"]): (r["y"], r["low"], r["high"]) for r in chart.rows()}
    assert drawn["H", "network, 1x1 ridge", "4"] == (0.8, pytest.approx(0.7), pytest.approx(0.9))
    assert drawn["H", "network, 1x1 official", "4"][0] == 0.75
    assert len(drawn) == 7, "on pictures alone"
    assert chart.controls == ["shuffled positions, 1x1 ridge", "untrained, 1x1 ridge"]
    assert chart.hidden == ["network, 1x1 official"]
    assert {r["series"] for r in result().chart().rows()} == {"network", "shuffled positions", "untrained"}


def test_the_gallery_shows_each_map_beside_its_picture_on_the_targets_scale():
    ramp = np.tile(np.linspace(0, 1, 3), (3, 1))
    picture = base64.b64encode(bytes(48 * 48 * 3)).decode()
    maps = {"network": pack_maps(np.array([[2 * ramp]]))}
    kept = {"site": "4", "names": ["H"], "pictures": [picture], "targets": pack_maps(ramp[None]), "predicted": maps}
    view = replace(result(), gallery=kept).gallery_view()
    assert view
    assert [(p.group, p.caption) for p in view.pictures] == [
        ("What is to be read out", "H"),
        ("Read out of network", "picture 1"),
        ("Read out of network", "H of picture 1"),
    ]
    assert view.limits == (0.0, 1.0)
    assert view.pictures[2].values.tolist() == (2 * ramp).tolist()
    assert result().gallery_view() is None
    two = replace(
        result(),
        gallery=kept | {"names": ["H", "own"], "targets": pack_maps(np.array([ramp, 9 * ramp])), "predicted": {}},
    )
    assert two.gallery_view().limits is None
    stripes = pack_maps(np.array([ramp, 0.99 * ramp]))
    assert replace(two, gallery=two.gallery | {"targets": stripes}).gallery_view().limits == (0.0, 1.0)
