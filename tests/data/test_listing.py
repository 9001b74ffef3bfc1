import os
from pathlib import Path

import pytest
from PIL import Image

from whatwhere.data.listing import is_picture, passed_over, picture_endings, pictures_below, pictures_in, subfolders
from whatwhere.errors import InputError


def grow(root: Path, *names: str) -> Path:
    """Empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_endings_are_those_that_pillow_reads() -> None:
    assert {".png", ".jpg", ".jfif", ".jpe", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".tga", ".jp2"} <= set(
        picture_endings()
    )
    assert not {".pdf", ".h5", ".mpg", ".eps", ".txt"} & set(picture_endings())
    assert all(is_picture(Path(name)) for name in ("A.PNG", "b.JfIf", "c.d.jpeg"))
    assert not any(is_picture(Path(name)) for name in ("._a.png", ".a.png", "png", "a.heic"))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", "__pycache__"])
def test_what_systems_and_programs_left_is_no_picture(tmp_path: Path, hidden: str) -> None:
    grow(
        tmp_path, "1.png", "deep/2.png", f"{hidden}/3.png", f"deep/{hidden}/4.png", "._1.png", ".DS_Store", "Thumbs.db"
    )
    found = pictures_below(tmp_path)
    assert names(found.pictures) == ["1.png", "2.png"]
    assert (dict(found.others), found.links) == ({}, [])
    assert names(subfolders(tmp_path)) == ["deep"]


def test_links_are_followed_and_counted_once(tmp_path: Path) -> None:
    store = grow(tmp_path / "store", "x.png", "y.png")
    cat = grow(tmp_path / "cat", "1.png", "deep/2.png")
    (cat / "again").symlink_to(cat / "deep")  # the same folder
    (cat / "back").symlink_to(cat)  # a circle
    (cat / "up").symlink_to(tmp_path)  # a circle through other classes
    (cat / "itself").symlink_to(cat / "itself")
    (cat / "more").symlink_to(store)  # another folder: its pictures count
    (cat / "3.png").symlink_to(cat / "1.png")  # the same file
    (cat / "4.png").symlink_to(tmp_path / "kept.png")
    (cat / "5.png").symlink_to(tmp_path / "kept.png")
    (tmp_path / "kept.png").touch()
    found = pictures_below(cat)
    assert names(found.pictures) == ["1.png", "4.png", "2.png", "x.png", "y.png"]
    assert sorted(names(found.links)) == ["3.png", "5.png", "again", "back", "up"]
    assert dict(found.others) == {"no ending": 1}


def test_a_link_to_another_class_is_passed_over(tmp_path: Path) -> None:
    cat, dog = grow(tmp_path / "cat", "1.png"), grow(tmp_path / "dog", "2.png")
    (cat / "too").symlink_to(dog)
    assert names(pictures_below(cat, {os.path.realpath(folder) for folder in (cat, dog)}).pictures) == ["1.png"]
    assert names(pictures_below(cat).pictures) == ["1.png", "2.png"]


def test_a_link_to_a_picture_that_is_gone_stays_a_picture(tmp_path: Path) -> None:
    (tmp_path / "1.png").symlink_to(tmp_path / "gone.png")
    assert names(pictures_below(tmp_path).pictures) == names(pictures_in(tmp_path).pictures) == ["1.png"]


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    found = pictures_in(grow(tmp_path, "1.png", "2.heic", "3.HEIC", "4.xml", "raw"))
    notes = passed_over("FOLDER", [found, found])
    assert notes == ["8 files of FOLDER are not read as pictures and passed over: .heic (4), .xml (2), no ending (2)."]
    assert passed_over("FOLDER", [pictures_in(grow(tmp_path / "plain", "1.png"))]) == []


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    grow(tmp_path, "1.png", "secret/2.png")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"folder '.*secret' cannot be read \(Permission denied\); give"):
        pictures_below(tmp_path)


def test_pictures_with_the_endings_are_opened(tmp_path: Path) -> None:
    for ending in (".jfif", ".jpe", ".tga", ".jp2", ".webp"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"a{ending}")
    for path in pictures_in(tmp_path).pictures:
        with Image.open(path) as picture:
            assert picture.size == (8, 8)
    assert len(pictures_in(tmp_path).pictures) == 5
