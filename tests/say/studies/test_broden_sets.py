"""The four data sets behind Broden+: their codes, names and files, on small ones of each."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from small_broden import ADE_OBJECTS, PART2IND, SHAPE, TEXTURES, ade_code, save, small_broden, write
from whatwhere.errors import InputError
from whatwhere.say.studies.broden_sets import (
    Ade20k,
    Assignment,
    OpenSurfaces,
    Pascal,
    Textures,
    coded,
    first_file,
    fitted,
    instances,
    long_part_names,
    picture_size,
    read_channels,
    read_mat,
    read_rows,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_broden(tmp_path)


@pytest.fixture
def root(folder: Path) -> Path:
    return folder / "broden_dataset"


@pytest.fixture
def meta(folder: Path) -> Path:
    return folder / "meta_file"


@pytest.fixture
def assign(meta: Path) -> Assignment:
    return Assignment(meta / "label_assignment.csv")


def test_a_label_becomes_that_of_the_table_or_none(assign: Assignment) -> None:
    raw = np.array([[401, 312], [5, 0]])
    assert assign("ade20k", "object", raw, Path("x.png")).tolist() == [[1, 2], [0, 0]]
    assert assign("nobody", "object", np.zeros((1, 1), int), Path("x.png")).tolist() == [[0]]
    with pytest.raises(InputError, match=r"x\.png holds the object 2421, but .* up to 2420"):
        assign("ade20k", "object", raw + 2020, Path("x.png"))


def test_codes_of_ade20k_come_back_whatever_stands_in_the_other_digits() -> None:
    labels = np.arange(48).reshape(SHAPE) * 57
    assert (coded(ade_code(labels)) == labels).all()
    assert coded(np.array([[[17, 3, 200]]])).tolist() == [[259]]  # 1 ten of red is 256


def test_rows_of_ade20k_are_those_of_its_index(root: Path, meta: Path, assign: Assignment) -> None:
    ade = Ade20k(root / "ade20k", meta, assign)
    assert len(ade) == 2
    assert ade.picture(1) == root / "ade20k/ADE20K_2016_07_26/images/training/a/ADE_train_2.jpg"
    found = ade.maps(1)
    assert set(found) == {"object", "part"}
    expected = {2420: 3, 312: 2, 401: 1, 5: 0}
    assert found["object"].tolist() == [[expected[v] for v in row] for row in ADE_OBJECTS.tolist()]
    (root / "ade20k/ADE20K_2016_07_26/images/training/a/ADE_train_2_parts_1.png").unlink()
    assert set(ade.maps(1)) == {"object"}


def test_parts_of_pascal_are_its_instances_without_side_and_number(root: Path, meta: Path, assign: Assignment) -> None:
    pascal = Pascal(root / "pascal", meta, assign)
    assert (len(pascal), pascal.picture(0).name) == (1, "2008_1.jpg")
    found = pascal.maps(0)
    assert found["part"][:, 0].tolist() == [1, 2, 3, 0, 0, 0]  # wheel, window, roof, and a front side, which is none
    assert found["object"][0].tolist() == [1] * 5 + [2] * 3


def test_names_of_parts_from_comments() -> None:
    assert long_part_names(PART2IND) == {"fwheel": "front wheel", "croofside": "coach roof side"}


def test_entries_of_a_matlab_struct_array(root: Path) -> None:
    found = loadmat(root / "pascal/part/Annotations_Part/2008_1.mat", squeeze_me=True)["anno"]
    car, boat = instances(found)
    assert [str(p["part_name"]) for p in instances(car["parts"])] == ["fwheel_1", "window_12", "roofside", "frontside"]
    assert instances(boat["parts"]) == []


def test_materials_are_red_and_of_the_photos_size(root: Path, assign: Assignment) -> None:
    surfaces = OpenSurfaces(root / "opensurfaces", assign)
    assert [surfaces.picture(i).name for i in range(len(surfaces))] == ["17.jpg", "4.jpg"]
    found = surfaces.maps(0)["material"]
    assert found.tolist() == [[1] * 8] * 3 + [[2] * 4 + [0] * 4] * 3


def test_a_map_is_resized_by_its_nearest_middles(tmp_path: Path) -> None:
    """Of six columns on four, the middles 0.75, 2.25, 3.75 and 5.25."""
    save(tmp_path / "p.png", np.zeros((2, 4, 3)))
    labels = np.arange(18).reshape(3, 6)
    assert fitted(labels, tmp_path / "p.png", Path("m.png")).tolist() == [[0, 2, 3, 5], [12, 14, 15, 17]]
    with pytest.raises(InputError, match="other proportions"):
        fitted(labels[:, :5], tmp_path / "p.png", Path("m.png"))


def test_a_texture_is_that_of_its_folder_everywhere(root: Path, meta: Path) -> None:
    textures = Textures(root / "dtd", meta, TEXTURES)
    assert len(textures) == 2
    assert textures.picture(0) == root / "dtd/dtd-r1.0.1/images/woven/woven_1.jpg"
    assert textures.maps(0)["texture"].tolist() == [[TEXTURES.index("woven") + 1] * SHAPE[1]] * SHAPE[0]
    with pytest.raises(InputError, match="texture='woven'"):
        Textures(root / "dtd", meta, ("banded",))


def test_files_that_are_missing_or_others_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "one,two\n1,2\n")
    assert read_rows(tmp_path / "a.csv", ("two",)) == [{"one": "1", "two": "2"}]
    assert first_file(tmp_path / "b.csv", tmp_path / "a.csv") == tmp_path / "a.csv"
    with pytest.raises(InputError, match=r"a\.csv has no column three and four; it has \['one', 'two'\]"):
        read_rows(tmp_path / "a.csv", ("three", "one", "four"))
    with pytest.raises(InputError, match=r"b\.csv or .*c\.csv is missing"):
        first_file(tmp_path / "b.csv", tmp_path / "c.csv")


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "broken.png", "no picture")
    for read in (read_channels, picture_size):
        with pytest.raises(InputError, match=r"broken\.png cannot be read"):
            read(tmp_path / "broken.png")
    save(tmp_path / "grey.png", np.zeros((2, 3)))
    assert picture_size(tmp_path / "grey.png") == (3, 2)
    with pytest.raises(InputError, match="has one channel"):
        read_channels(tmp_path / "grey.png")


def test_a_variable_of_a_matlab_file(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": [[1, 2, 3]]})
    assert read_mat(tmp_path / "a.mat", "x").tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="has no variable 'y'"):
        read_mat(tmp_path / "a.mat", "y")
    write(tmp_path / "b.mat", "nothing")
    with pytest.raises(InputError, match=r"b\.mat cannot be read"):
        read_mat(tmp_path / "b.mat", "x")
