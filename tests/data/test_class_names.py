import unicodedata

import pytest

from whatwhere.data.class_names import check_forms, in_order, order_notes
from whatwhere.errors import InputError

TWELVE = [str(i) for i in range(12)]


def test_numbers_are_sorted_as_numbers() -> None:
    assert in_order(sorted(TWELVE, reverse=True)) == tuple(TWELVE)
    assert in_order(["10", "9", "100"]) == ("9", "10", "100")
    assert in_order(["10", "9", "cat"]) == ("10", "9", "cat")
    assert in_order(["b", "a", "b"]) == ("a", "b")
    assert in_order(["²", "10"]) == ("10", "²")  # a digit, and no number


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["a", "b"], None),
        (["0", "1", "2"], None),
        ([f"{i:02}" for i in range(12)], None),
        (TWELVE, r"folder '10' is label 10. Sorted as text, .* it would be 2"),
        ([str(i) for i in range(1, 5)], r"not 0 to 3: folder '1' is label 0"),
        (["0", "1", "5"], r"not 0 to 2: folder '5' is label 2"),
        ([f"class_{i}" for i in range(12)], r"'class_10' is label 2, not .* \(10\). Pad"),
        ([f"n{i:04}" for i in range(12)], None),
        (["a1", "b10", "c2"], None),
    ],
)
def test_labels_that_are_not_the_number_are_said(names: list[str], note: str | None) -> None:
    notes = order_notes(in_order(names))
    assert len(notes) == (note is not None)
    if note:
        with pytest.raises(ValueError, match=note):
            raise ValueError(notes[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
        ("cat", "cat "),
        ("cat", " cat"),
        ("cat", "cat\u200b"),
        ("traffic light", "traffic_light"),
        ("1", "01"),
    ],
)
def test_names_that_differ_by_form_only_are_refused(one: str, other: str) -> None:
    for names in ({"test": [one, other]}, {"train": [one], "test": [other, "dog"]}):
        with pytest.raises(InputError, match=r"FOLDER: '.*' and '.*' differ by Unicode form, spaces or zeros only"):
            check_forms("FOLDER", names)


def test_names_that_differ_by_case_are_refused_from_split_to_split_and_said_within_one() -> None:
    with pytest.raises(InputError, match="'Cat' and 'cat' differ by case only, from split to split"):
        check_forms("FOLDER", {"train": ["Cat"], "test": ["cat"]})
    assert check_forms("FOLDER", {"train": ["A", "a"], "test": ["a"]}) == [
        "the classes 'A' and 'a' differ by case only and count as 2 classes."
    ]
    assert check_forms("FOLDER", {"train": ["a", "b"], "test": ["b"]}) == []
