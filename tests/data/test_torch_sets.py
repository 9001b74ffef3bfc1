from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

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


def loader(n: int = 10, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        TensorDataset(torch.arange(n)[:, None, None, None].expand(n, 3, 2, 2).float(), torch.arange(n) % 2),
        4,
        **options,
    )


def test_a_loader_keeps_its_batches() -> None:
    split = load_data(loader()).test
    batches = list(split.batches(3, geometry=Preprocessing(size=(8, 8))))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 3, 2, 2), (4, 3, 2, 2), (2, 3, 2, 2)]
    assert torch.cat([y for _, y in batches]).tolist() == split.labels.tolist()
    assert (len(split), split.shape(), split.classes) == (10, (3, 2, 2), ("0", "1"))
    assert len(list(split.batches(3))) == 3  # a second pass


def test_a_loader_that_drops_the_last_batch_is_counted_right() -> None:
    assert len(load_data(loader(drop_last=True)).test) == 8


def test_a_loader_takes_no_order() -> None:
    with pytest.raises(InputError, match=r"order cannot be given for a DataLoader.*load_data\(loader\.dataset\)"):
        load_data(loader()).test.batches(2, order=torch.tensor([0]))


def test_a_part_of_a_loader() -> None:
    for shuffle in (False, True):
        part = load_data(loader(shuffle=shuffle)).test.take(4, seed=1)
        images = torch.cat([x for x, _ in part.batches(4)])[:, 0, 0, 0]
        assert torch.equal(images.long() % 2, part.labels)
        assert sorted(part.labels.tolist()) == [0, 0, 1, 1]


def test_loaders_share_their_classes() -> None:
    data = load_data({"train": loader(), "test": loader(1)})
    assert data.train.classes == data.test.classes == ("0", "1")


def test_loader_fingerprints() -> None:
    plain, again, shuffled, reshuffled = (load_data(loader(shuffle=s)).test for s in (False, False, True, True))
    assert plain.fingerprint == again.fingerprint
    assert shuffled.fingerprint == reshuffled.fingerprint
    assert plain.fingerprint != load_data(loader(11)).test.fingerprint


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(3, 2, 2), 0)])


def test_streams_need_a_loader() -> None:
    with pytest.raises(InputError, match="without rows by number"):
        load_data(Stream())
    assert len(load_data(DataLoader(Stream())).test) == 1


@pytest.mark.parametrize("items", [[torch.zeros(3, 2, 2)], [(torch.zeros(2, 2), 0)], [(torch.zeros(3, 2, 2), 0.5)]])
def test_loaders_of_something_else_are_refused(items: list[Any]) -> None:
    with pytest.raises(InputError, match="batch 0 of the DataLoader"):
        load_data(DataLoader(items))  # type: ignore[arg-type]


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(InputError, match="'test' is empty"):
        load_data(DataLoader([], 2))  # type: ignore[arg-type]


def test_items_count_where_they_contradict_the_listed_labels() -> None:
    class Coarse(Dataset[Any]):
        targets = (0, 1, 2, 3, 4, 5)

        def __len__(self) -> int:
            return 6

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return torch.zeros(3, 4, 4, dtype=torch.uint8), self.targets[row] // 2

    assert load_data(Coarse()).test.labels.tolist() == [0, 0, 1, 1, 2, 2]
