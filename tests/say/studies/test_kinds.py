"""What the kinds of bottleneck are fitted on, and how softmax groups cool."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.layer import Bottleneck
from whatwhere.say.studies.kinds import checked_width, cooled, rows_of, sample, with_rare


def test_heads_and_their_calibration_share_no_group(said, features_of):
    train = features_of("train")
    fit, held = (rows_of(train, calibrating) for calibrating in (False, True))
    groups = train.split.groups
    assert not set(groups[fit].tolist()) & set(groups[held].tolist())
    assert sorted([*fit.tolist(), *held.tolist()]) == list(range(len(train)))
    few = replace(train, split=train.split.only(torch.arange(4)))
    assert rows_of(few, True).tolist() == [0, 1, 2, 3]  # too few to hold one out


def test_places_are_drawn_evenly_over_pictures(said, features_of):
    train = features_of("train")
    drawn = sample(train, 0, n=60)
    assert drawn.features.shape == (60, 24)
    every = torch.from_numpy(np.asarray(train.features, np.float32)).movedim(1, -1).flatten(1, 2)
    for i, part in enumerate(drawn.features.split(5)):
        assert (part[:, None] == every[i]).all(-1).any(1).all()
    assert torch.equal(sample(train, 0, n=60).features, drawn.features)


def test_the_temperature_falls_to_a_tenth():
    layer = Bottleneck(8, 4, "softmax", group=2)
    seen = []
    for done in range(5):
        cooled(layer, done, 4)
        seen.append(float(layer.temperature))
    np.testing.assert_allclose(seen, 0.1 ** (np.arange(5) / 4), rtol=1e-6)


def test_a_concept_that_the_draw_missed_gets_one_place(said, features_of):
    """A single cell of the training pictures shows it; another concept is missing in a single cell."""
    train = features_of("train")
    shares = np.asarray(train.shares)[:, :2].copy()
    fit = rows_of(train, False)
    shares[:, 0], shares[:, 1] = 0, 1
    shares[fit[4], 0, 2, 3], shares[fit[5], 1, 4, 1] = 0.25, 0.5
    rare = replace(train, shares=shares)
    drawn = sample(rare, 0, calibrating=False, n=2 * len(fit))
    assert not (drawn.targets[:, 0] > 0).any()
    full = with_rare(drawn, rare)
    assert torch.equal(full.features[: len(drawn.features)], drawn.features)
    added = [(fit[4], 2, 3), (fit[5], 4, 1)]
    assert len(full.features) == len(drawn.features) + 2
    for got, share, (row, y, x) in zip(full.features[-2:], full.targets[-2:], added, strict=True):
        assert torch.equal(got, train.at(row[None])[0, :, y, x])
        assert torch.equal(share, rare.shares_at(row[None])[0, :, y, x])
    usual = sample(train, 0, calibrating=False)
    assert torch.equal(with_rare(usual, train).features, usual.features)  # nothing is added where all are there


def test_groups_that_make_the_layer_as_wide_as_the_site_are_refused():
    checked_width("s", 25, 21, 4)
    checked_width("s", 24, 21)
    with pytest.raises(InputError, match="group=100: 21 concepts in whole groups are 100 maps, and site='s' has 64"):
        checked_width("s", 64, 21, 100)
    with pytest.raises(InputError, match="would not be narrower"):
        checked_width("s", 21, 21, 100)
