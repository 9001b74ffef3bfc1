"""Pascal VOC's boxes in the original layout, read by torchvision.

Years are put together as is usual: the training pictures of all years, and the test pictures of 2007, the only year
whose test boxes are public. Where no year has a test set, its `val` set is kept apart from `train`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.data.listing import several, subfolders
from whatwhere.data.sources import Files
from whatwhere.errors import InputError

KIT, FIRST = "VOCdevkit", "VOC"
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def holds_voc(folder: Path) -> bool:
    """Whether a folder holds `VOCdevkit`, or is it."""
    return (folder / KIT).is_dir() or folder.name == KIT


def voc_splits(folder: Path) -> dict[str, BoxSplit]:
    """The splits of a folder with `VOCdevkit/VOC2007` and other years.

    Raises:
        InputError: if there is no year, a file is missing, or says something else than VOC's do.
    """
    root = folder if (folder / KIT).is_dir() else folder.parent
    years = [f.name.removeprefix(FIRST) for f in subfolders(root / KIT) if (f / "ImageSets" / "Main").is_dir()]
    if not years:
        raise InputError(f"data={str(folder)!r}: {root / KIT} holds no year with ImageSets/Main; put VOC2007 there.")
    sets = {year: _sets(root, year) for year in years}
    tested = any("test" in there for there in sets.values())
    plan = [("train", "trainval"), ("test", "test")] if tested else [("train", "train"), ("validation", "val")]
    splits = {}
    for name, wanted in plan:
        parts = [p for year in years for p in _read(root, year, wanted if wanted in sets[year] else "")]
        if parts:
            splits[name] = BoxSplit(name, Files([p for p, _ in parts]), [o for _, o in parts], CLASSES)
    if not splits:
        raise InputError(
            f"data={str(folder)!r}: of its lists {several(sorted(set().union(*sets.values())))} none is of "
            f"{' or '.join(wanted for _, wanted in plan)}; put {plan[0][1]}.txt into ImageSets/Main."
        )
    return splits


def _sets(root: Path, year: str) -> set[str]:
    return {f.stem for f in (root / KIT / f"{FIRST}{year}" / "ImageSets" / "Main").glob("*.txt")}


def _read(root: Path, year: str, wanted: str) -> list[tuple[Path, Objects]]:
    """Pictures and objects of one list of a year; none of no list."""
    if not wanted:
        return []
    from torchvision.datasets import VOCDetection  # takes seconds to import

    try:
        stored = VOCDetection(str(root), year=year, image_set=wanted)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"data={str(root)!r}: torchvision does not read {FIRST}{year}: {error}.") from error
    return [(Path(p), _objects(Path(a), stored)) for p, a in zip(stored.images, stored.annotations, strict=True)]


def _objects(file: Path, stored: Any) -> Objects:
    try:
        found = stored.parse_voc_xml(ET.parse(file).getroot())["annotation"]["object"]
        names = [each["name"] for each in found]
        boxes = [_box(each["bndbox"]) for each in found]
        difficult = [each.get("difficult", "0") == "1" for each in found]
    except (ET.ParseError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is no annotation of Pascal VOC ({type(error).__name__}: {error}).") from error
    strange = [name for name in names if name not in CLASSES]
    if strange:
        raise InputError(f"{file}: {strange[0]!r} is no class of Pascal VOC; it has {', '.join(CLASSES)}.")
    return Objects.of(boxes, [CLASSES.index(name) for name in names], difficult)


def _box(stored: Any) -> Sequence[float]:
    """Edges from 0: VOC counts pixels from 1, and its last ones belong to the box."""
    left, top, right, bottom = (float(stored[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
    return left - 1, top - 1, right, bottom
