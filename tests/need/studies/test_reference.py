"""The paper's curve, from its file."""

from pathlib import Path

import pytest

import whatwhere.need.studies
from whatwhere.need.studies.reference import reference_curve


def test_the_points_are_those_of_the_file():
    text = (Path(whatwhere.need.studies.__path__[0]) / "reference.csv").read_text()
    rows = [line.split(",") for line in text.splitlines() if line[0].isdigit()]
    assert len(rows) == 14  # intact, and before each of 13 convolutions
    for i, column in ((1, "augmented"), (2, "plain")):
        curve = reference_curve(column)
        assert curve.x == tuple(float(r[0]) for r in rows)
        assert curve.y == tuple(float(r[i]) for r in rows)


def test_shares_are_those_of_thirteen_convolutions():
    assert reference_curve().x == pytest.approx([100 * i / 13 for i in range(14)], abs=0.5)


def test_labels_tell_the_curves_apart():
    assert reference_curve().label == "Fan et al. 2020, GAP+FC"
    assert reference_curve("plain").label == "Fan et al. 2020, GAP+FC (no augmentation)"
    assert reference_curve().low == ()
