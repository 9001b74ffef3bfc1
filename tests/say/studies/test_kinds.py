"""What the kinds of bottleneck are fitted on, and how softmax groups cool."""

from dataclasses import replace

import numpy as np
import torch

from whatwhere.say.layer import Bottleneck
from whatwhere.say.studies.kinds import cooled, rows_of, sample


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
