"""What the comparison says of its rows."""

from whatwhere.intervals import Estimate
from whatwhere.lab.rows import Row
from whatwhere.use.studies.compare_result import CompareResult, verdict


def e(mean: float, half: float = 0.01) -> Estimate:
    return Estimate(mean, mean - half, mean + half, 0.0, 100, 3)


def row(name: str, gain: float | None = None) -> Row:
    measured = {"accuracy": e(0.5)} if gain is None else {"accuracy": e(0.5 + gain), "above none": e(gain)}
    return Row(name, name, measured, {})


def test_each_method_helps_hurts_or_makes_no_significant_difference():
    assert verdict([row("none"), row("a", 0.02), row("b", -0.02), row("c", 0.005)]) == (
        "a helps (+2.00 points [+1.00, +3.00]); b hurts (-2.00 points [-3.00, -1.00]); "
        "c makes no significant difference (+0.50 points [-0.50, +1.50])."
    )
    assert verdict([row("none")]) == ""


def test_a_line_has_what_a_method_adds():
    cost = {"none": {"parameters %": 0.0, "flops %": 0.0}, "se": {"parameters %": 10.004, "flops %": 0.5}}
    settings = {"model": "cifar/resnet20"}
    result = CompareResult((row("none"), row("se", 0.02)), {"name": "digits"}, settings, cost=cost)
    plain, se = result.table()
    assert (plain["parameters %"], se["parameters %"], se["flops %"]) == ("+0.00", "+10.00", "+0.50")
    assert (plain["above none %"], se["above none %"]) == ("", "2.00")
    assert result.chance is None
    page = result.report()
    assert page.title == "Does recalibration help cifar/resnet20?"
    assert page.conclusion == (
        "The plain network: 50.00 % [49.00, 51.00] right (100 pictures, 3 seeds). se helps (+2.00 points [+1.00, +3.00])."
    )
    assert page.tables[0].rows == result.table()
