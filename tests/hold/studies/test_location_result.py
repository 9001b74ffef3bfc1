"""What the location test found, in words and in a table."""

from whatwhere.hold.studies.location_result import LocationResult, verdict
from whatwhere.lab.rows import Row, accuracy_of_counts


def test_verdict_parts_rows_at_chance():
    rows = [
        Row("a", "this", {"accuracy": accuracy_of_counts([99], 100)}, {}),
        Row("b", "that", {"accuracy": accuracy_of_counts([12], 100)}, {}),
    ]
    assert verdict(rows, 1 / 9) == (
        "The square is predicted better than chance with this (99.0 %). "
        "Not significantly better than chance (11.1 %): that (12.0 %)."
    )


def test_chance_is_one_square_of_all():
    rows = (Row("zeros", "zero padding", {"accuracy": accuracy_of_counts([60], 80)}, {"accuracy": (0.75,)}),)
    result = LocationResult(rows, {"name": "digits"}, {"grid": 3, "model": "cifar/resnet20"}, ("A note.",))
    assert result.chance == 1 / 9
    assert result.title == "cifar/resnet20: in which of 9 squares is the picture?"
    page = result.report()
    assert "one of 3 x 3 squares" in page.lead
    assert page.conclusion == "The square is predicted better than chance with zero padding (75.0 %)."
    (line,) = page.tables[0].rows
    assert (line["network"], line["accuracy %"], line["pictures"]) == ("zero padding", "75.00", "80")


def test_an_interval_that_holds_chance_is_no_better_than_it():
    """Of 4 pictures, one right is a quarter, and so are two as far as anyone can tell."""
    few = Row("a", "few", {"accuracy": accuracy_of_counts([2], 4)}, {})
    assert verdict([few], 0.25) == "Not significantly better than chance (25.0 %): few (50.0 %)."
