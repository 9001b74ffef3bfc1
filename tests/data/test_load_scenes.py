import json
import unicodedata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data import load_scenes as file
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.load_scenes import load_scenes, paired
from whatwhere.errors import InputError

NAMES = ["sky", "road", "car"]


def describe(folder: Path, **entries: Any) -> None:
    (folder / "classes.json").write_text(json.dumps({"classes": NAMES, **entries}))


def save(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train: 3 scenes of 2 x 3 whose map is full of their number; test: 1."""
    for split, n in (("train", 3), ("test", 1)):
        for i in range(n):
            save(tmp_path / split / "images" / f"f{i}.jpg", np.full((2, 3, 3), 20 * i))
            save(tmp_path / split / "labels" / f"f{i}.png", np.full((2, 3), i))
    describe(tmp_path)
    return tmp_path


def table(frames: list[Any] | None = None, n: int = 3) -> datasets.Dataset:
    """Scenes whose map is full of their number."""
    pictures = [Image.new("RGB", (3, 2), (20 * i, 0, 0)) for i in range(n)]
    maps = [Image.new("L", (3, 2), i) for i in range(n)]
    columns: dict[str, Any] = {"image": pictures, "label": maps, **({"frame": frames} if frames else {})}
    features: dict[str, Any] = {"image": datasets.Image(), "label": datasets.Image()}
    if frames:
        features["frame"] = datasets.Value("int64" if isinstance(frames[0], int) else "string")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_folders(folders: Path) -> None:
    scenes = load_scenes(folders)
    assert scenes.name == folders.name
    assert scenes.classes == tuple(NAMES)
    assert scenes.describe()["sizes"] == {"train": 3, "test": 1}
    for i, (picture, labels) in enumerate(scenes.train.rows()):
        assert picture.float().mean() == pytest.approx(20 * i, abs=2)
        assert labels["class"].unique().tolist() == [i]
    assert scenes.train.groups.tolist() == [0, 1, 2]
    assert load_scenes(scenes) is scenes


def test_only_pictures_are_maps(folders: Path) -> None:
    (folders / "train" / "labels" / "f0.xml").write_text("<polygons/>")
    assert load_scenes(folders).train[0][1]["class"].unique().tolist() == [0]
    (folders / "train" / "labels" / "f1.png").unlink()
    with pytest.raises(InputError, match=r"f1\.jpg has no label map; put .*labels/f1\.png there"):
        paired(folders / "train" / "images", folders / "train" / "labels")
    (folders / "train" / "labels").rename(folders / "train" / "masks")
    with pytest.raises(InputError, match=r"put .*train/labels there \(it holds images, masks\)"):
        load_scenes(folders)


@pytest.mark.parametrize(("ignored", "found"), [(None, [0, 1, 2]), (2, [0, 1, 255]), (0, [255, 1, 2])])
def test_the_ignored_value_is_unlabelled(folders: Path, ignored: int | None, found: list[int]) -> None:
    describe(folders, **({} if ignored is None else {"ignore_index": ignored}))
    assert [int(m["class"][0, 0]) for _, m in load_scenes(folders).train.rows()] == found


def test_camvids_void_after_its_classes(folders: Path) -> None:
    save(folders / "train" / "labels" / "f0.png", [[0, 1, 2], [3, 3, 255]])
    with pytest.raises(InputError, match="label 3 is outside"):
        _ = load_scenes(folders).train[0]
    describe(folders, ignore_index=3)
    assert load_scenes(folders).train[0][1]["class"].tolist() == [[0, 1, 2], [255, 255, 255]]
    save(folders / "train" / "labels" / "f0.png", [[0, 1]])
    with pytest.raises(InputError, match="give maps of the pictures' size"):
        _ = load_scenes(folders).train[0]


def test_colours_are_optional(folders: Path) -> None:
    assert load_scenes(folders).colours == ()
    describe(folders, colors=[[0, 0, 0], [255, 0, 9], [1, 2, 3], [7, 7, 7]])
    assert load_scenes(folders).colours == ((0, 0, 0), (255, 0, 9), (1, 2, 3))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[]", r"must hold .*classes.*1 to 255 names"),
        ('{"classes": []}', "1 to 255 names"),
        ('{"classes": "road"}', "1 to 255 names"),
        ('{"classes": ["a", 2]}', "1 to 255 names"),
        ('{"classes": ["a", "b", "a"]}', "the class 'a' appears twice"),
        ('{"classes": ["a"], "ignore_index": 256}', "ignore_index=256 must be a whole number from 0 to 255"),
        ('{"classes": ["a"], "ignore_index": true}', "ignore_index=True must be"),
        ('{"classes": ["a"], "colors": [[1, 2]]}', r"colors must be \[\[r, g, b\], \.\.\.\]"),
        ('{"classes": ["a"], "colors": null}', "colors must be"),
        ('{"classes": ["a"], "colors": [["1", 2, 3]]}', "colors must be"),
        ("{", "not a JSON"),
    ],
)
def test_a_wrong_description_is_refused(folders: Path, written: str, message: str) -> None:
    (folders / "classes.json").write_text(written)
    with pytest.raises(InputError, match=rf"classes\.json.*{message}"):
        load_scenes(folders)


def test_what_is_missing_is_named(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folders / "classes.json").unlink()
    with pytest.raises(InputError, match=r"write .*classes\.json, such as \{\"classes\""):
        load_scenes(folders)
    with pytest.raises(InputError, match=r"data='nowhere' matches nothing.*drawn/streets"):
        load_scenes("nowhere")
    empty = tmp_path_factory.mktemp("empty")
    describe(empty)
    with pytest.raises(InputError, match="holds no scenes; give"):
        load_scenes(empty)
    (empty / "train" / "images").mkdir(parents=True)
    (empty / "train" / "labels").mkdir()
    with pytest.raises(InputError, match="'train' is empty"):
        load_scenes(empty)


def test_drawn_streets_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "whatwhere.data.drawn_scenes.drawn_streets", lambda: drawn_streets(train=1, validation=1, test=1)
    )
    assert load_scenes("drawn/streets").name == "drawn/streets"


# Tables


def test_parquet_tables(tmp_path: Path) -> None:
    frames = [f"v1_{n}" for n in (30, 60, 0)] + [f"v2_{n}" for n in range(9)]
    table(frames, 12).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    table(frames[:3]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    describe(tmp_path, ignore_index=1, classes=[str(i) for i in range(12)])
    scenes = load_scenes(tmp_path)
    assert scenes.describe()["sizes"] == {"train": 12, "test": 3}
    assert [int(m["class"][0, 0]) for _, m in scenes.train.rows()] == [0, 255, *range(2, 12)]
    assert scenes.train.groups.tolist() == [0] * 3 + [1] * 9
    assert scenes.train.take(4).groups.tolist()


def test_tables_written_by_save_to_disk(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table([1, 2, 3])}).save_to_disk(tmp_path)
    describe(tmp_path)
    scenes = load_scenes(tmp_path)
    assert [int(m["class"][0, 0]) for _, m in scenes.train.rows()] == [0, 1, 2]
    assert scenes.train.groups.tolist() == [0, 0, 0]  # frames by number: one video


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    describe(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read as a Hugging Face data set"):
        load_scenes(tmp_path)
    datasets.Dataset.from_dict({"image": [1], "labels": [2]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(
        InputError, match=r"split 'train' has no column label; the columns are 'image' \(int64\), 'labels'"
    ):
        load_scenes(tmp_path)


# Cityscapes


def test_cityscapes_as_distributed(tmp_path: Path) -> None:
    for split, frame in (
        ("train", "aachen_000000_000019"),
        ("train", "aachen_000000_000020"),
        ("val", "bonn_000001_000019"),
    ):
        city = frame.split("_")[0]
        save(tmp_path / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", np.zeros((2, 3, 3)))
        save(tmp_path / "gtFine" / split / city / f"{frame}_gtFine_labelIds.png", [[7, 26, 0], [33, 3, 11]])
    scenes = load_scenes(tmp_path)
    assert scenes.name == "cityscapes"
    assert scenes.describe()["sizes"] == {"train": 2, "val": 1}
    assert scenes.validation is scenes.test
    assert scenes.train.groups.tolist() == [0, 0]
    labels = scenes.train[0][1]["class"]
    assert labels.tolist() == [[0, 13, 255], [18, 255, 2]]
    assert [scenes.classes[i] for i in (0, 13, 18, 2)] == ["road", "car", "bicycle", "building"]
    save(tmp_path / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png", [[7, 26, 34], [7, 7, 7]])
    with pytest.raises(InputError, match="label 34 is outside"):
        _ = load_scenes(tmp_path).train[0]


def test_cityscapes_without_its_splits(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit" / "test").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no scenes.*Cityscapes' train and val"):
        load_scenes(tmp_path)


def test_stored_values_are_bytes(folders: Path) -> None:
    assert torch.equal(file.described(folders).values, torch.arange(256, dtype=torch.uint8))


# What is passed over, lost or doubled


def masks(folder: Path, *values: Any, split: str = "test", suffix: str = ".png") -> Path:
    """A scene of 2 x 3 for each map."""
    for i, value in enumerate(values):
        save(folder / split / "images" / f"f{i}.png", np.zeros((2, 3, 3)))
        save(folder / split / "labels" / f"f{i}{suffix}", value)
    return folder


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Train", "Val", "Test"), ("training", "dev", "eval")])
def test_splits_under_other_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for split in names:
        masks(tmp_path, [[0, 1, 2], [0, 1, 2]], split=split)
    describe(tmp_path)
    scenes = load_scenes(tmp_path)
    assert len(scenes.splits) == 3
    assert len({id(scenes.train), id(scenes.validation), id(scenes.test)}) == 3
    (tmp_path / names[0]).rename(tmp_path / "fold1")
    with pytest.warns(UserWarning, match="not called like a split are passed over: fold1"):
        assert len(load_scenes(tmp_path).splits) == 2


def test_pictures_and_maps_under_other_names_are_named(folders: Path) -> None:
    (folders / "train" / "images").rename(folders / "train" / "Images")
    assert len(load_scenes(folders).train) == 3
    (folders / "train" / "labels").rename(folders / "train" / "masks")
    with pytest.raises(InputError, match=r"put .*train/labels there \(it holds Images, masks\)"):
        load_scenes(folders)


def test_masks_of_0_and_255_lose_a_class(tmp_path: Path) -> None:
    describe(masks(tmp_path, [[0, 255, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]), classes=["background", "object"])
    with pytest.raises(
        InputError, match=r"'object' occurs in none of the 2 .* Store the class as 1; or, .*ignore_index"
    ):
        load_scenes(tmp_path)
    describe(tmp_path, classes=["background", "object"], ignore_index=255)
    assert load_scenes(tmp_path).test.absent == ("object",)
    describe(tmp_path, classes=["object", "background"])
    save(tmp_path / "test" / "labels" / "f0.png", [[1, 255, 1], [1, 1, 1]])
    save(tmp_path / "test" / "labels" / "f1.png", [[1, 255, 1], [1, 1, 1]])
    with pytest.raises(InputError, match=r"'object' occurs in none .* Store the class as 0"):
        load_scenes(tmp_path)


def test_a_class_of_several_that_may_be_stored_as_255_is_said(tmp_path: Path) -> None:
    describe(masks(tmp_path, [[0, 1, 255], [0, 1, 255]]))
    with pytest.warns(
        UserWarning, match="'car' occurs in none of the 1 label maps looked at, and 255 does, which counts"
    ):
        assert load_scenes(tmp_path).notes
    save(tmp_path / "test" / "labels" / "f0.png", [[0, 1, 255], [0, 2, 255]])
    assert load_scenes(tmp_path).notes == ()


def test_two_files_of_one_name_are_refused(folders: Path) -> None:
    save(folders / "train" / "labels" / "f1.tif", [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(InputError, match=r"labels holds 2 label maps of one name \(f1\.png, f1\.tif\); keep"):
        load_scenes(folders)
    (folders / "train" / "labels" / "f1.tif").unlink()
    save(folders / "train" / "images" / "f1.png", np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match=r"images holds 2 pictures of one name \(f1\.jpg, f1\.png\); keep"):
        load_scenes(folders)


def test_lossy_maps_are_refused_as_they_are_loaded(tmp_path: Path) -> None:
    describe(masks(tmp_path, [[0, 1, 2], [0, 1, 2]], suffix=".jpg"))
    with pytest.raises(InputError, match=r"f0\.jpg\) cannot be read \(it is stored with loss \(JPEG\)"):
        load_scenes(tmp_path)


def test_what_is_left_without_a_partner_is_said(folders: Path) -> None:
    save(folders / "train" / "labels" / "old.png", [[0, 0, 0], [0, 0, 0]])
    (folders / "train" / "images" / "f9.heic").touch()
    (folders / "train" / "images" / "more").mkdir()
    with pytest.warns(UserWarning, match="passed over") as told:
        scenes = load_scenes(folders)
    assert len(told) == len(scenes.notes) == 3
    assert "without a picture are passed over: old.png." in scenes.notes[1]
    assert ".heic (1)" in scenes.notes[0]
    assert scenes.describe()["notes"] == list(scenes.notes)


def test_names_are_paired_in_any_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    save(tmp_path / "test" / "images" / f"{composed}.png", np.zeros((2, 3, 3)))
    save(tmp_path / "test" / "labels" / f"{decomposed}.png", [[0, 1, 2], [0, 1, 2]])
    describe(tmp_path)
    assert load_scenes(tmp_path).test[0][1]["class"].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_class_names_that_differ_by_form_only_are_refused(folders: Path) -> None:
    describe(folders, classes=["sky", "road", "road "])
    with pytest.raises(InputError, match=r"classes\.json: 'road' and 'road ' differ by Unicode form"):
        load_scenes(folders)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_that_is_turned_beside_a_map_that_is_not_is_refused(tmp_path: Path, orientation: int) -> None:
    describe(masks(tmp_path, [[0, 1, 2], [0, 1, 2]]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, labels = tmp_path / "test" / "images" / "f0.png", tmp_path / "test" / "labels" / "f0.png"
    Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3)).save(picture, exif=exif)
    with pytest.raises(InputError, match=rf"f0\.png\): the picture's EXIF orientation is {orientation}, its map's 1"):
        _ = load_scenes(tmp_path).test[0]
    Image.fromarray(np.arange(0, 18, 3, dtype=np.uint8).reshape(2, 3) // 8).save(labels, exif=exif)
    shown, maps = load_scenes(tmp_path).test[0]
    assert torch.equal(shown[0] // 8, maps["class"])


def test_the_users_own_description_is_corrected_not_deleted(folders: Path) -> None:
    (folders / "classes.json").write_text("{")
    with pytest.raises(InputError, match=r"classes\.json is not a JSON file .*; correct it\.$"):
        load_scenes(folders)
