"""What a comparison says of given differences."""

import math

import pytest

from small_audit import around
from whatwhere.audits.differences import Row
from whatwhere.audits.pairs import ITSELF
from whatwhere.audits.said import interval, is_sure, sentences, shown, signed, text_table
from whatwhere.intervals import Estimate


def row(what: str, mean: float, half: float, network: str = "B", **more: object) -> Row:
    given = {"scale": 100.0, "unit": "points", "leads": True, "paired": True, **more}
    return Row(network, "A", "need", what, around(0.5), around(0.5 + mean), around(mean, half), **given)  # type: ignore[arg-type]


def test_numbers_carry_their_sign_and_interval():
    r = row("accuracy", 0.1, 0.05)
    assert (shown(r, 0.5), signed(r, 0.1), interval(r)) == ("50.00", "+10.00", "[+5.00, +15.00]")


def test_what_differs_for_sure_and_what_does_not():
    said = sentences([row("accuracy", 0.2, 0.05), row("loss", 0.01, 0.05)], ["A", "B"])
    assert said == [
        "B differs for sure from A in accuracy (+20.00 points [+15.00, +25.00], paired, 50 pictures).",
        "Not sure is a difference in loss (+1.00 points [-4.00, +6.00], paired, 50 pictures).",
    ]


def test_nothing_is_sure():
    said = sentences([row("accuracy", 0.01, 0.05, paired=False)], ["A", "B"])
    start = "B is not shown for sure to differ from A in accuracy"
    assert said == [f"{start} (+1.00 points [-4.00, +6.00], unpaired, 50 and 50 pictures)."]


def test_many_depths_are_said_by_the_largest():
    rows = [row("loss", mean, 0.01, shares=(share, share)) for share, mean in ((0.1, 0.2), (0.5, 0.4), (0.9, 0.3))]
    assert "loss at 3 depths, most from the last 50 % on (+40.00" in sentences(rows, ["A", "B"])[0]


def test_what_does_not_lead_is_not_said():
    assert sentences([row("accuracy", 0.2, 0.05, leads=False)], ["A", "B"]) == [
        "B and A have nothing in common that could be compared."
    ]


def test_the_same_network_says_so():
    same = Row("B", "A", "need", "x", around(0.5), around(0.5), Estimate(0, 0, 0, 0, 9, 1, ITSELF), True, leads=True)
    assert sentences([same], ["A", "B"]) == ["B is the same network as A, and every difference is 0."]


@pytest.mark.parametrize(
    ("half", "of", "sure"), [(0.09, 1, True), (0.09, 10, False), (0.05, 10, True), (0.11, 1, False)]
)
def test_of_many_each_must_be_surer(half, of, sure):
    """Ten at once: 2.81 standard errors instead of 1.96."""
    assert is_sure(row("x", 0.1, half), of) is sure
    assert is_sure(row("x", -0.1, half), of) is sure


def test_nothing_is_sure_without_an_interval():
    assert not is_sure(row("x", 0.1, math.inf), 1)
    assert not is_sure(row("x", 0.0, 0.0), 1)


def test_a_table_for_the_terminal():
    line = {"network": "B", "against": "A", "quantity": "q", "share %": "", "network's own": "1", "the other's": "2"}
    rest = {"difference": "-1", "95 %": "[-2, 0]", "paired": "paired", "pictures": "9"}
    text = text_table([{**line, **rest}, {**line, **rest, "network": "C"}])
    assert text.startswith("B against A\nquantity  share %")
    assert "\n\nC against A\n" in text
    assert text_table([]) == ""
