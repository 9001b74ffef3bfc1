from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from whatwhere.data import load_data
from whatwhere.data.torch_sets import stated_labels
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


class Pictures(Dataset[Any]):
    """PIL pictures whose value is their row; counts how often it is asked."""

    classes = ("a", "b", "c")

    def __init__(self, n: int = 6) -> None:
        self.n, self.asked = n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> tuple[Any, int]:
        self.asked += 1
        return Image.new("RGB", (6, 6), (row, row, row)), row % 3


class Listed(Pictures):
    """The same, with torchvision's list of labels."""

    def __init__(self, n: int = 6) -> None:
        super().__init__(n)
        self.targets = [row % 3 for row in range(n)]


def test_pairs_of_pil_pictures() -> None:
    split = load_data(Pictures()).test
    images, labels = next(split.batches(6, geometry=Preprocessing(size=(4, 4))))
    assert images.shape == (6, 3, 4, 4)
    assert images[:, 0, 0, 0].tolist() == list(range(6))
    assert labels.tolist() == split.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert split.classes == ("a", "b", "c")


def test_stated_labels_spare_the_pictures() -> None:
    dataset = Listed(600)
    assert load_data(dataset).test.labels.tolist() == [row % 3 for row in range(600)]
    assert dataset.asked == 3  # the first picture of each class, to see that the list is right
    assert stated_labels(Subset(dataset, [5, 0, 1])).tolist() == [2, 0, 1]  # type: ignore[union-attr]


def test_stated_labels_that_do_not_match_are_not_used() -> None:
    dataset = Listed()
    dataset.targets = [1] * 6
    assert load_data(dataset).test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_prepared_floats_are_passed_on() -> None:
    x, y = torch.randn(5, 3, 6, 6), torch.tensor([0, 1, 0, 1, 1])
    split = load_data(TensorDataset(x, y)).test
    images, labels = next(split.batches(5, geometry=Preprocessing(size=(4, 4))))
    assert torch.equal(images, x)
    assert torch.equal(labels, y)
    assert split.classes == ("0", "1")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([torch.zeros(3, 2, 2)], "row 0 of the list is Tensor, not a pair"),
        ([(torch.zeros(3, 2, 2), "cat")], "label 'cat'; give a whole class number"),
        ([(torch.zeros(3, 2, 2), 0.5)], "label 0.5"),
        ([({"x": 1}, 0)], "row 0 of the list holds a dict"),
        ([(np.full((2, 2, 3), 300), 0)], "pixels from 300 to 300"),
        ([(torch.zeros(2, 2, 2, dtype=torch.uint8), 0)], r"shape is \(2, 2, 2\)"),
        (
            [(torch.zeros(3, 2, 2), 0), (torch.zeros(3, 4, 2), 0)],
            "row 1 .*resize them in the Dataset's transform",
        ),
    ],
)
def test_items_that_are_no_labelled_pictures_are_refused(items: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(load_data(items).test.batches(2))


def test_arrays_are_pictures() -> None:
    tall = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    images, _ = next(load_data([(tall, 0)]).test.batches(1))
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), tall)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(3, 2, 2), 0)])


def test_streams_need_a_loader() -> None:
    with pytest.raises(InputError, match="without rows by number"):
        load_data(Stream())


def test_items_count_where_they_contradict_the_listed_labels() -> None:
    class Coarse(Dataset[Any]):
        targets = (0, 1, 2, 3, 4, 5)

        def __len__(self) -> int:
            return 6

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return torch.zeros(3, 4, 4, dtype=torch.uint8), self.targets[row] // 2

    assert load_data(Coarse()).test.labels.tolist() == [0, 0, 1, 1, 2, 2]
