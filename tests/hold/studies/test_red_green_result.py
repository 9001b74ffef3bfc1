"""What the Red-Green rows say, in words."""

import pytest

from whatwhere.hold.studies.red_green_plan import row_of
from whatwhere.hold.studies.red_green_result import RedGreenResult, verdict


def test_verdict_names_what_lets_location_in():
    rows = [
        row_of(p, [{"n": 1000, "similar": a, "dissimilar": b, "similar_only": a - b, "dissimilar_only": 0}] * 2)
        for p, a, b in (("none", 1000, 2), ("circular", 737, 737), ("zeros", 700, 660))
    ]
    assert verdict(rows) == (
        "Location is exploited with no padding (valid) (99.8 points), zeros, same size (4.0 points). "
        "Location is not exploited (within 3 points) with circular, same size (0.0 points)."
    )


@pytest.mark.parametrize(
    ("similar", "dissimilar", "said"),
    [
        ([700, 700], [694, 694], "Location is not exploited (within 3 points) with zeros, same size (0.6 points)."),
        (
            [700, 900],
            [600, 500],
            "It is undecided whether location is exploited with zeros, same size (25.0 points).",
        ),
    ],
)
def test_each_sentence_of_the_verdict_stands_alone(similar, dissimilar, said):
    found = [
        {"n": 1000, "similar": a, "dissimilar": b, "similar_only": a - b, "dissimilar_only": 0}
        for a, b in zip(similar, dissimilar, strict=True)
    ]
    assert verdict([row_of("zeros", found)]) == said


def test_the_result_stands_beside_chance_and_what_was_published():
    found = [{"n": 100, "similar": 100, "dissimilar": 2, "similar_only": 98, "dissimilar_only": 0}] * 2
    result = RedGreenResult((row_of("none", found),), {"name": "red-green"}, {"epochs": 1}, ("A note.",))
    assert result.chance == 0.5
    page = result.report()
    assert page.conclusion == result.conclusion == verdict(result.rows)
    assert page.notes == ("A note.",)
    (line,) = page.tables[0].rows
    assert (line["similar %"], line["similar published %"]) == ("100.00", "100.0")
    assert (line["dissimilar %"], line["dissimilar published %"]) == ("2.00", "0.2")
    assert line["gap %"] == "98.00"
    assert "gap published %" not in line
