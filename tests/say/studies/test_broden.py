from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from small_broden import (
    ADE_OBJECTS,
    ADE_PARTS,
    LISTS,
    OBJECTS,
    PART2IND,
    PARTS,
    SHAPE,
    TEXTURES,
    ade_code,
    box,
    csv_of,
    save,
    small_broden,
    write,
)
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.studies.broden import NO_OBJECT, NO_PART, load_broden, object_values, part_values
from whatwhere.say.studies.broden_sets import coded, fitted, long_part_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_broden(tmp_path)


def test_rows_follow_the_lists(folder: Path) -> None:
    broden = load_broden(folder)
    assert [tuple(r) for r in broden.records] == [("ade20k", 1), ("pascal", 0), ("os", 1), ("os", 0), ("dtd", 0)]
    assert broden.names["part"] == (*PARTS[1:], NO_PART)
    assert broden.names["texture"] == TEXTURES
    assert [int(picture.float().mean().round()) for picture, _ in broden.rows()] == [90, 60, 4, 17, 200]


def test_every_map_is_there_and_what_was_not_annotated_is_not_labelled(folder: Path) -> None:
    annotated = [{"object", "part"}] * 2 + [{"material"}] * 2 + [{"texture"}]
    for (picture, labels), expected in zip(load_broden(folder).rows(), annotated, strict=True):
        assert set(labels) == {"object", "part", "material", "texture"}
        assert all(values.shape == picture.shape[1:] for values in labels.values())
        assert {name for name, values in labels.items() if bool((values != IGNORE).any())} == expected


def expected_part(objects: np.ndarray, parts: np.ndarray, r: int, c: int) -> int:
    """UPerNet's rule for one pixel, read off the small tables above."""
    here, part = int(objects[r, c]), int(parts[r, c])
    listed = LISTS.get(here, ())
    shown = {int(p) for p in parts[objects == here]} & set(listed)
    if part in listed:
        return part - 1
    return 3 if shown and part == 0 else IGNORE


def test_ade20k_objects_and_parts(folder: Path) -> None:
    labels = load_broden(folder)[0][1]
    to_broden = {2420: 3, 312: 2, 401: 1, 5: 0, 0: 0, 3050: 2, 3035: 1, 7: 0}
    objects, parts = (np.vectorize(to_broden.get)(raw) for raw in (ADE_OBJECTS, ADE_PARTS))
    for r in range(6):
        for c in range(8):
            assert int(labels["object"][r, c]) == (objects[r, c] - 1 if objects[r, c] else IGNORE)
            assert int(labels["part"][r, c]) == expected_part(objects, parts, r, c), (r, c)
    assert int(labels["part"][5, 5]) == IGNORE  # a car without parts: nobody annotated them
    assert int(labels["part"][5, 0]) == 3  # a building with windows, where none of its parts is


def test_pascal_parts_lose_their_side_and_number(folder: Path) -> None:
    labels = load_broden(folder)[1][1]
    assert labels["object"][0].tolist() == [0] * 5 + [1] * 3
    assert labels["part"][0].tolist() == [0] * 3 + [3] * 2 + [IGNORE] * 3  # wheel, rest of the car, building
    assert labels["part"][1, :3].tolist() == [1] * 3  # window_12
    assert labels["part"][2, :3].tolist() == [IGNORE] * 3  # a roof, which a car is not listed with
    assert labels["part"][3, :3].tolist() == [3] * 3  # the front side is no part


def test_materials_are_red_and_fitted_to_the_photo(folder: Path) -> None:
    material = load_broden(folder)[2][1]["material"]
    assert material.tolist() == [[0] * 8] * 3 + [[1] * 4 + [IGNORE] * 4] * 3


def test_labels_alone_are_those_of_the_row(folder: Path) -> None:
    broden = load_broden(folder)
    for row in range(len(broden)):
        alone, both = broden.labels(row), broden[row][1]
        assert list(alone) == list(both)
        assert all(torch.equal(alone[name], both[name]) for name in both)


def test_a_texture_is_everywhere(folder: Path) -> None:
    assert bool((load_broden(folder)[4][1]["texture"] == 1).all())


def test_concepts_are_absent_only_where_they_were_annotated(folder: Path) -> None:
    broden = load_broden(folder)
    source = broden.concepts()
    assert source.names == (
        "part: wheel",
        "part: window",
        "part: roof",
        "material: metal",
        "material: glass",
        "texture: banded",
        "texture: woven",
    )
    maps = {row: source(*broden[row]) for row in range(5)}
    building, window, sky = maps[0][:3, 5, 0], maps[0][:3, 1, 1], maps[0][:3, 1, 6]
    assert building.tolist() == [-1, 0, 0]  # a building's wheel: not annotated
    assert window.tolist() == [0, 1, 0]
    assert sky.tolist() == [-1, -1, -1]
    assert maps[2][3:5, 0, 0].tolist() == [1, 0]
    assert maps[2][3:5, 5, 6].tolist() == [-1, -1]
    assert maps[4][5:, 0, 0].tolist() == [0, 1]
    assert bool((maps[0][3:] == -1).all())
    assert bool((maps[2][:3] == -1).all())


