"""The curve's table, figure and words, from points that are written out."""

from dataclasses import replace

import pytest

from small_need import estimate, found
from whatwhere.need.studies.result import Entry, NeedResult, Point, Recommendation, line_of, title_of
from whatwhere.need.studies.scored import described
from whatwhere.scores.classes import TOP5


def points() -> tuple[Point, ...]:
    return (
        Point("gap_fc", "b", 0.25, estimate(0.75), estimate(0.125), values=(0.75,)),
        Point("gap_fc", "a", 0.5, estimate(0.5), estimate(0.375)),
        Point("per-channel", "a", 0.5, estimate(0.625), estimate(0.25)),
        Point("gap_fc", "a", 0.5, estimate(0.375), estimate(0.25), group="no augmentation"),
    )


def result(protocol="train-and-test", network="net", classes=10, **more) -> NeedResult:
    intact = (
        Point("intact", "", 0.0, estimate(0.875)),
        Point("intact", "", 0.0, estimate(0.625), group="no augmentation"),
    )
    return NeedResult(protocol, network, {"name": "d", "classes": classes}, {}, {}, intact, points(), **more)


def test_labels_and_titles():
    assert [p.label for p in points()] == ["GAP+FC", "GAP+FC", "shuffle, per-channel", "GAP+FC (no augmentation)"]
    assert title_of(points()[1]) == "GAP+FC from a on (the last 50 %)"


def test_a_line_for_each_point_in_per_cent():
    lines = result().table()
    assert lines[0] | {"repeats": "1"} == {
        "method": "intact",
        "site": "-",
        "share %": "0",
        "accuracy %": "87.50",
        "accuracy % 95 %": "[86.50, 88.50]",
        "drop": "",
        "drop 95 %": "",
        "spread": "0.00",
        "95 % covers": "",
        "repeats": "1",
        "pictures": "100",
    }
    assert (lines[3]["method"], lines[3]["drop"], lines[3]["drop 95 %"]) == ("GAP+FC", "37.50", "[36.50, 38.50]")
    assert len(lines) == 6


def curves(r: NeedResult) -> dict[str, list[tuple[float, float]]]:
    (axes,) = r.plot().axes
    return {str(c.get_label()): list(zip(c.get_xdata(), c.get_ydata(), strict=True)) for c in axes.get_lines()}


def test_curves_of_trained_networks_begin_with_the_intact_network_of_their_group():
    drawn = curves(result())
    assert drawn["GAP+FC"] == [(0, 87.5), (25, 75), (50, 50)]
    assert drawn["GAP+FC (no augmentation)"] == [(0, 62.5), (50, 37.5)]
    assert curves(result("test-time"))["GAP+FC"] == [(25, 75), (50, 50)]


def test_the_papers_curve_is_drawn_beside_the_papers_network_on_its_pictures_alone():
    def papers(**about) -> list[str]:
        return [label for label in curves(result(**about)) if label.startswith("Fan et al.")]

    assert len(papers(network="cifar/vgg16", classes=100)) == 2  # with and without augmentation
    assert papers(network="cifar/vgg16", classes=10) == papers(network="cifar/vgg11", classes=100) == []
    assert papers(network="cifar/vgg16", classes=100, protocol="test-time") == []
    assert papers(network="cifar/vgg16", classes=100, score=described(TOP5)) == []  # the paper's are accuracies


def test_the_page_compares_the_networks_before_and_after():
    costs = {"parameters": 1000, "flops": 2_000_000, "latency_ms": 2.0}
    advice = Recommendation("Take a.", 0.01, "a", costs, {"parameters": 250, "flops": 500_000, "latency_ms": 0.5})
    page = result(recommendation=advice).report()
    assert page.conclusion == "Take a."
    assert page.conclusion_table[0] == {"measure": "parameters", "intact": "1,000", "collapsed": "250", "ratio": "0.25"}
    assert page.conclusion_table[2]["collapsed"] == "0.500"
    assert [t.title for t in page.tables] == ["Accuracy at every depth"]
    assert result().conclusion == ""
    assert result().report().conclusion_table == []


def test_the_matrix_is_a_table_where_it_was_measured():
    entry = Entry("intact", "per-channel", 0.5, estimate(0.25))
    (_, table) = result(matrix=(entry,)).report().tables
    assert table.rows == [
        {
            "trained": "intact",
            "tested": "per-channel",
            "convolutions": "last 50 %",
            "accuracy %": "25.00",
            "accuracy % 95 %": "[24.00, 26.00]",
        }
    ]


def test_a_line_has_the_ends_of_its_intervals():
    line = line_of("x", points()[:1])
    assert (line.x, line.y, line.low, line.high) == ((25.0,), (75.0,), pytest.approx((74.0,)), pytest.approx((76.0,)))


def test_it_is_read_back(tmp_path):
    found(0.9, 0.5).save(tmp_path)
    assert NeedResult.load(tmp_path) == found(0.9, 0.5)


@pytest.mark.parametrize(
    ("reach", "said"), [(1, "at each site alone, without"), (3, "at 3 sites, from each one on, without")]
)
def test_what_is_removed_at_some_sites_is_not_called_a_share(reach: int, said: str) -> None:
    """The axis, the table and the lead name a place, not how much went; only what is collapsed goes to the end."""
    some = replace(result("test-time"), settings={"reach": reach})
    assert said in some.lead
    assert some.lead.endswith("(GAP+FC: from each site to the end).")
    assert some.plot().axes[0].get_xlabel() == "share of layers from the site on (%)"
    assert {"from the site on %", "share %"} & set(some.table()[0]) == {"from the site on %"}
    whole = result("test-time")
    assert "without spatial information from each site on" in whole.lead
    assert "without spatial information" in whole.plot().axes[0].get_xlabel()
