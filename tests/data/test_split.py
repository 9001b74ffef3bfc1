import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data import memory
from whatwhere.data.pixels import Raw
from whatwhere.data.sources import Files, Memory
from whatwhere.data.split import Split, balanced_rows
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


def numbered(n: int = 10, classes: int = 3) -> Split:
    """A split whose picture i has the value i everywhere."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 4, 5)
    return Split("train", Memory(images), torch.arange(n) % classes, [str(i) for i in range(classes)])


def on_disk(folder: Path, shapes: list[tuple[int, int]]) -> Split:
    paths = [folder / f"{i}.png" for i in range(len(shapes))]
    rng = np.random.default_rng(0)
    for path, shape in zip(paths, shapes, strict=True):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    return Split("test", Files(paths), torch.zeros(len(paths)), ["only"])


def gather(split: Split, size: int, **options: object) -> tuple[Tensor, Tensor]:
    batches = list(split.batches(size, **options))  # type: ignore[arg-type]
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_batches_cover_all_rows_in_order() -> None:
    split = numbered(10)
    batches = list(split.batches(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert [x.dtype for x, _ in batches] == [torch.uint8] * 3
    images, labels = gather(split, 4)
    assert images[:, 0, 0, 0].tolist() == list(range(10))
    assert torch.equal(labels, split.labels)


def test_order_is_followed_with_repeats() -> None:
    images, labels = gather(numbered(10), 2, order=torch.tensor([7, 0, 7, 3, 1]))
    assert images[:, 1, 2, 3].tolist() == [7, 0, 7, 3, 1]
    assert labels.tolist() == [1, 0, 1, 0, 1]
    assert list(numbered().batches(4, order=torch.tensor([], dtype=torch.int64))) == []


@pytest.mark.parametrize("order", [torch.tensor([10]), torch.tensor([-1]), torch.tensor([[1]]), torch.tensor([1.0])])
def test_impossible_order_is_refused_at_once(order: Tensor) -> None:
    with pytest.raises(InputError, match="order"):
        numbered(10).batches(2, order=order)


def test_batches_belong_to_the_caller() -> None:
    split = numbered(4)
    next(split.batches(4))[0].zero_()
    assert gather(split, 4)[0][:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_streaming_gives_the_same_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(60 + i % 7, 70) for i in range(150)]
    geometry, order = Preprocessing(size=(56, 56)), torch.randperm(150)
    kept = gather(on_disk(tmp_path, shapes), 100, geometry=geometry, order=order)
    monkeypatch.setattr(memory, "MEMORY_CAP", 1000)
    split = on_disk(tmp_path, shapes)
    with pytest.warns(UserWarning, match="more than the 0.0 GiB") as seen:
        streamed = gather(split, 100, geometry=geometry, order=order)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = gather(split, 7, geometry=geometry, order=order)
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(kept + kept, streamed + again, strict=True))


def test_pictures_are_decoded_once_for_each_geometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = on_disk(tmp_path, [(8, 8)] * 5)
    reads: list[int] = []
    read = split.source.read

    def counted(rows: Sequence[int]) -> list[Raw]:
        reads.extend(rows)
        return read(rows)

    monkeypatch.setattr(split.source, "read", counted)
    small, large = Preprocessing(size=(4, 4)), Preprocessing(size=(6, 6))
    gather(split, 2, geometry=small)
    once = len(reads)
    gather(split, 2, geometry=Preprocessing(size=(4, 4), mean=(0.1,)))
    assert len(reads) == once
    assert gather(split, 2, geometry=large)[0].shape == (5, 3, 6, 6)
    assert len(reads) == 2 * once


def test_uneven_shapes_ask_for_a_size(tmp_path: Path) -> None:
    split = on_disk(tmp_path, [(8, 8), (8, 8), (9, 8)])
    with pytest.raises(InputError, match=r"row 2 .*2\.png.*\(3, 9, 8\).*give a size"):
        gather(split, 2)
    assert gather(split, 2, geometry=Preprocessing(size=(4, 4)))[0].shape == (3, 3, 4, 4)


@pytest.mark.parametrize("side", [4, 64])  # one thread, several threads
def test_a_broken_file_is_named_and_later_rows_do_not_hang(tmp_path: Path, side: int) -> None:
    split = on_disk(tmp_path, [(side, side)] * 300)
    (tmp_path / "201.png").write_bytes((tmp_path / "201.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"'test'.*row 201 .*201\.png.*Remove or replace"):
        gather(split, 10)


def deep(folder: Path, values: np.ndarray, name: str = "deep.png") -> Split:
    """A split of one grey picture."""
    Image.fromarray(values).save(folder / name)
    return Split("test", Files([folder / name]), torch.zeros(1), ["only"])


def test_a_dark_picture_of_sixteen_bits_is_named_with_its_maximum_and_the_ways_out(tmp_path: Path) -> None:
    twelve = np.array([[0, 1600, 4095]], dtype=np.uint16)
    with pytest.raises(InputError) as refused:
        gather(deep(tmp_path, twelve), 1)
    for said in (
        "deep.png",
        "up to 4095 of 65535",
        "8 bits per channel",
        "values // 16",
        "// 256",
        "scaled to 0..65535",
    ):
        assert said in str(refused.value)
    ways = {"shifted": (twelve // 16).astype(np.uint8), "dark": (twelve // 256).astype(np.uint8), "scaled": twelve * 16}
    expected = {"shifted": [0, 100, 255], "dark": [0, 6, 15], "scaled": [0, 100, 255]}
    for way, values in ways.items():
        assert gather(deep(tmp_path, values, f"{way}.png"), 1)[0][0, 0, 0].tolist() == expected[way]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    split = on_disk(tmp_path, [(8, 8)] * 3)
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"row 1 .*1\.png"):
        gather(split, 2)


def test_a_reader_may_stop_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMORY_CAP", 0)
    split = on_disk(tmp_path, [(64, 64)] * 200)
    batches = split.batches(10)
    with pytest.warns(UserWarning, match="decoded"):
        next(batches)
    batches.close()  # type: ignore[attr-defined]


def test_shape(tmp_path: Path) -> None:
    split = on_disk(tmp_path, [(8, 9)])
    assert split.shape() == (3, 8, 9)
    assert split.shape(Preprocessing(size=(4, 6))) == (3, 4, 6)


@pytest.mark.parametrize(("labels", "row"), [([0, 1, 3], 2), ([0, -1, 2], 1)])
def test_a_label_outside_the_classes_is_named(labels: list[int], row: int) -> None:
    with pytest.raises(InputError, match=rf"'train', row {row}: label {labels[row]} is outside 0..2"):
        Split("train", Memory(torch.zeros(3, 3, 2, 2)), torch.tensor(labels), ["a", "b", "c"])


def test_all_labels_minus_one_mean_none() -> None:
    assert Split("test", Memory(torch.zeros(2, 3, 2, 2)), torch.tensor([-1, -1])).classes == ()


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="'train' is empty"):
        Split("train", Memory(torch.zeros(0, 3, 2, 2)), torch.tensor([]))


def test_take_is_balanced_repeatable_and_without_replacement() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 20)
    rows = balanced_rows(labels, 23, seed=5)
    assert len(set(rows.tolist())) == 23
    assert torch.bincount(labels[rows]).tolist() == [10, 3, 10]
    assert torch.equal(rows, balanced_rows(labels, 23, seed=5))
    assert not torch.equal(rows, balanced_rows(labels, 23, seed=6))


def test_take_draws_every_row_equally_often() -> None:
    labels, drawn = torch.tensor([0, 0, 0, 0, 1, 1]), torch.zeros(6)
    for seed in range(300):
        drawn[balanced_rows(labels, 2, seed)] += 1
    assert drawn.tolist() == pytest.approx([75] * 4 + [150] * 2, abs=30)


def test_take_keeps_pictures_with_labels() -> None:
    split = numbered(30)
    part = split.take(7, seed=1)
    images, labels = gather(part, 3)
    assert len(part) == 7
    assert torch.equal(images[:, 0, 0, 0].long() % 3, labels)
    assert gather(part.take(2), 2)[0].shape == (2, 3, 4, 5)
    assert split.take(30) is split
    assert len(split.take(np.int64(3))) == 3


@pytest.mark.parametrize("n", [0, True, 1.5, range(3)])
def test_take_wants_a_number(n: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f"n={n}: give how many pictures to take, a whole number")):
        numbered(30).take(n)


def test_errors_of_a_part_name_the_row_of_the_whole(tmp_path: Path) -> None:
    split = on_disk(tmp_path, [(8, 8)] * 20)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    part = split.take(3, seed=2)
    first = int(balanced_rows(split.labels, 3, 2)[0])
    with pytest.raises(InputError, match=rf"row {first} .*{first}\.png"):
        gather(part, 2)


def test_fingerprint_knows_content_not_path(tmp_path: Path) -> None:
    shapes = [(8, 8)] * 100
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = on_disk(tmp_path / "a", shapes), on_disk(tmp_path / "b", shapes)
    assert one.fingerprint == two.fingerprint
    assert len(one.fingerprint) == 16
    Image.new("RGB", (8, 8)).save(tmp_path / "b" / "0.png")
    changed = Split("test", two.source, two.labels, two.classes)
    relabelled = Split("test", one.source, one.labels, ["only", "other"])
    assert len({s.fingerprint for s in (one, changed, relabelled, one.take(99))}) == 4


def test_fingerprint_is_golden() -> None:
    assert numbered(10).fingerprint == "a7b1e503da4b7c4f"


def test_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="size=0"):
        numbered().batches(0)


def test_a_file_that_is_gone_is_refused_by_the_fingerprint_too(tmp_path: Path) -> None:
    split = Split("test", Files([tmp_path / "gone.png"]), torch.tensor([0]), ("a",))
    with pytest.raises(
        InputError, match=r"row 0 \(file .*gone\.png\) cannot be read \(No such file or directory\); give"
    ):
        _ = split.fingerprint


def test_grey_and_coloured_pictures_are_kept_apart() -> None:
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    split = Split("test", Memory(images), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    for geometry, channels in ((Preprocessing(), 3), (Preprocessing(channels=1), 1), (Preprocessing(), 3)):
        assert split.shape(geometry) == (channels, 5, 5)
        assert next(split.batches(4, geometry=geometry))[0].shape == (4, channels, 5, 5)
