import os
from pathlib import Path

import pytest

from whatwhere.data import load_data
from whatwhere.data.load_scenes import load_scenes
from whatwhere.errors import InputError


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-that-name/pictures"])
def test_names_that_no_folder_has(name: str) -> None:
    for load in (load_data, load_scenes):
        with pytest.raises(
            InputError, match=r"data='.*' cannot be read \(.*\); give a name of data, or a folder"
        ) as raised:
            load(name)
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize("what", ["scandir", "stat"])
def test_folders_without_the_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    (tmp_path / "cat").mkdir()
    allowed = getattr(os, what)

    def refuse(path: object, **options: object) -> object:
        if str(path).startswith(str(tmp_path / "cat")):
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, **options)

    monkeypatch.setattr(os, what, refuse)
    with pytest.raises(InputError, match=r"cannot be read .*Permission denied"):
        load_data(tmp_path if what == "scandir" else tmp_path / "cat")


def test_a_name_with_a_zero_byte_is_unknown() -> None:
    for load in (load_data, load_scenes):
        with pytest.raises(InputError, match=r"data='a\\x00b' matches nothing"):
            load("a\0b")
