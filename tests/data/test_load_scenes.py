import json
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
