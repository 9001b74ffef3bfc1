import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.data import downsampled, load_data, memory
from whatwhere.data.downsampled import Arrays
from whatwhere.errors import InputError

WORDS = {"n02119789": 1, "n01440764": 3, "n01484850": 2}


def write(folder: Path, *, save: Any = np.savez, first: int = 1, words: bool = True) -> dict[str, dict[str, Any]]:
    """Three files of random pictures of 4 px."""
    folder.mkdir(exist_ok=True)
    rng, made = np.random.default_rng(0), {}
    for name, n in (("train_data_batch_1", 5), ("train_data_batch_2", 4), ("train_data_batch_10", 3), ("val_data", 6)):
        data = rng.integers(0, 256, (n, 48), dtype=np.uint8)
        made[name] = {"data": data, "labels": (np.arange(n) * 2 + 1) % 3 + first, "mean": data.mean(0)}
        save(folder / f"{name}.npz", **made[name])
    if words:
        (folder / "map_clsloc.txt").write_text("".join(f"{s} {n} a_word\n" for s, n in WORDS.items()))
    return made


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pictures_and_labels_by_hand(tmp_path: Path, save: Any) -> None:
    made = write(tmp_path, save=save)
    data = load_data(tmp_path)
    assert data.classes == ("n01440764", "n01484850", "n02119789")
    names = {"train": ["train_data_batch_1", "train_data_batch_2", "train_data_batch_10"], "val": ["val_data"]}
    for split, files in names.items():
        images, labels = next(data.splits[split].batches(100))
        numbers = np.concatenate([made[f]["labels"] for f in files])
        assert labels.tolist() == [data.classes.index(next(s for s, k in WORDS.items() if k == n)) for n in numbers]
        rows = np.concatenate([made[f]["data"] for f in files])
        for image, row in zip(images, rows, strict=True):  # red first, row by row, then green and blue
            expected = [[[row[16 * c + 4 * y + x] for x in range(4)] for y in range(4)] for c in range(3)]
            assert image.tolist() == expected


def test_without_a_list_classes_are_numbers(tmp_path: Path) -> None:
    for first, names in ((1, ("1", "2", "3")), (0, ("0", "1", "2"))):
        made = write(tmp_path / str(first), first=first, words=False)
        with pytest.warns(UserWarning, match=r"no map_clsloc\.txt says what the labels mean"):
            data = load_data(tmp_path / str(first))
        assert data.classes == names
        assert [data.classes[label] for label in data.test.labels] == [str(n) for n in made["val_data"]["labels"]]


def test_train_and_val_may_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    write(tmp_path)
    for part in ("train", "val"):
        (tmp_path / f"Imagenet4_{part}_npz").mkdir()
        for file in tmp_path.glob(f"{part}_data*.npz"):
            file.rename(tmp_path / f"Imagenet4_{part}_npz" / file.name)
    data = load_data(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "val": 6}
    assert data.test.source.place(3) == "row 3"


def test_what_is_not_compressed_is_read_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "stored")
    write(tmp_path / "packed", save=np.savez_compressed)
    monkeypatch.setattr(memory, "MEMORY_CAP", 0)
    source = load_data(tmp_path / "stored").train.source
    assert isinstance(source, Arrays)
    assert all(isinstance(array.base, np.memmap) or isinstance(array, np.memmap) for array in source.arrays)
    with pytest.raises(InputError, match=r"is compressed and holds .* GiB.* write it again without compression"):
        load_data(tmp_path / "packed")


def test_pickled_files_are_refused_with_what_converts_them(tmp_path: Path) -> None:
    made, places = write(tmp_path), []
    for name, held in made.items():
        (tmp_path / f"{name}.npz").unlink()
        plain = {"data": held["data"], "labels": held["labels"].tolist(), "mean": held["mean"]}
        (tmp_path / name).write_bytes(pickle.dumps(plain))
        places.append(tmp_path / name)
    with pytest.raises(InputError, match=r"holds val_data, a pickle, and reading it would run any code in it") as seen:
        load_data(tmp_path)
    command = str(seen.value).split(":\n")[1].replace("python -c", f"{sys.executable} -c", 1)
    assert all(str(place) in command for place in places)
    subprocess.run(command, shell=True, check=True)
    images, labels = next(load_data(tmp_path).test.batches(10))
    assert images.flatten(1).tolist() == made["val_data"]["data"].tolist()
    assert len(labels) == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.arange(2)}, "cannot be read"),
        ({"data": np.zeros((2, 48), np.uint8), "labels": np.arange(3)}, r"\(2, 48\) of uint8 and 3 labels"),
        ({"data": np.zeros((2, 48)), "labels": np.arange(2)}, r"\(2, 48\) of float64"),
        ({"data": np.zeros((2, 50), np.uint8), "labels": np.arange(2)}, r"\(2, 50\) of uint8"),
        ({"data": np.zeros((2, 48), np.uint8), "labels": np.ones(2)}, "labels of float64"),
        ({"data": np.zeros((2, 48), np.uint8), "labels": np.array([None, 1])}, "cannot be read"),
        ({"data": np.array([[None] * 48] * 2), "labels": np.arange(2)}, "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "val_data.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_data(tmp_path)


def test_a_list_that_does_not_name_every_label_is_refused(tmp_path: Path) -> None:
    write(tmp_path, first=2)
    with pytest.raises(InputError, match=r"names the labels 1 to 3, and the files hold 2 to 4"):
        load_data(tmp_path)


def test_rows_are_copies(tmp_path: Path) -> None:
    arrays = [np.zeros((2, 3, 1, 1), np.uint8), np.ones((1, 3, 1, 1), np.uint8)]
    source = Arrays(arrays)
    assert [int(torch.as_tensor(raw).max()) for raw in source.read([2, 0, 1])] == [1, 0, 0]  # type: ignore[arg-type]
    source.read([0])[0].fill_(7)  # type: ignore[union-attr]
    assert arrays[0].max() == 0
    assert len(source) == 3
    assert downsampled.holds_downsampled(tmp_path) is False
