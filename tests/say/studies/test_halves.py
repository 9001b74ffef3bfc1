"""A lone held-out split is halved by its groups, so that no test picture sets a threshold."""

import pytest
import torch

from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.say.studies.halves import apart


@pytest.fixture(scope="module")
def streets() -> Scenes:
    return drawn_streets(train=1, validation=1, test=5, size=(32, 48))


def lone(streets: Scenes, groups: list[int]) -> Scenes:
    held = streets.test
    split = SceneSplit("val", held.pictures, held.maps, held.classes, torch.tensor(groups))
    return Scenes("lone", {"train": streets.train, "val": split}, values=streets.values)


def test_scenes_with_both_splits_stay(streets: Scenes) -> None:
    assert apart(streets) is streets


def test_groups_are_never_cut(streets: Scenes) -> None:
    """Of three groups the first sets thresholds, the other two test."""
    found = apart(lone(streets, [7, 3, 7, 5, 3]))
    assert found.name == "lone (val halved)"
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.validation.groups.tolist() == [3, 3]
    assert found.test.groups.tolist() == [7, 7, 5]
    assert torch.equal(found.validation[1][0], streets.test[4][0])
    assert torch.equal(found.test[2][1]["class"], streets.test[3][1]["class"])


def test_one_group_cannot_be_halved(streets: Scenes) -> None:
    with pytest.raises(InputError, match="scenes 'lone' have no test split, and 'val' is one group"):
        apart(lone(streets, [4] * 5))
