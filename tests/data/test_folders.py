from pathlib import Path

import pytest
from PIL import Image

from whatwhere.data import load_data
from whatwhere.errors import InputError


def grow(root: Path, *names: str) -> Path:
    """Picture files; each one's red value is its place in the list."""
    for value, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    return root


def test_splits_and_classes(tmp_path: Path) -> None:
    root = grow(tmp_path / "pets", "train/dog/a.png", "train/cat/b.png", "train/cat/deep/c.JPG", "val/dog/d.png")
    (root / "README.md").write_text("not a picture")
    (root / "train" / ".cache").mkdir()
    data = load_data(root)
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.test.labels.tolist() == [1]
    assert next(data.train.batches(3))[0][::2, 0, 0, 0].tolist() == [1, 0]


def test_classes_alone_are_one_split(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path, "b/1.png", "a/2.png"))
    assert list(data.splits) == ["test"]
    assert (data.classes, data.test.labels.tolist()) == (("a", "b"), [0, 1])


def test_a_split_may_lack_a_class(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png"))
    assert data.test.labels.tolist() == [1]
    assert data.test.classes == ("a", "b")


def test_pictures_without_labels(tmp_path: Path) -> None:
    data = load_data(str(grow(tmp_path, "2.png", "1.png")))
    assert data.classes == ()
    assert data.test.labels.tolist() == [-1, -1]
    assert next(data.test.batches(2))[0][:, 0, 0, 0].tolist() == [1, 0]


def test_splits_without_labels(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path, "train/1.png", "test/2.png", "test/3.png"))
    assert data.describe()["sizes"] == {"test": 2, "train": 1}


def test_loose_pictures_beside_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(1\.png, \.\.\.\) next to folders \(cat"):
        load_data(grow(tmp_path, "1.png", "cat/2.png"))


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        load_data(tmp_path)
    grow(tmp_path, "cat/1.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"class folder '.*dog' holds no pictures"):
        load_data(tmp_path)


def test_fingerprints_do_not_depend_on_the_place(tmp_path: Path) -> None:
    one, two = (load_data(grow(tmp_path / name, "a/1.png", "b/2.png")).test for name in ("x", "y"))
    assert one.fingerprint == two.fingerprint


def test_a_folder_that_could_be_a_split_or_a_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'train', which could be a split or a class.*\(bus, car\)"):
        load_data(grow(tmp_path, "bus/1.png", "car/1.png", "train/1.png"))


def test_other_folders_beside_splits_with_classes_are_passed_over(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path, "train/a/1.png", "test/a/1.png", "thumbnails/1.png"))
    assert data.describe()["sizes"] == {"test": 1, "train": 1}


def test_split_names_count_in_any_case(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path / "a", "Train/cat/1.png", "Test/cat/2.png"))
    assert data.describe()["sizes"] == {"test": 1, "train": 1}
    assert data.classes == ("cat",)
    with pytest.raises(InputError, match="Train, train; rename"):
        load_data(grow(tmp_path / "b", "Train/cat/1.png", "train/cat/2.png"))
