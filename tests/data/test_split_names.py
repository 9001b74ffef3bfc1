from pathlib import Path

import pytest

from whatwhere.data.split_names import TEST, TRAIN, VALIDATION, first_of, split_folders, split_name
from whatwhere.errors import InputError


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("train", "train"),
        ("Train", "train"),
        ("training", "train"),
        ("TESTING", "test"),
        ("Val", "val"),
        ("valid", "valid"),
        ("dev", "dev"),
        ("evaluation", "evaluation"),
        ("cat", None),
        ("trains", None),
    ],
)
def test_folders_are_splits_by_their_names(folder: str, name: str | None) -> None:
    assert split_name(folder) == name


def test_two_folders_of_one_split_are_refused() -> None:
    assert split_folders("data", map(Path, ("Train", "extra", "val"))) == {"train": Path("Train"), "val": Path("val")}
    for same in (("train", "Train"), ("train", "training"), ("test", "testing")):
        with pytest.raises(InputError, match=f"data holds {same[0]}, {same[1]}; rename .* '{same[0]}'"):
            split_folders("data", map(Path, same))


def test_splits_are_found_under_any_of_their_names() -> None:
    splits = {"Training": 1, "dev": 2, "eval": 3}
    assert [first_of(splits, names) for names in (TRAIN, VALIDATION, TEST)] == [1, 2, 3]
    assert first_of({"val": 2}, (*TEST, *VALIDATION)) == 2
    assert first_of({"val": 2}, TRAIN) is None
