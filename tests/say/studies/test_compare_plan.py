"""The plan of the comparison: its cells, their order, and what is refused before anything runs."""

from dataclasses import replace

import pytest
import torch

import whatwhere as ww
from small_finished import finished
from small_segmenter import small_segmenter
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.say.studies.compare_plan import ComparePlan, checked_scenes, ordered


@pytest.fixture(scope="module")
def few() -> Scenes:
    return drawn_streets(train=4, validation=2, test=2, size=(32, 48))


@pytest.fixture(scope="module")
def study(few: Scenes) -> ww.say.Compare:
    net = ww.Network(small_segmenter(len(few.classes)), name="small")
    return ww.say.Compare(
        net,
        few,
        sites=("middle", "front"),
        concepts={"positions": True},
        kinds=("ssb", "pca"),
        seeds=(0, 1),
        batch_size=2,
    )


def test_the_ceiling_comes_first_and_kinds_without_draws_have_one_seed(study: ww.say.Compare) -> None:
    assert [c.label for c in ComparePlan(study).cells(finished())] == [
        "ceiling at middle",
        "intact at middle",
        "ssb at middle, seed 0",
        "pca at middle, seed 0",
        "intact at front",
        "ssb at front, seed 0",
        "pca at front, seed 0",
        "ssb at middle, seed 1",
        "pca at middle, seed 1",
        "ssb at front, seed 1",
        "pca at front, seed 1",
    ]


def test_a_cell_is_a_site_a_kind_and_a_seed(study: ww.say.Compare) -> None:
    plan = ComparePlan(study)
    assert plan.cell("front", "pca", 1).config == {**plan.common, "site": "front", "kind": "pca", "seed": 1}
    assert plan.cell("front", "intact", 1).config["seed"] == 0
    assert plan.cell("front", "intact", 1) == plan.cell("front", "intact", 0)
    assert set(plan.shared()) == {*plan.common, "layers"}


def test_the_users_network_is_left_alone(study: ww.say.Compare) -> None:
    assert ComparePlan(study).net.input_size == (3, 32, 48)
    assert study.network_source.net.input_size is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": ()}, "sites is empty"),
        ({"sites": ("nowhere",)}, "sites: .*nowhere"),
        ({"kinds": ("sbb",)}, "kinds='sbb' matches nothing"),
        ({"batch_size": 5}, "batch_size=5 is more than the 4 training pictures"),
    ],
)
def test_what_cannot_be_is_refused(study: ww.say.Compare, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ComparePlan(replace(study, **changes)).check(ww.Run("out"))


def test_a_softmax_group_is_a_choice(study: ww.say.Compare) -> None:
    with pytest.raises(InputError, match="group=1: a softmax group has at least 2 maps"):
        ComparePlan(replace(study, group=1)).shared()


def test_what_was_asked_for_comes_first_then_what_is_there() -> None:
    assert ordered(["b", "a"], ["c", "a", "0"]) == ["b", "a", "0", "c"]
    assert ordered([], []) == []


def test_scenes_of_one_group_have_no_interval(few: Scenes) -> None:
    assert checked_scenes(few) is few
    test = few.test
    one = SceneSplit("test", test.pictures, test.maps, test.classes, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="split 'test' is one group of pictures"):
        checked_scenes(replace(few, splits={**few.splits, "test": one}))
