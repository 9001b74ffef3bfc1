"""Pascal VOC in its original layout, in small folders made here."""

from pathlib import Path

import pytest
from PIL import Image

from whatwhere.data.voc import CLASSES, voc_splits
from whatwhere.errors import InputError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
)


def put(root: Path, year: str, lists: dict[str, dict[str, list[tuple[object, ...]]]]) -> Path:
    """Pictures of 20 x 10 (width x height) with objects (class, difficult, xmin, ymin, xmax, ymax), by list and name."""
    base = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for name, pictures in lists.items():
        (base / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(pictures))
        for picture, objects in pictures.items():
            Image.new("RGB", (20, 10)).save(base / "JPEGImages" / f"{picture}.jpg")
            text = "".join(OBJECT.format(*o) for o in objects)
            (base / "Annotations" / f"{picture}.xml").write_text(
                f"<annotation><filename>{picture}.jpg</filename>{text}</annotation>"
            )
    return root


def test_boxes_are_edges_from_zero_and_difficult_ones_are_kept_apart(tmp_path: Path) -> None:
    root = put(
        tmp_path, "2007", {"trainval": {"1": []}, "test": {"2": [("cat", 1, 1, 1, 20, 10), ("dog", 0, 3, 4, 5, 6)]}}
    )
    splits = voc_splits(root)
    assert list(splits) == ["train", "test"]
    assert len(splits["train"][0][1]) == 0  # a picture without objects
    picture, objects = splits["test"][0]
    assert picture.shape == (3, 10, 20)
    assert objects.boxes.tolist() == [[0, 0, 20, 10], [2, 3, 5, 6]]  # the whole picture; 3 x 3 pixels
    assert [CLASSES[i] for i in objects.labels.tolist()] == ["cat", "dog"]
    assert objects.counted.tolist() == [False, True]


def test_training_pictures_of_all_years_and_the_test_pictures_of_2007(tmp_path: Path) -> None:
    one = [("cat", 0, 1, 1, 5, 5)]
    put(tmp_path, "2007", {"trainval": {"a": one}, "test": {"b": one}})
    put(tmp_path, "2012", {"trainval": {"c": one, "d": one}, "train": {"c": one}, "val": {"d": one}})
    splits = voc_splits(tmp_path)
    assert {name: len(s) for name, s in splits.items()} == {"train": 3, "test": 1}
    assert voc_splits(tmp_path / "VOCdevkit")["train"].fingerprint == splits["train"].fingerprint


def test_without_a_test_set_train_and_val_are_apart(tmp_path: Path) -> None:
    one = [("cat", 0, 1, 1, 5, 5)]
    put(tmp_path, "2012", {"trainval": {"c": one, "d": one}, "train": {"c": one}, "val": {"d": one}})
    assert {name: len(s) for name, s in voc_splits(tmp_path).items()} == {"train": 1, "validation": 1}


def test_what_is_missing_or_strange_is_said(tmp_path: Path) -> None:
    (tmp_path / "VOCdevkit").mkdir()
    with pytest.raises(InputError, match="holds no year with ImageSets/Main"):
        voc_splits(tmp_path)
    put(tmp_path, "2007", {"test": {"a": [("unicorn", 0, 1, 1, 5, 5)]}})
    with pytest.raises(InputError, match=r"a\.xml: 'unicorn' is no class of Pascal VOC"):
        voc_splits(tmp_path)
    (tmp_path / "VOCdevkit/VOC2007/Annotations/a.xml").write_text(
        "<annotation><object><name>cat</name></object></annotation>"
    )
    with pytest.raises(InputError, match=r"a\.xml is no annotation"):
        voc_splits(tmp_path)
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").rename(tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/x.txt")
    with pytest.raises(InputError, match="lists x none is of train or val"):
        voc_splits(tmp_path)
