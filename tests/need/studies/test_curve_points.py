"""Points of tallies by hand."""

import pytest
import torch

from small_classifier import small_classifier
from whatwhere.need.studies.curve_points import ITSELF, groups_of, intact_estimate, points_of
from whatwhere.need.studies.tally import Tallies, Tally
from whatwhere.scores.against_intact import AGREEMENT
from whatwhere.scores.classes import ACCURACY
from whatwhere.site_table import list_sites


def test_pictures_that_are_alone_are_no_groups():
    groups = torch.tensor([4, 4, 5, 6, 6])
    assert groups_of(torch.arange(5)) is None
    assert groups_of(groups, [range(1, 3)]) is None
    found = groups_of(groups, [range(0, 2), range(4, 5)])
    assert found is not None
    assert found.tolist() == [4, 4, 6]


RIGHT, LESS = torch.tensor([[True, True, True, False]]), torch.tensor([[True, False, False, False]])


def test_a_point_is_paired_with_the_intact_network_the_last_cut_first():
    tallies: Tallies = {("mean", "0"): Tally.of(LESS), ("mean", "3"): Tally.of(RIGHT), None: Tally.of(RIGHT)}
    last, first = points_of(tallies, list_sites(small_classifier()), ACCURACY, None)
    assert (last.site, first.site) == ("3", "0")
    assert (first.score.mean, first.values) == (0.25, (0.25,))
    assert first.drop is not None
    assert first.drop.mean == pytest.approx(0.5)


def test_no_interval_is_about_a_network_that_is_compared_with_itself():
    same = Tally.of(torch.ones(1, 4, dtype=torch.bool))
    found = intact_estimate(same, AGREEMENT, None)
    assert (found.mean, found.low, found.high, found.covers) == (1.0, 1.0, 1.0, ITSELF)
    assert intact_estimate(same, ACCURACY, None).low < 1.0
