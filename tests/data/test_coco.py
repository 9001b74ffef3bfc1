"""COCO in its original layout, in small folders made here."""

import json
from pathlib import Path

import pytest
from PIL import Image

from whatwhere.data.coco import coco_splits, holds_coco
from whatwhere.errors import InputError


def put(root: Path, name: str, boxes: list[dict[str, object]]) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / name).mkdir()
    images = [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in (9, 4)]
    for each in images:
        Image.new("RGB", (20, 10)).save(root / name / str(each["file_name"]))
    categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
    plain = {"images": images, "annotations": boxes, "categories": categories}
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(plain))


def test_boxes_classes_and_crowds(tmp_path: Path) -> None:
    assert not holds_coco(tmp_path)
    put(
        tmp_path,
        "val2017",
        [
            {"image_id": 9, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
            {"image_id": 9, "category_id": 3, "bbox": [15, 0, 5.25, 10], "iscrowd": 1},
            {"image_id": 9, "category_id": 3, "bbox": [5, 5, 0, 2], "iscrowd": 0},
        ],
    )
    assert holds_coco(tmp_path)
    splits, notes = coco_splits(tmp_path)
    split = splits["val"]
    assert split.classes == ("cat", "dog")  # by their numbers
    assert [len(o) for o in split.objects] == [0, 2]  # pictures by their numbers, too
    _, objects = split[1]
    assert objects.boxes.tolist() == [[1, 2, 4.5, 6], [15, 0, 20, 10]]
    assert objects.labels.tolist() == [1, 0]
    assert objects.crowd.tolist() == [False, True]
    assert notes == ["instances_val2017.json: 1 boxes without area within their picture are left out."]


def test_splits_are_called_as_everywhere_and_a_strange_file_is_refused(tmp_path: Path) -> None:
    for name in ("train2017", "val2017"):
        put(tmp_path, name, [])
    assert list(coco_splits(tmp_path)[0]) == ["train", "val"]
    (tmp_path / "annotations/instances_val2017.json").write_text('{"images": []}')
    with pytest.raises(InputError, match=r"instances_val2017\.json is no list of COCO's"):
        coco_splits(tmp_path)
