"""Pictures with boxes by name or folder: drawn ones, Pascal VOC and COCO as they are distributed."""

from __future__ import annotations

import os

from whatwhere.data.boxes import Boxes
from whatwhere.data.coco import coco_splits, holds_coco
from whatwhere.data.noted import folder_named, noted, readable
from whatwhere.data.voc import holds_voc, voc_splits
from whatwhere.errors import unknown

DRAWN = "drawn/boxes"


def load_boxes(source: str | os.PathLike[str] | Boxes) -> Boxes:
    """Load pictures with boxes.

    Args:
        source: `"drawn/boxes"`; a folder with `VOCdevkit/VOC2007` (and other years); or a folder with
            `annotations/instances_val2017.json` and the pictures in `val2017`, as COCO is distributed.

    Raises:
        InputError: for an unknown name, or a folder that is none of these.
    """
    if isinstance(source, Boxes):
        return source
    name = os.fspath(source)
    if name == DRAWN:
        from whatwhere.data.drawn_boxes import drawn_boxes  # draws them

        return drawn_boxes()
    with readable(name):
        folder = folder_named(name)
        if holds_voc(folder):
            return noted(Boxes("voc", voc_splits(folder)))
        if holds_coco(folder):
            splits, notes = coco_splits(folder)
            return noted(Boxes(folder.resolve().name, splits, tuple(notes)))
    raise unknown("data", name, (DRAWN, "<a folder with VOCdevkit>", "<a folder with annotations/instances_*.json>"))


def holds_boxes(source: str | os.PathLike[str]) -> bool:
    """Whether a name or folder is one of pictures with boxes."""
    name = os.fspath(source)
    with readable(name):
        folder = folder_named(name)
        return name == DRAWN or holds_voc(folder) or holds_coco(folder)
