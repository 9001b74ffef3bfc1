import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from whatwhere.data import load_data
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(3, 2, 2), 0)])


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


def test_a_loader_serves_pictures_by_number() -> None:
    for options in ({}, {"shuffle": True}, {"drop_last": True}):
        split = load_data(loader(**options)).test
        shown = torch.cat([x for x, _ in split.batches(4)])
        parts = list(split.batches(2, order=torch.tensor([7, 0, 7])))
        assert [len(x) for x, _ in parts] == [2, 1]
        assert torch.equal(torch.cat([x for x, _ in parts]), shown[[7, 0, 7]])
        assert torch.equal(torch.cat([y for _, y in parts]), split.labels[[7, 0, 7]])


def test_a_loader_without_rows_takes_no_order() -> None:
    with pytest.raises(InputError, match=r"order cannot be given for this DataLoader.*load_data\(loader\.dataset\)"):
        load_data(DataLoader(Stream())).test.batches(2, order=torch.tensor([0]))


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


def test_streams_are_served_by_their_loader() -> None:
    assert len(load_data(DataLoader(Stream())).test) == 1


@pytest.mark.parametrize("items", [[torch.zeros(3, 2, 2)], [(torch.zeros(2, 2), 0)], [(torch.zeros(3, 2, 2), 0.5)]])
def test_loaders_of_something_else_are_refused(items: list[Any]) -> None:
    with pytest.raises(InputError, match="batch 0 of the DataLoader"):
        load_data(DataLoader(items))  # type: ignore[arg-type]


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(InputError, match="'test' is empty"):
        load_data(DataLoader([], 2))  # type: ignore[arg-type]


# The order of the pictures


def numbers(n: int = 40) -> TensorDataset:
    """Picture i is full of i / 10; its label is i % 2."""
    return TensorDataset(torch.arange(n)[:, None, None, None].expand(n, 3, 2, 2) / 10, torch.arange(n) % 2)


