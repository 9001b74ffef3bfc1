import io
import os
import sys
from pathlib import Path
from typing import Any, get_args, get_overloads, get_type_hints

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from whatwhere.data import Data, load_data
from whatwhere.data.load import BUILT_IN
from whatwhere.data.load_scenes import DRAWN
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError

CIFAR = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar100"


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def table(n: int = 6, **columns: Any) -> datasets.Dataset:
    """Pictures whose value is their row, and whatever columns are given as (values, feature)."""
    features = {"img": datasets.Image(), **{name: feature for name, (_, feature) in columns.items()}}
    values = {"img": [{"bytes": png(i), "path": f"p{i}.png"} for i in range(n)]}
    values |= {name: column for name, (column, _) in columns.items()}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def labelled(n: int = 6) -> datasets.Dataset:
    return table(n, label=([i % 2 for i in range(n)], datasets.ClassLabel(names=["cat", "dog"])))


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "pets"
    folder.mkdir()
    labelled(6).to_parquet(str(folder / "train-00000-of-00001.parquet"))
    labelled(4).to_parquet(str(folder / "test-00000-of-00001.parquet"))
    return folder


def test_a_folder_of_parquet_files(parquet: Path) -> None:
    data = load_data(parquet)
    assert data.name == "pets"
    assert data.describe()["sizes"] == {"train": 6, "test": 4}
    assert data.classes == ("cat", "dog")
    images, labels = next(data.train.batches(8))
    assert images[:, 2, 3, 3].tolist() == [0, 1, 2, 3, 4, 5]
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_saved_folder(tmp_path: Path) -> None:
    datasets.DatasetDict({"validation": labelled()}).save_to_disk(str(tmp_path / "saved"))
    data = load_data(tmp_path / "saved")
    assert len(data.test) == 6
    with pytest.raises(InputError, match=r"no split to train on \('train'\).*'validation'"):
        _ = data.train


def test_tables_in_memory_follow_selection_and_shuffling() -> None:
    data = load_data(labelled(6).shuffle(seed=1).select([3, 0, 5]))
    images, labels = next(data.test.batches(3))
    assert torch.equal(images[:, 0, 0, 0].long() % 2, labels)
    assert len(set(images[:, 0, 0, 0].tolist())) == 3


def test_a_mapping_names_the_splits() -> None:
    data = load_data({"train": labelled(6), "test": TensorDataset(torch.rand(3, 3, 4, 4), torch.tensor([0, 1, 1]))})
    assert data.classes == data.test.classes == ("cat", "dog")
    assert [len(data.train), len(data.test)] == [6, 3]
    assert load_data(data) is data


def test_classes_are_counted_over_all_splits() -> None:
    train = table(3, label=([0, 1, 4], datasets.Value("int64")))
    test = table(2, label=([0, 2], datasets.Value("int8")))
    assert load_data({"train": train, "test": test}).test.classes == ("0", "1", "2", "3", "4")


def test_different_class_names_are_refused() -> None:
    other = table(2, label=([0, 0], datasets.ClassLabel(names=["bird"])))
    with pytest.raises(InputError, match="'train': 2 classes, 'test': 1 classes"):
        load_data({"train": labelled(), "test": other})


@pytest.mark.parametrize("name", ["known/what", "known/where", "digits"])
def test_built_in_names(name: str) -> None:
    data = load_data(name)
    assert data.name == name
    assert data.test.shape() == (3, 32, 32)


def test_unknown_names_are_told_the_choices() -> None:
    with pytest.raises(InputError, match=r"data='known/wher'.*Did you mean 'known/where'.*hf/<hub id>"):
        load_data("known/wher")
    with pytest.raises(
        InputError, match=r"Did you mean 'hf/uoft-cs/cifar100'.*drawn/boxes\. There is no folder /.*100"
    ):
        load_data("cifar100")


def test_a_file_and_a_number_are_no_source(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="is a file; give the folder"):
        load_data(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="source is a int"):
        load_data(3)
    with pytest.raises(InputError, match="no split"):
        load_data({})


def test_columns_are_refused_where_there_are_none() -> None:
    with pytest.raises(InputError, match="label_column"):
        load_data("digits", label_column="label")


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> None:
        raise ConnectionError("Couldn't reach 'a/b' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(InputError, match=r"hf/a/b.*ConnectionError.*give the folder of its parquet files"):
        load_data("hf/a/b")


def test_a_hub_name_is_split_into_repository_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def hub(*arguments: object) -> dict[str, datasets.Dataset]:
        asked.append(arguments)
        return {"test": labelled()}

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert [load_data(name).name for name in ("hf/a/b", "hf/a/b:c")] == ["hf/a/b", "hf/a/b:c"]
    assert asked == [("a/b", None), ("a/b", "c")]


def test_a_broken_parquet_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as a Hugging Face data set"):
        load_data(tmp_path / "bad")


def test_importing_does_not_import_datasets() -> None:
    code = "import sys, whatwhere.data; sys.exit('datasets' in sys.modules or 'sklearn' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-100 at {CIFAR}")
def test_cifar100_has_its_published_mean() -> None:
    data: Data = load_data(CIFAR)
    assert data.describe()["sizes"] == {"train": 50000, "test": 10000}
    assert len(data.classes) == 100
    images, labels = next(data.train.take(2000).batches(2000))
    assert torch.bincount(labels).tolist() == [20] * 100
    mean = images.double().mean((0, 2, 3)).numpy() / 255
    assert np.allclose(mean, [0.5071, 0.4865, 0.4409], atol=0.02)


def test_names_have_the_types_of_what_they_name():
    """What mypy says of calls stands in tests/typed_calls.py; here, that the names it knows are those there are."""
    hints = [get_type_hints(overload) for overload in get_overloads(load_data)]
    of = {hint["return"]: hint["source"] for hint in hints if "Literal" in str(hint["source"])}
    scenes = [name for part in get_args(of[Scenes]) for name in get_args(part)]
    assert (scenes, list(get_args(of[Data]))) == ([DRAWN], list(BUILT_IN))
