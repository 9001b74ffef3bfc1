"""What is read out: described in plain values and made again from them."""

import json

import numpy as np
import torch

from small_classifier import small_classifier
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.hold.official import Official
from whatwhere.hold.studies.pictures import pictures_of
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.targets import targets_of


def chosen():
    images = torch.zeros(10, 3, 16, 16, dtype=torch.uint8)
    split = Split("test", Memory(images), torch.arange(10) % 2, ["a", "b"])
    return pictures_of(Data("few", {"test": split}), None, 5, 4, 0)


def reading(**changes):
    plain = {
        "sites": ("1", "4"),
        "targets": tuple(targets_of(["H", "VS"], range="-1..1")),
        "kernels": (1, 3),
        "readouts": ("official",),
        "blanks": ("noise",),
        "padding": 1,
        "size": 14,
        "official": Official(epochs=2, layers=2),
        "seed": 7,
        "batch": 5,
    }
    return Reading(chosen(), **{**plain, **changes})


def test_a_description_is_json_and_gives_the_same_again():
    first = reading()
    plain = json.loads(json.dumps(first.describe()))
    again = Reading.of(first.pictures, plain)
    assert again == first
    assert plain["targets"] == [["H", "-1..1"], ["VS", "-1..1"]]
    assert plain["batch_size"] == 5


def test_ones_own_maps_are_described_by_their_values():
    mine = {"mine": np.arange(6.0).reshape(2, 3) / 7, "also": np.eye(3)}
    first = reading(targets=tuple(targets_of(mine)))
    plain = json.loads(json.dumps(first.describe()))
    assert plain["targets"] == [["mine", "own"], ["also", "own"]]
    assert plain["own targets"] == [[[0.0, 1 / 7, 2 / 7], [3 / 7, 4 / 7, 5 / 7]], np.eye(3).tolist()]
    again = Reading.of(first.pictures, plain)
    assert [t.name for t in again.targets] == ["mine", "also"]
    assert all(torch.equal(a.values, b.values) for a, b in zip(again.targets, first.targets, strict=True))


def test_groups_are_every_site_alone_all_together_and_the_raw_input():
    taps, groups = reading().groups(small_classifier())
    assert [(t.name, t.channels, t.shape) for t in taps] == [
        ("1", 4, (16, 16)),
        ("4", 8, (8, 8)),
        ("rgb", 3, (16, 16)),
    ]
    assert [(g.name, g.channels) for g in groups] == [("1", 4), ("4", 8), ("all", 12), ("rgb", 3)]


def test_a_single_site_is_all_there_is_and_no_site_is_the_raw_input():
    assert [g.name for g in reading(sites=("4",)).groups(small_classifier())[1]] == ["4", "rgb"]
    assert [g.name for g in reading(sites=()).groups(small_classifier())[1]] == ["rgb"]


def test_the_shape_is_that_of_prepared_pictures():
    assert reading().shape(small_classifier()) == (3, 16, 16)