class Own(Sampler[int]):
    """A sampler of the user's own, that shuffles with Python's generator."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter(random.sample(range(self.n), self.n))

    def __len__(self) -> int:
        return self.n


class OwnBatches(Own):
    """Batches of 4 whose order is drawn."""

    def __iter__(self) -> Any:  # type: ignore[override]
        rows = list(super().__iter__())
        return iter([rows[i : i + 4] for i in range(0, self.n, 4)])


class OwnLoader(DataLoader[Any]):
    """A loader that turns its batches round, every other time."""

    passes = 0

    def __iter__(self) -> Any:
        self.passes += 1
        batches = list(super().__iter__())
        return iter(batches[:: 1 if self.passes % 2 else -1])


def shuffling() -> dict[str, DataLoader[Any]]:
    data = numbers()
    weights = torch.rand(40, generator=torch.Generator().manual_seed(0))
    samplers: dict[str, Any] = {
        "RandomSampler": RandomSampler(data, generator=torch.Generator().manual_seed(0)),
        "SubsetRandomSampler": SubsetRandomSampler(range(40)),
        "WeightedRandomSampler": WeightedRandomSampler(weights.tolist(), 40),
        "DistributedSampler": DistributedSampler(data, 1, 0, shuffle=True),
        "Own": Own(40),
    }
    return {
        **{name: DataLoader(data, 4, sampler=sampler) for name, sampler in samplers.items()},
        **{f"batches of {n}": DataLoader(data, batch_sampler=BatchSampler(s, 4, False)) for n, s in samplers.items()},
        "OwnBatches": DataLoader(data, batch_sampler=OwnBatches(40)),  # type: ignore[arg-type]
        "shuffle": DataLoader(data, 4, shuffle=True),
    }


@pytest.mark.parametrize("name", shuffling())
def test_a_loader_that_shuffles_pairs_each_picture_with_its_own_label_in_every_pass(name: str) -> None:
    split = load_data(shuffling()[name]).test
    first, again = (torch.cat([x for x, _ in split.batches(4)])[:, 0, 0, 0] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal((first * 10).round().long() % 2, split.labels)
    assert not split.ordered
    assert split.unsteady == f"shuffles ({'RandomSampler' if name == 'shuffle' else name.removeprefix('batches of ')})"


def test_a_loader_in_a_fixed_order_is_ordered() -> None:
    data = numbers()
    backwards: Any = range(39, -1, -1)
    for loader in (
        DataLoader(data, 4),
        DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 4, False)),
        DataLoader(data, 4, sampler=backwards),
        DataLoader(data, 4, sampler=DistributedSampler(data, 2, 1, shuffle=False)),
    ):
        split = load_data(loader).test
        assert split.ordered
        shown = torch.cat([x for x, _ in split.batches(4)])[:, 0, 0, 0]
        assert torch.equal((shown * 10).round().long() % 2, split.labels)
        part = torch.cat([x for x, _ in split.batches(4, order=torch.tensor([3, 1]))])[:, 0, 0, 0]
        assert torch.equal(part, shown[[3, 1]])


@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_that_a_sampler_makes_are_looked_into(shuffled: bool) -> None:
    data = numbers()
    batches: Any = BatchSampler(RandomSampler(data) if shuffled else SequentialSampler(data), 4, False)
    split = load_data(DataLoader(data, batch_size=None, sampler=batches)).test
    assert split.unsteady == ("shuffles (RandomSampler)" if shuffled else "")
    shown = torch.cat([x for x, _ in split.batches(4)])[:, 0, 0, 0]
    assert torch.equal((shown * 10).round().long() % 2, split.labels)


def test_a_shuffled_order_of_all_is_sorted_away() -> None:
    one, two = (load_data(DataLoader(numbers(), 4, shuffle=True)).test for _ in range(2))
    assert torch.equal(next(one.batches(4))[0], next(two.batches(4))[0])
    assert one.labels.tolist() == [0, 1] * 20


def test_another_order_in_a_later_pass_is_refused() -> None:
    split = load_data(OwnLoader(TensorDataset(torch.zeros(8, 3, 2, 2), torch.arange(8)), 4)).test
    assert split.unsteady == "is a OwnLoader, which has an order of its own"
    with pytest.raises(InputError, match=r"come in another order in this pass; give its Dataset: load_data\("):
        list(split.batches(4))


def test_a_random_transform_is_not_ordered() -> None:
    class Drawn(Dataset[Any]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return torch.rand(3, 2, 2), row

    assert load_data(DataLoader(Drawn(), 3)).test.unsteady == "gives other pictures in each pass (a random transform)"


def test_a_part_of_a_shuffled_loader_does_not_depend_on_the_draw() -> None:
    one, two = (load_data(DataLoader(numbers(), 4, shuffle=True)).test.take(6) for _ in range(2))
    assert one.ordered
    assert one.fingerprint == two.fingerprint
    drawn = load_data(DataLoader(numbers(), 4, sampler=RandomSampler(numbers(), num_samples=20))).test.take(6)
    assert not drawn.ordered  # another run draws 20 others


def test_a_part_of_a_sampled_loader_holds_its_pictures_only() -> None:
    some: Any = SubsetRandomSampler([1, 3, 5, 7])
    part = load_data(DataLoader(numbers(), 2, sampler=some)).test.take(3)
    shown = torch.cat([x for x, _ in part.batches(2)])[:, 0, 0, 0]
    assert set((shown * 10).round().long().tolist()) <= {1, 3, 5, 7}


# Pictures that are no pictures


@pytest.mark.parametrize(
    ("value", "message"), [(torch.nan, "not finite"), (torch.inf, "not finite"), (200.0, "0..255")]
)
def test_batches_of_nan_or_of_floats_up_to_255_are_refused(value: float, message: str) -> None:
    x = torch.rand(6, 3, 2, 2)
    x[4, 0, 0, 0] = value
    with pytest.raises(InputError, match=rf"batch 2 of the DataLoader.*{message}"):
        load_data(DataLoader(TensorDataset(x, torch.arange(6)), 2))
