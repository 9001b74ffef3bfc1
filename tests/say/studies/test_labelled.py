"""Whether label maps hold several classes, and concepts both present and absent."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.studies.labelled import check_classes, left_out_note, never_both

CLASSES = ("sky", "road", "car")


def split(*values: int, name: str = "train") -> SceneSplit:
    """A picture for each value, which its whole map has."""
    maps = torch.tensor(values, dtype=torch.uint8)[:, None, None].expand(-1, 2, 2).contiguous()
    pictures = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
    return SceneSplit(name, Memory(pictures), {"class": Memory(maps)}, CLASSES)


class Stored:
    """Concepts by the value of a picture."""

    def __init__(self, **states: Mapping[int, int]) -> None:
        self.names, self.states = tuple(states), list(states.values())

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        value = int(picture[0, 0, 0])
        return torch.tensor([s.get(value, -1) for s in self.states], dtype=torch.int8)[:, None, None].expand(-1, 2, 2)


def test_two_classes_are_enough_to_learn_and_one_to_set_thresholds() -> None:
    check_classes(split(0, 1), split(2, 1), split(2, IGNORE, name="validation"))


@pytest.mark.parametrize(
    ("train", "test", "validation", "message"),
    [
        (split(1, 1, IGNORE), split(0, 1), None, r"split 'train' \(3 pictures\) hold only 'road'; .*several classes"),
        (split(0, 1), split(2, name="test"), None, r"split 'test' \(1 pictures\) hold only 'car'"),
        (split(IGNORE), split(0, 1), None, r"no class at all \(every pixel is 255\)"),
        (split(0, 1), split(0, 1), split(IGNORE, name="validation"), "'validation' .* give maps with labelled pixels"),
    ],
)
def test_what_nothing_can_be_learned_of_is_refused(
    train: SceneSplit, test: SceneSplit, validation: SceneSplit | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_classes(train, test, validation)


def test_concepts_that_are_always_there_or_never() -> None:
    values = [0, 1] * 20
    both, always, never, unlabelled = {0: 1, 1: 0}, {0: 1, 1: 1}, {0: 0}, {}
    source = Stored(both=both, always=always, never=never, unlabelled=unlabelled)
    assert never_both(source, split(*values)) == {"always": "absent", "never": "present", "unlabelled": "present"}


def test_the_note_names_them_and_why() -> None:
    assert left_out_note({}) == []
    assert left_out_note({"a": "present", "b": "absent", "c": "present"}) == [
        "Concepts left out, as the training pictures show them never present: a, c.",
        "Concepts left out, as the training pictures show them never absent: b.",
    ]
    (many,) = left_out_note({f"c{i}": "present" for i in range(15)})
    assert many.endswith("c11 and 3 more.")
