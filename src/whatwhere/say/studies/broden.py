"""Broden+: pictures with partial labels of objects, parts, materials and textures, as UPerNet distributes it.

Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding" (ECCV 2018), and its repository
CSAILVision/unifiedparsing, which ships no pictures but lists (`meta_file`) and a script that fetches four data sets
(into `broden_dataset`), each in its own layout:

* `meta_file/{object,part,material,texture}.csv`: label, name; label 0 is none, except in textures;
* `meta_file/label_assignment.csv`: what each data set's own label becomes;
* `meta_file/object_part_hierarchy.csv`: the parts that an object may have;
* `meta_file/broden_{ade20k_pascal,os}_{train,val}.json`, `dtd_{training,validation}_list.json`: a record a line,
  `{"dataset": "os", "file_index": 6736, "height": 512, "width": 910}`, file_index counting the data set's own list.

What a data set did not annotate is not labelled here (255), never absent: ADE20K and PASCAL have objects and parts,
OpenSurfaces materials, DTD textures. Label 0 is not labelled either. A pixel has a part label only in an object that
has parts, and only if the picture shows one of them (UPerNet's rule); within, no part is a label of its own.
Deviations: parts that an object is not listed with are not labelled (UPerNet: none of its parts); a DTD picture has its
main texture everywhere (UPerNet trains on whole pictures), so a second texture that DTD names for it counts as absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data.pixels import BROKEN
from whatwhere.errors import InputError, unknown
from whatwhere.label_maps import IGNORE
from whatwhere.say.concepts import Combined, Named
from whatwhere.say.listed_parts import ListedParts
from whatwhere.say.studies.broden_sets import (
    Ade20k,
    Assignment,
    BrodenSet,
    OpenSurfaces,
    Pascal,
    Textures,
    first_file,
    read_rows,
)

META, SETS = "meta_file", "broden_dataset"
FOLDERS = {"ade20k": "ade20k", "pascal": "pascal", "os": "opensurfaces", "dtd": "dtd"}
RECORDS = {
    "train": ("broden_ade20k_pascal_train.json", "broden_os_train.json", "dtd_training_list.json"),
    "validation": ("broden_ade20k_pascal_val.json", "broden_os_val.json", "dtd_validation_list.json"),
}
OF_SET = {"ade20k": 0, "pascal": 0, "os": 1, "dtd": 2}  # the list that holds a data set's records
MAPS = ("object", "part", "material", "texture")
NO_PART, NO_OBJECT = "no part", "(no object)"


class BrodenRow(NamedTuple):
    """One record: the data set and the row number in it."""

    dataset: str
    number: int


@dataclass(frozen=True)
class Broden:
    """One split of Broden+.

    >>> picture, labels = broden[0]
    >>> maps = broden.concepts()(picture, labels)      # (K, H, W): 1, 0, and -1 where it was not annotated

    Attributes:
        records: the rows.
        names: for each of the four maps, a name for each value.
        lists: (objects, parts) which parts an object may have.
        sets: the data sets, by name.
    """

    records: tuple[BrodenRow, ...]
    names: Mapping[str, tuple[str, ...]]
    lists: Tensor
    sets: Mapping[str, BrodenSet]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.records)

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A picture (3, H, W), uint8, and the four maps (H, W), int16, 255 where not labelled.

        Raises:
            InputError: a file is missing or broken, or a map has another size than its picture.
        """
        dataset, number = self.records[row]
        file = self.sets[dataset].picture(number)
        picture, found = read_picture(file), self._found(row)
        for name, values in found.items():
            if values.shape != picture.shape[1:]:
                raise InputError(
                    f"{file} is {tuple(picture.shape[1:])} (H, W), its map {name!r} {tuple(values.shape)}; resize both "
                    "alike, or neither."
                )
        return picture, self._maps(found, picture.shape[1:])

    def labels(self, row: int) -> dict[str, Tensor]:
        """The four maps alone; the picture is not decoded."""
        found = self._found(row)
        return self._maps(found, next(iter(found.values())).shape)

    def rows(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Every picture with its maps."""
        return (self[row] for row in range(len(self)))

    def concepts(self) -> Combined:
        """The parts, materials and textures, as concepts of a pixel; choose with `concept_counts.select`."""
        return Combined(
            [ListedParts(self.names["part"][:-1], self.lists), *(Named(self.names[m], m) for m in MAPS[2:])]
        )

    def _found(self, row: int) -> dict[str, Tensor]:
        dataset, number = self.records[row]
        return {name: torch.from_numpy(values) for name, values in self.sets[dataset].maps(number).items()}

    def _maps(self, found: Mapping[str, Tensor], shape: torch.Size) -> dict[str, Tensor]:
        nothing = torch.zeros(shape, dtype=torch.int64)
        labels = {name: found.get(name, nothing) for name in MAPS}
        values = {name: torch.where(labels[name] > 0, labels[name] - 1, IGNORE) for name in ("material", "texture")}
        values["object"] = object_values(labels["object"])
        values["part"] = part_values(labels["object"], labels["part"], self.lists)
        return {name: values[name].to(torch.int16) for name in MAPS}


def object_values(labels: Tensor) -> Tensor:
    """Object labels (0: none) as values from 0, without the value 255, which is `IGNORE`: what follows moves up."""
    values = labels - 1
    return torch.where(labels > 0, values + (values >= IGNORE), IGNORE)


def part_values(objects: Tensor, parts: Tensor, lists: Tensor) -> Tensor:
    """Which part a pixel is, where that is known.

    Args:
        objects: (H, W) object labels, 0 for none.
        parts: (H, W) part labels, 0 for none.
        lists: (O, P) which parts an object may have.

    Returns:
        (H, W): part - 1; P for no part of an object that shows parts; 255 where not labelled.
    """
    known = torch.nn.functional.pad(lists, (1, 0, 1, 0))  # row and column of label 0
    listed = known[objects, parts]
    shows_parts = torch.zeros(len(known), dtype=torch.bool)
    shows_parts[objects[listed]] = True
    none = shows_parts[objects] & (parts == 0)
    return torch.where(listed, parts - 1, torch.where(none, lists.shape[1], IGNORE))


def load_broden(folder: str | os.PathLike[str], split: str = "train", sets: Sequence[str] | None = None) -> Broden:
    """Load one split of Broden+.

    Args:
        folder: holds `meta_file` and `broden_dataset`, such as a clone of unifiedparsing after its download script.
        split: "train" or "validation".
        sets: data sets to take, of "ade20k", "pascal", "os" and "dtd"; None: those that `broden_dataset` holds.

    Raises:
        InputError: an unknown split or data set, a list or file that is missing or malformed, or no row.
    """
    if split not in RECORDS:
        raise unknown("split", split, RECORDS)
    root, meta = Path(folder) / SETS, Path(folder) / META
    chosen = tuple(sets) if sets is not None else tuple(s for s, f in FOLDERS.items() if (root / f).is_dir())
    for name in chosen:
        if name not in FOLDERS:
            raise unknown("sets", name, FOLDERS)
    if not chosen:
        raise InputError(f"{root} holds none of {', '.join(FOLDERS.values())}; run unifiedparsing's download script.")
    names, lists = vocabulary(meta)
    readers = open_sets(root, meta, chosen, names["texture"])
    return Broden(read_records(meta, split, readers), names, lists, readers)


def vocabulary(meta: Path) -> tuple[dict[str, tuple[str, ...]], Tensor]:
    """The names of the values of each map, and which parts (columns) an object (rows) may have.

    Raises:
        InputError: a list is missing or does not count its labels from 0.
    """
    names = {name: _names(meta / f"{name}.csv") for name in MAPS}
    objects, parts, materials = (names[name][1:] for name in MAPS[:3])  # without label 0
    lists = torch.zeros(len(objects), len(parts), dtype=torch.bool)
    for row in read_rows(meta / "object_part_hierarchy.csv", ("object_label", "part_labels")):
        listed = [int(part) - 1 for part in row["part_labels"].split(";") if part != "0"]
        lists[int(row["object_label"]) - 1, listed] = True
    shifted = objects[:IGNORE] + ((NO_OBJECT, *objects[IGNORE:]) if len(objects) > IGNORE else ())
    return {**names, "object": shifted, "part": (*parts, NO_PART), "material": materials}, lists


def _names(file: Path) -> tuple[str, ...]:
    rows = read_rows(file, ("label", "name"))
    if [row["label"] for row in rows] != [str(i) for i in range(len(rows))]:
        raise InputError(f"{file} must list the labels 0, 1, 2, … in order; take the original file.")
    return tuple(row["name"] for row in rows)


def open_sets(root: Path, meta: Path, chosen: Sequence[str], textures: tuple[str, ...]) -> dict[str, BrodenSet]:
    """The readers of some data sets."""
    assign = Assignment(meta / "label_assignment.csv")
    openers: dict[str, Callable[[Path], BrodenSet]] = {
        "ade20k": lambda folder: Ade20k(folder, meta, assign),
        "pascal": lambda folder: Pascal(folder, meta, assign),
        "os": lambda folder: OpenSurfaces(folder, assign),
        "dtd": lambda folder: Textures(folder, meta, textures),
    }
    return {name: openers[name](root / FOLDERS[name]) for name in chosen}


def read_records(meta: Path, split: str, sets: Mapping[str, BrodenSet]) -> tuple[BrodenRow, ...]:
    """The rows of the data sets taken, in the order of the lists.

    Raises:
        InputError: a list is missing, a line that is not a record, or no row is left.
    """
    lists = dict.fromkeys(RECORDS[split][OF_SET[name]] for name in sets)
    rows = [row for name in lists for row in _records(first_file(meta / name), sets)]
    if not rows:
        raise InputError(f"{' and '.join(lists)} in {meta} have no record of {', '.join(sets)}; take other sets.")
    return tuple(rows)


def _records(file: Path, sets: Mapping[str, BrodenSet]) -> Iterator[BrodenRow]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        record = _record(line, f"{file}, line {number}")
        if record.dataset in sets:
            if not 0 <= record.number < len(sets[record.dataset]):
                raise InputError(
                    f"{file}, line {number}: file_index {record.number} is not one of the {len(sets[record.dataset])} "
                    f"rows of {record.dataset}; take both from the same release."
                )
            yield record


def _record(line: str, place: str) -> BrodenRow:
    try:
        record: dict[str, Any] = json.loads(line)
        dataset, index = str(record["dataset"]), int(record["file_index"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{place} is not a record such as {{"dataset": "os", "file_index": 12}} ({error!r}).'
        ) from error
    if dataset not in FOLDERS:
        raise unknown(f"{place}: dataset", dataset, FOLDERS)
    return BrodenRow(dataset, index)


def read_picture(file: Path) -> Tensor:
    """A picture as stored, (3, H, W) uint8: not turned as EXIF says, since the maps were drawn on stored pixels.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        with Image.open(file) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except BROKEN as error:
        raise InputError(f"{file} cannot be read ({error}); unpack it again, or remove its record.") from error
