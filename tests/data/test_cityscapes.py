from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whatwhere.data.cityscapes import CATEGORIES, CLASSES, cityscapes_parts, train_ids
from whatwhere.errors import InputError
from whatwhere.say.concepts import Merged

FRAMES = ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313", "bochum_000000_000885")
# The table of the Cityscapes scripts, written out once more: label -> train id.
TRAIN_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def save(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def map_file(root: Path, frame: str, split: str = "train") -> Path:
    return root / "gtFine" / split / frame.split("_")[0] / f"{frame}_gtFine_labelIds.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for frame in FRAMES:
        picture = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        save(tmp_path / "leftImg8bit" / "train" / frame.split("_")[0] / f"{frame}_leftImg8bit.png", picture)
        save(map_file(tmp_path, frame), rng.integers(0, 34, (6, 8), dtype=np.uint8))
        save(map_file(tmp_path, frame).with_name(f"{frame}_gtFine_color.png"), picture)
    return tmp_path


def test_pictures_and_maps_come_in_pairs(folder: Path) -> None:
    parts = cityscapes_parts(folder, "train")
    assert [p.name.removesuffix("_leftImg8bit.png") for p in parts.pictures] == list(FRAMES)
    assert [m.name.removesuffix("_gtFine_labelIds.png") for m in parts.maps] == list(FRAMES)
    assert all(m.is_file() for m in parts.maps)
    assert parts.classes == tuple(CLASSES.values())
    assert len(parts.classes) == 19


def test_a_group_is_a_sequence_of_a_city(folder: Path) -> None:
    assert cityscapes_parts(folder, "train").groups.tolist() == [0, 1, 2, 2]


def test_labels_become_train_ids() -> None:
    values = train_ids()
    for label in range(256):
        expected = TRAIN_IDS.index(label) if label in TRAIN_IDS else 255 if label < 34 else 254
        assert int(values[label]) == expected


def test_categories_are_made_of_classes() -> None:
    names = tuple(CLASSES.values())
    assert Merged(CATEGORIES, names).names == tuple(CATEGORIES)
    assert sorted(c for members in CATEGORIES.values() for c in members) == sorted(set(names) - {"sky"})


def test_what_is_wrong_is_named_with_its_file(folder: Path) -> None:
    with pytest.raises(InputError, match=r"split='test' matches nothing.*train, val"):
        cityscapes_parts(folder, "test")
    with pytest.raises(InputError, match=r"leftImg8bit.val holds no <city>.*unpack"):
        cityscapes_parts(folder, "val")
    map_file(folder, FRAMES[0]).unlink()
    with pytest.raises(InputError, match=rf"{FRAMES[0]}_leftImg8bit.png has no label map; put .*gtFine_labelIds.png"):
        cityscapes_parts(folder, "train")


def test_sizes_must_agree(folder: Path) -> None:
    save(map_file(folder, FRAMES[1]), np.zeros((6, 9), dtype=np.uint8))
    with pytest.raises(InputError, match=rf"{FRAMES[1]}_gtFine.* is \(9, 6\) \(W, H\), its picture \(8, 6\)"):
        cityscapes_parts(folder, "train")


def test_a_broken_map_is_named(folder: Path) -> None:
    map_file(folder, FRAMES[1]).write_bytes(b"no picture")
    with pytest.raises(InputError, match=rf"{FRAMES[1]}_gtFine_labelIds.png cannot be read"):
        cityscapes_parts(folder, "train")


def test_files_keep_their_names(folder: Path) -> None:
    city = folder / "leftImg8bit" / "train" / "aachen"
    (city / f"{FRAMES[0]}_leftImg8bit.png").rename(city / "one_leftImg8bit.png")
    (folder / "gtFine/train/aachen" / f"{FRAMES[0]}_gtFine_labelIds.png").rename(
        folder / "gtFine/train/aachen/one_gtFine_labelIds.png"
    )
    with pytest.raises(InputError, match=r"one_leftImg8bit.png is not named <city>_<sequence>_<frame>"):
        cityscapes_parts(folder, "train")
