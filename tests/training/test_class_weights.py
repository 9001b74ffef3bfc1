import math

import pytest
import torch

from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.training.class_weights import logarithmic


def test_weights_follow_enets_formula() -> None:
    maps = torch.tensor([[[0, 0, 0, 1]], [[0, 255, 255, 3]]], dtype=torch.uint8)  # of 6 labelled: 4, 1, 0, 1
    split = SceneSplit("train", Memory(torch.zeros(2, 3, 1, 4)), {"class": Memory(maps)}, "abcd")
    expected = [1 / math.log(1.02 + share) for share in (4 / 6, 1 / 6, 0, 1 / 6)]
    assert logarithmic(split) == pytest.approx(expected, abs=1e-4)
    assert max(logarithmic(split)) == pytest.approx(50.5, abs=0.01)


def test_scenes_without_any_label_weigh_all_alike() -> None:
    maps = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    split = SceneSplit("train", Memory(torch.zeros(1, 3, 2, 2)), {"class": Memory(maps)}, "ab")
    assert len(set(logarithmic(split))) == 1
