"""Pictures with boxes by name or folder, and where others are needed."""

from pathlib import Path

import pytest

import whatwhere as ww
from data.test_voc import put
from whatwhere.data.boxes import Boxes
from whatwhere.data.load import load_pictures
from whatwhere.data.load_boxes import holds_boxes, load_boxes
from whatwhere.errors import InputError


def test_folders_and_names_are_known_from_the_outside(tmp_path: Path) -> None:
    assert holds_boxes("drawn/boxes")
    assert not holds_boxes(tmp_path)
    put(tmp_path, "2007", {"trainval": {"a": [("cat", 0, 1, 1, 5, 5)]}, "test": {"b": []}})
    assert holds_boxes(tmp_path)
    loaded = ww.load_data(tmp_path)
    assert isinstance(loaded, Boxes)
    assert (loaded.name, len(loaded.train), len(loaded.classes)) == ("voc", 1, 20)
    assert load_boxes(loaded) is loaded


def test_where_class_labels_are_needed_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'drawn/boxes' holds pictures with boxes"):
        load_pictures("drawn/boxes")
    with pytest.raises(InputError, match=r"data='drawn/boxse'.*drawn/boxes"):
        load_boxes("drawn/boxse")
