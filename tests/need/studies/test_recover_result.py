"""What fine-tuning brought back, in words and in tables, from rows that are written out."""

from whatwhere.intervals import Estimate
from whatwhere.lab.rows import Row
from whatwhere.need.studies.recover_result import RecoverResult, in_order, label_of, name_of


def e(mean: float, half: float = 0.0625, repeats: int = 1) -> Estimate:
    return Estimate(mean, mean - half, mean + half, 0.0, 2000, repeats)


def row(site, tuned, **measured) -> Row:
    names = {"below": "below intact fine-tuned", "share": "share recovered"}
    named = {names.get(name, name): value for name, value in measured.items()}
    return Row(name_of(site, tuned), label_of(site, tuned, {"a": 0.3, "b": 0.5}), named, {})


ROWS = (
    row(None, False, accuracy=e(0.875)),
    row(None, True, accuracy=e(0.9)),
    row("a", False, accuracy=e(0.5), below=e(0.4)),
)
TUNED = row("a", True, accuracy=e(0.7), below=e(0.2), gained=e(0.2), share=e(0.5, 0.125))
COST = {"": {"parameters": 1000, "flops": 20000}, "a": {"parameters": 250, "flops": 4000}}


def result(*rows: Row, sites=("a",), **more) -> RecoverResult:
    settings = {"network": "net", "sites": list(sites)}
    return RecoverResult(rows, {"name": "d", "classes": 10}, settings, **{"cost": COST, **more})


def test_names_and_labels():
    assert [name_of(s, t) for s in (None, "a") for t in (False, True)] == [
        "intact",
        "intact, fine-tuned",
        "a",
        "a, fine-tuned",
    ]
    assert label_of("a", True, {"a": 0.3}) == "GAP+FC from a on (last 30 %), fine-tuned"
    assert label_of(None, False, {}) == "intact"


def test_the_share_that_came_back_is_said_with_its_interval_and_what_it_rests_on():
    assert result(*ROWS, TUNED).conclusion == (
        "Fine-tuning recovers 50 % [38, 62] of the accuracy that GAP+FC from a on had lost, compared with the intact "
        "network fine-tuned alike (2,000 test pictures, one seed)."
    )
    several = row("a", True, below=e(0.2, repeats=3), share=e(0.5, 0.125, repeats=3))
    assert "(2,000 test pictures, 3 seeds)" in result(*ROWS, several).conclusion


def test_a_collapse_that_loses_nothing_significant_is_said_so():
    none = row("a", False, accuracy=e(0.89), below=e(0.01))
    assert result(*ROWS[:2], none).conclusion == (
        "GAP+FC from a on loses no significant accuracy even before fine-tuning: 1.00 points [-5.25, 7.25]."
    )
    assert result(*ROWS).conclusion == ""  # a loss, and nothing fine-tuned yet


def test_lines_have_all_columns_what_was_measured_first():
    lines = result(*ROWS, TUNED).table()
    assert [(x["row"], x["parameters"], x["FLOPs per picture"]) for x in lines] == [
        ("intact", "1,000", "20,000"),
        ("intact, fine-tuned", "1,000", "20,000"),
        ("a", "250", "4,000"),
        ("a, fine-tuned", "250", "4,000"),
    ]
    assert len({tuple(x) for x in lines}) == 1
    assert list(lines[0])[-4:] == ["seeds", "pictures", "parameters", "FLOPs per picture"]
    assert lines[0]["share recovered %"] == ""
    assert lines[3]["share recovered %"] == "50.00"


def test_columns_in_order():
    assert in_order([{"seeds": "1", "x": "2"}, {"weights": "f", "y": "3"}]) == [
        {"x": "2", "y": "", "seeds": "1", "weights": ""},
        {"x": "", "y": "3", "seeds": "", "weights": "f"},
    ]


def test_each_fine_tuned_network_stands_beside_its_weights():
    found = result(*ROWS, TUNED, each=(ROWS[1], TUNED), weights={"intact, fine-tuned": ["i"], "a, fine-tuned": ["a0"]})
    assert [(x["row"], x["weights"]) for x in found.each_table()] == [
        ("intact, fine-tuned", "i"),
        ("a, fine-tuned", "a0"),
    ]
    page = found.report()
    assert page.conclusion == found.conclusion
    assert page.tables[1].rows == found.each_table()
    assert (found.chance, found.title) == (0.1, "net on d")


def verdict(given: Estimate, control: Estimate, allowed=2.0) -> str:
    measured = {"accuracy": e(0.8), "below": control}
    tuned = row("a", True, **measured, **{"below intact as given": given})
    settings = {"network": "net", "sites": ["a"], "allowed": allowed}
    return RecoverResult((*ROWS[:2], tuned), {"name": "d", "classes": 10}, settings, cost=COST).conclusion


def between(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 0.0, 2000, 1)


def test_within_what_was_allowed_is_decided_by_the_end_of_the_interval():
    assert verdict(between(-0.005, 0.02), between(0.005, 0.0225)) == (
        "Is a, fine-tuned, within 2 points of the intact network? As it was given: yes, 0.75 points below [-0.50, 2.00]. "
        "Fine-tuned alike: not shown, 1.38 points below [0.50, 2.25]."
    )
    assert "no, 5.00 points below [3.00, 7.00]" in verdict(between(0.03, 0.07), between(0, 0.01))
    assert "Fine-tuned alike: yes," in verdict(between(0.03, 0.07), between(0, 0.01))
    assert "not shown, 5.00" in verdict(between(0.03, 0.07), between(0, 0.01), allowed=3.0)  # at its lower end
    assert "yes, 5.00" in verdict(between(0.03, 0.07), between(0, 0.01), allowed=7.0)


def test_nothing_is_said_without_a_control_or_by_results_of_earlier_versions():
    assert verdict(between(0, 0.01), between(0, 0.01), allowed=None) == ""
    lone = row("a", True, accuracy=e(0.8), **{"below intact as given": between(0, 0.01)})
    settings = {"network": "net", "sites": ["a"], "allowed": 2.0}
    assert RecoverResult((lone,), {"name": "d", "classes": 10}, settings, cost=COST).conclusion == ""


def test_controls_of_frozen_prefixes_are_named_by_where_these_end():
    assert name_of(None, True, "a") == "intact, fine-tuned from a on"
    assert label_of(None, True, {}, "a") == "intact, fine-tuned from a on"
    control = Row(name_of(None, True, "a"), "intact", {"accuracy": e(0.9)}, {})
    assert result(control).table()[0]["parameters"] == "1,000"
