"""What recalibration costs, in lines, bars and sentences, of costs that are given."""

import pytest

from whatwhere.costs import Cost as Measured
from whatwhere.use import CostResult


def known():
    measured = {"none": Measured(1000, 2_000_000, 2.0, 4, 500_000), "se": Measured(1100, 2_010_000, 3.0, 4, 600_000)}
    return CostResult(measured, {"none": 1.0, "se": 1.25}, {"model": "m", "size": [3, 8, 8]})


def test_lines_are_absolute_and_in_per_cent():
    assert known().table()[1] == {
        "method": "se",
        "parameters": "1,100",
        "extra": "+100 (+10.00 %)",
        "MFLOPs": "2.01",
        "extra MFLOPs": "+0.01 (+0.50 %)",
        "ms a picture": "3.00 (+25.0 %)",
        "MB kept": "0.60",
        "extra MB": "+0.10 (+20.00 %)",
    }


def test_the_figure_and_the_sentence_say_the_same():
    result = known()
    axes = result.plot().axes[0]
    bars = {c.get_label(): [b.get_width() for b in c] for c in axes.containers}
    assert bars == {"parameters": [pytest.approx(10)], "FLOPs": [pytest.approx(0.5)], "latency": [pytest.approx(25)]}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["se"]
    assert result.conclusion == (
        "se takes 1.25 times the time of the plain network, with +10.00 % parameters and +0.50 % FLOPs."
    )


def test_methods_and_what_they_add():
    result = known()
    assert result.methods == ["se"]
    assert result.extra("se") == pytest.approx({"parameters": 10, "FLOPs": 0.5, "latency": 25})
    assert result.extra("none") == pytest.approx({"parameters": 0, "FLOPs": 0, "latency": 0})
    assert result["se"].kept_bytes == 600_000
    assert [(r["method"], r["flops"], r["slower"]) for r in result.records()] == [
        ("none", 2_000_000, 1.0),
        ("se", 2_010_000, 1.25),
    ]


def test_the_page_says_the_size_of_a_picture(tmp_path):
    assert "a picture of 3 x 8 x 8" in known().report().lead
    known().save(tmp_path)
    assert CostResult.load(tmp_path).table() == known().table()


def test_the_plain_network_alone_is_drawn():
    alone = CostResult({"none": known()["none"]}, {"none": 1.0}, {"size": [3, 8, 8]})
    assert [t.get_text() for t in alone.plot().axes[0].get_yticklabels()] == ["none"]
    assert alone.conclusion == ""
