import unicodedata
import warnings
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
    with pytest.warns(UserWarning, match="not called like a split are passed over: thumbnails"):
        data = load_data(grow(tmp_path, "train/a/1.png", "test/a/1.png", "thumbnails/1.png"))
    assert data.describe()["sizes"] == {"test": 1, "train": 1}


def test_split_names_count_in_any_case(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path / "a", "Train/cat/1.png", "Test/cat/2.png"))
    assert data.describe()["sizes"] == {"test": 1, "train": 1}
    assert data.classes == ("cat",)
    with pytest.raises(InputError, match="Train, train; rename"):
        load_data(grow(tmp_path / "b", "Train/cat/1.png", "train/cat/2.png"))


def test_numbered_folders_are_labels_by_their_number(tmp_path: Path) -> None:
    root = grow(tmp_path, *(f"test/{i}/a.png" for i in range(12)))
    with pytest.warns(UserWarning, match=r"folder '10' is label 10. Sorted as text, .*ImageFolder does, it would be 2"):
        data = load_data(root)
    assert data.classes == tuple(str(i) for i in range(12))
    images, labels = next(data.test.batches(12))
    assert images[:, 0, 0, 0].tolist() == labels.tolist()  # red is the place in the list above, the folder's number
    assert sorted(labels.tolist()) == list(range(12))
    assert data.describe()["notes"] == list(data.notes)


def test_labels_that_are_not_the_folders_number_are_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not 0 to 1: folder '1' is label 0"):
        load_data(grow(tmp_path / "a", "1/a.png", "2/a.png"))
    with pytest.warns(UserWarning, match="'class_10' is label 1"):
        load_data(grow(tmp_path / "b", "class_1/a.png", "class_2/a.png", "class_10/a.png"))


def test_classes_that_differ_by_form_only_are_refused(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    with pytest.raises(InputError, match=r"class folders: .* differ by Unicode form, spaces or zeros only"):
        load_data(grow(tmp_path / "a", f"train/{one}/1.png", f"test/{other}/1.png"))
    with pytest.raises(InputError, match="'Cat' and 'cat' differ by case only, from split to split"):
        load_data(grow(tmp_path / "b", "train/Cat/1.png", "test/cat/1.png"))
    with pytest.warns(UserWarning, match="'A' and 'a' differ by case only and count as 2 classes"):
        assert load_data(grow(tmp_path / "c", "A/1.png", "a/1.png")).classes == ("A", "a")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX"])
def test_hidden_folders_are_neither_classes_nor_pictures(tmp_path: Path, hidden: str) -> None:
    root = grow(tmp_path, "test/cat/1.png", f"test/cat/{hidden}/1.png", "test/dog/1.png", f"test/{hidden}/1.png")
    (root / hidden).mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(root)
    assert (data.classes, data.test.labels.tolist()) == (("cat", "dog"), [0, 1])


def test_links_that_lead_round_are_said(tmp_path: Path) -> None:
    root = grow(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat" / "all").symlink_to(root)
    with pytest.warns(UserWarning, match=r"1 links of .* are passed over: .*cat/all"):
        assert load_data(root).test.labels.tolist() == [0, 1]
    (root / "kitten").symlink_to(root / "cat")
    with pytest.raises(InputError, match=r"class folders .*cat and 'kitten' are the same folder"):
        load_data(root)


def test_pictures_of_any_ending_are_loaded_and_other_files_counted(tmp_path: Path) -> None:
    root = grow(tmp_path, "cat/1.JPG", "cat/2.jfif", "cat/3.tga", "cat/4.webp", "dog/1.png")
    for name in ("cat/5.heic", "cat/6.heic", "dog/about.txt", "dog/.hidden"):
        (root / name).touch()
    with pytest.warns(UserWarning, match=r"3 files of .* passed over: .heic \(2\), .txt \(1\)"):
        data = load_data(root)
    assert data.test.labels.tolist() == [0, 0, 0, 0, 1]
    assert len(next(data.test.batches(5))[0]) == 5
    (root / "dog" / "1.png").unlink()
    with pytest.raises(InputError, match=r"class folder '.*dog' holds no pictures that Pillow reads, but files .txt"):
        load_data(root)


def test_splits_under_other_names(tmp_path: Path) -> None:
    data = load_data(grow(tmp_path, "Training/a/1.png", "Training/b/1.png", "dev/a/2.png", "testing/b/3.png"))
    assert sorted(data.splits) == ["dev", "test", "train"]
    assert (data.train.name, data.test.name) == ("train", "test")


def test_a_class_that_is_never_trained_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="split 'train' holds no picture of 'c', which other splits hold"):
        load_data(grow(tmp_path, "train/a/1.png", "train/b/1.png", "test/b/1.png", "test/c/1.png"))
