import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from whatwhere.data import Data, load_data
from whatwhere.data.parts import counted_classes
from whatwhere.errors import InputError


def pictures(*labels: int) -> TensorDataset:
    return TensorDataset(torch.zeros(len(labels), 3, 2, 2), torch.tensor(labels))


def test_a_label_far_beyond_the_classes_is_refused() -> None:
    """One of 999,999 would make a million classes."""
    labels = [*range(100), 999_999]
    with pytest.raises(InputError, match=r"split 'test', row 100 has the label 999999, and only 101 classes occur"):
        load_data(pictures(*labels))
    with pytest.raises(InputError, match=r"split 'train', row 1 has the label 10000"):
        load_data({"train": pictures(0, 10_000), "test": pictures(0, 1)})


def test_a_small_part_of_many_classes_is_not() -> None:
    few: Tensor = torch.tensor([3, 999, 500])  # of ImageNet's thousand
    assert len(counted_classes({"test": few})) == 1000
    with pytest.warns(UserWarning, match="labels go to 999, so 1000 classes are assumed, of which 3 occur"):
        load_data(pictures(*few.tolist()))


def test_a_split_of_one_class_is_said() -> None:
    with pytest.warns(UserWarning, match="split 'test' holds pictures of one class only, '1': a network that always"):
        data = load_data({"train": pictures(0, 1, 1), "test": pictures(1, 1)})
    assert len(data.notes) == 1
    assert data.describe()["notes"] == list(data.notes)


def test_data_without_anything_to_say_have_no_notes(recwarn: pytest.WarningsRecorder) -> None:
    data = load_data({"train": pictures(0, 1), "test": pictures(1, 0)})
    assert (data.notes, len(recwarn)) == ((), 0)
    assert "notes" not in data.describe()


def test_splits_are_found_under_any_of_their_names() -> None:
    data = load_data({"Training": pictures(0, 1), "dev": pictures(0, 1)})
    assert data.train is data.splits["Training"]
    assert data.test is data.splits["dev"]
    with pytest.raises(InputError, match=r"no split to evaluate on \('test' or 'validation'\); it has 'a'"):
        _ = Data("mine", {"a": data.train}).test


def test_training_pictures_without_labels_lack_no_class() -> None:
    data = load_data({"train": pictures(-1, -1, -1), "test": pictures(0, 1, 2)})
    assert data.notes == ()
    with pytest.warns(UserWarning, match="split 'train' holds no picture of '2'"):
        load_data({"train": pictures(0, 1), "test": pictures(0, 1, 2)})


def test_a_test_split_without_labels_gives_way_to_one_with_labels() -> None:
    """ImageNet's, on the hub: its test labels are secret."""
    with pytest.warns(UserWarning, match="split 'test' has no labels; 'validation', which has, is evaluated on"):
        data = load_data({"train": pictures(0, 1), "test": pictures(-1, -1), "validation": pictures(1, 0)})
    assert data.test is data.splits["validation"]
    unlabelled = load_data({"test": pictures(-1, -1), "validation": pictures(-1, -1)})
    assert unlabelled.test is unlabelled.splits["test"]
    both = load_data({"test": pictures(0, 1), "validation": pictures(1, 0)})
    assert (both.test is both.splits["test"], both.notes) == (True, ())
