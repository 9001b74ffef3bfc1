"""COCO's boxes in the original layout: `annotations/instances_train2017.json` beside the folder `train2017`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.data.sources import Files
from whatwhere.data.split_names import split_name
from whatwhere.errors import InputError
from whatwhere.files import read_json

ANNOTATIONS, FIRST = "annotations", "instances_"


def holds_coco(folder: Path) -> bool:
    """Whether a folder holds COCO's annotations of objects."""
    return any((folder / ANNOTATIONS).glob(f"{FIRST}*.json"))


def coco_splits(folder: Path) -> tuple[dict[str, BoxSplit], list[str]]:
    """The splits of a folder, and notes on boxes that are left out.

    Raises:
        InputError: for a file of another form, or lists that name different classes.
    """
    splits, notes = {}, []
    for file in sorted((folder / ANNOTATIONS).glob(f"{FIRST}*.json")):
        where = file.stem.removeprefix(FIRST)
        name = split_name(where.rstrip("0123456789")) or where
        splits[name], more = _split(name, file, folder / where)
        notes += more
    if len({s.classes for s in splits.values()}) > 1:
        raise InputError(f"data={str(folder)!r}: its lists name different classes; give lists of the same ones.")
    return splits, notes


def _split(name: str, file: Path, pictures: Path) -> tuple[BoxSplit, list[str]]:
    plain = read_json(file, remedy="download it again")
    try:
        images = sorted(plain["images"], key=lambda i: i["id"])
        categories = sorted(plain["categories"], key=lambda c: c["id"])
        by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for each in plain["annotations"]:
            by_image[each["image_id"]].append(each)
        number = {c["id"]: i for i, c in enumerate(categories)}
        objects = [_objects(by_image[i["id"]], number, i["width"], i["height"]) for i in images]
        files = Files([pictures / i["file_name"] for i in images])
        classes = [c["name"] for c in categories]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is no list of COCO's ({type(error).__name__}: {error}).") from error
    lost = len(plain["annotations"]) - sum(map(len, objects))
    notes = [f"{file.name}: {lost} boxes without area within their picture are left out."] if lost else []
    return BoxSplit(name, files, objects, classes), notes


def _objects(found: list[Mapping[str, Any]], number: Mapping[Any, int], width: int, height: int) -> Objects:
    """The objects of a picture; edges that lie outside by rounding are moved to its border."""
    edges = [[*e["bbox"][:2], e["bbox"][0] + e["bbox"][2], e["bbox"][1] + e["bbox"][3]] for e in found]
    inside = [[min(max(float(v), 0.0), n) for v, n in zip(b, (width, height) * 2, strict=True)] for b in edges]
    kept = [i for i, (a, b, c, d) in enumerate(inside) if c > a and d > b]
    labels = [number[found[i]["category_id"]] for i in kept]
    return Objects.of([inside[i] for i in kept], labels, None, [bool(found[i].get("iscrowd", 0)) for i in kept])