def test_some_data_sets_only(folder: Path) -> None:
    assert [r.dataset for r in load_broden(folder, sets=["os"]).records] == ["os", "os"]
    with pytest.raises(InputError, match=r"sets='coco' matches nothing.*ade20k, pascal, os, dtd"):
        load_broden(folder, sets=["coco"])
    with pytest.raises(InputError, match=r"split='test' matches nothing.*train, validation"):
        load_broden(folder, "test")
    with pytest.raises(InputError, match=r"broden_ade20k_pascal_val.json is missing"):
        load_broden(folder, "validation")
    with pytest.raises(InputError, match=r"holds none of ade20k, pascal, opensurfaces, dtd; run"):
        load_broden(folder / "meta_file")


def test_the_value_255_is_no_object() -> None:
    labels = torch.tensor([[0, 1, 255, 256, 336]])
    assert object_values(labels).tolist() == [[IGNORE, 0, 254, 256, 336]]


def test_many_objects_keep_their_names(folder: Path) -> None:
    write(folder / "meta_file" / "object.csv", csv_of((*OBJECTS, *(f"object {i}" for i in range(4, 300)))))
    names = load_broden(folder, sets=["os"]).names["object"]
    assert names[IGNORE] == NO_OBJECT
    for label in (1, 255, 256, 299):
        name = OBJECTS[label] if label < 4 else f"object {label}"
        assert names[int(object_values(torch.tensor(label)))] == name


@pytest.mark.parametrize("seed", range(5))
def test_part_values_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects, parts = rng.integers(0, 4, (5, 6)), rng.integers(0, 4, (5, 6)) * (rng.random((5, 6)) < 0.3)
    lists = torch.zeros(3, 3, dtype=torch.bool)
    for o, listed in LISTS.items():
        lists[o - 1, [p - 1 for p in listed]] = True
    values = part_values(torch.from_numpy(objects), torch.from_numpy(parts), lists)
    assert values.tolist() == [[expected_part(objects, parts, r, c) for c in range(6)] for r in range(5)]


def test_small_pieces() -> None:
    assert coded(np.array([[[30, 7, 200], [39, 255, 0]]])).tolist() == [[3 * 256 + 7, 3 * 256 + 255]]
    assert long_part_names(PART2IND) == {"fwheel": "front wheel", "croofside": "coach roof side"}


def test_proportions_must_agree(folder: Path) -> None:
    photo = folder / "broden_dataset/opensurfaces/photos/17.jpg"
    assert fitted(np.arange(12).reshape(3, 4), photo, photo).shape == SHAPE
    with pytest.raises(InputError, match=r"is \(3, 5\) \(H, W\), its picture \(6, 8\): other proportions"):
        fitted(np.zeros((3, 5), dtype=int), photo, photo)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("broden_os_train.json", '{"dataset": "os"}', r"broden_os_train.json, line 1 is not a record"),
        ("broden_os_train.json", '{"dataset": "so", "file_index": 0}', r"line 1: dataset='so' matches nothing.*'os'"),
        ("broden_os_train.json", '{"dataset": "os", "file_index": 2}', r"file_index 2 is not one of the 2 rows of os"),
        ("part.csv", "label,name\n1,wheel\n", r"part.csv must list the labels 0, 1, 2"),
        ("part.csv", "number,name\n0,-\n", r"part.csv has no column label"),
        ("dtd/labels_joint_anno.txt", "striped/1.jpg striped\n", r"texture='striped' matches nothing"),
    ],
)
def test_lists_that_are_wrong(folder: Path, file: str, text: str, message: str) -> None:
    write(folder / "meta_file" / file, text)
    with pytest.raises(InputError, match=message):
        list(load_broden(folder).rows())


def test_files_that_are_wrong(folder: Path) -> None:
    images = folder / "broden_dataset/ade20k/ADE20K_2016_07_26/images/training/a"
    broden = load_broden(folder)
    save(images / "ADE_train_2_seg.png", ade_code(np.full(SHAPE, 2421)))
    with pytest.raises(InputError, match=r"_seg.png holds the object 2421, but .* up to 2420"):
        broden[0]
    save(images / "ADE_train_2_seg.png", np.zeros((*SHAPE, 1))[..., 0])
    with pytest.raises(InputError, match=r"_seg.png has one channel"):
        broden[0]
    save(images / "ADE_train_2_seg.png", ade_code(np.zeros((5, 8), dtype=int)))
    with pytest.raises(InputError, match=r"ADE_train_2.jpg is \(6, 8\) \(H, W\), its map 'object' \(5, 8\)"):
        broden[0]
    (images / "ADE_train_2.jpg").unlink()
    with pytest.raises(InputError, match=r"ADE_train_2.jpg cannot be read"):
        broden[0]


def test_pascal_files_that_are_wrong(folder: Path) -> None:
    broden = load_broden(folder, sets=["pascal"])
    part = np.array([[("fin", box(slice(0, 1), slice(0, 3)))]], dtype=[("part_name", object), ("mask", object)])
    objects = np.empty((1, 1), dtype=[("class_ind", object), ("parts", object)])
    objects[0, 0] = (1, part)
    file = folder / "broden_dataset/pascal/part/Annotations_Part/2008_1.mat"
    savemat(file, {"anno": {"objects": objects}})
    with pytest.raises(InputError, match=r"2008_1.mat: part='fin' matches nothing"):
        broden[0]
    savemat(file, {"other": 1})
    with pytest.raises(InputError, match=r"2008_1.mat has no variable 'anno'"):
        broden[0]
    file.write_bytes(b"no MATLAB file")
    with pytest.raises(InputError, match=r"2008_1.mat cannot be read"):
        broden[0]
