"""Cityscapes as it is distributed: the files of a split, and the meaning of their label numbers.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016), and the layout and
the label table of its scripts. Pictures are `leftImg8bit/{split}/{city}/{city}_{seq}_{frame}_leftImg8bit.png`, maps
`gtFine/{split}/{city}/{city}_{seq}_{frame}_gtFine_labelIds.png`. The test split's classes are not public.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.pixels import BROKEN
from whatwhere.errors import InputError, unknown
from whatwhere.label_maps import IGNORE

SPLITS = ("train", "val")
PICTURE, MAP = "_leftImg8bit.png", "_gtFine_labelIds.png"
LABELS = 34  # labels 0..33; licence plates are -1 in the table and in no map
# The 19 classes that are evaluated, by their label, in the order of their train ids.
CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
# The categories of the label table: merged classes that the data set itself names.
CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
NO_LABEL = 254  # neither a class nor `IGNORE`: for numbers that Cityscapes does not use


class CityscapesParts(NamedTuple):
    """One split, as `SceneSplit` takes it.

    Attributes:
        pictures: N files.
        maps: N files of label numbers.
        values: (256,) uint8, the train id of each label number; 255 is not evaluated, 254 is not a label.
        classes: the 19 names by train id.
        groups: (N,) int64; pictures of one recorded sequence share a number.
    """

    pictures: list[Path]
    maps: list[Path]
    values: Tensor
    classes: tuple[str, ...]
    groups: Tensor


def cityscapes_parts(folder: str | os.PathLike[str], split: str) -> CityscapesParts:
    """The files of a split, sorted by name, with checked sizes.

    A group is a sequence, by city and number. In some cities it is a long drive, in most a snippet with one annotated
    frame: there each picture is its own group, although two snippets of the same street can look alike.

    Args:
        folder: holds `leftImg8bit` and `gtFine`.
        split: "train" or "val".

    Raises:
        InputError: for an unknown split, no pictures, a picture without a map or with one of another size, or a file
            name without city, sequence and frame.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    root = Path(folder)
    pictures = sorted((root / "leftImg8bit" / split).glob(f"*/*{PICTURE}"))
    if not pictures:
        raise InputError(f"{root / 'leftImg8bit' / split} holds no <city>/*{PICTURE}; unpack leftImg8bit_trainvaltest.")
    maps = [_map_of(root / "gtFine" / split, picture) for picture in pictures]
    return CityscapesParts(pictures, maps, train_ids(), tuple(CLASSES.values()), sequences(pictures))


def train_ids() -> Tensor:
    """(256,) uint8: the train id of each stored label number."""
    values = torch.full((256,), NO_LABEL, dtype=torch.uint8)
    values[:LABELS] = IGNORE
    values[list(CLASSES)] = torch.arange(len(CLASSES), dtype=torch.uint8)
    return values


def _map_of(folder: Path, picture: Path) -> Path:
    file = folder / picture.parent.name / (picture.name.removesuffix(PICTURE) + MAP)
    if not file.is_file():
        raise InputError(f"{picture} has no label map; put {file} there (unpack gtFine_trainvaltest).")
    sizes = {path: _size(path) for path in (picture, file)}
    if sizes[picture] != sizes[file]:
        raise InputError(f"{file} is {sizes[file]} (W, H), its picture {sizes[picture]}; resize both to the same size.")
    return file


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as picture:  # reads the header only
            return picture.size
    except BROKEN as error:
        raise InputError(f"{file} cannot be read ({error}); unpack it again.") from error


def sequences(pictures: Sequence[Path]) -> Tensor:
    """(N,) int64: a number for each city and sequence, from the file names.

    Raises:
        InputError: for a name without them.
    """
    numbers: dict[tuple[str, str], int] = {}
    groups = []
    for picture in pictures:
        parsed = re.fullmatch(r"(.+)_(\d+)_\d+" + re.escape(PICTURE), picture.name)
        if parsed is None:
            raise InputError(f"{picture} is not named <city>_<sequence>_<frame>{PICTURE}; keep the original names.")
        groups.append(numbers.setdefault((parsed[1], parsed[2]), len(numbers)))
    return torch.tensor(groups, dtype=torch.int64)
