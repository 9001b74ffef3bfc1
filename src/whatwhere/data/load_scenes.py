"""Scenes by name or folder: parquet tables, folders of pictures and label maps, Cityscapes, drawn streets."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whatwhere.data.class_names import check_forms
from whatwhere.data.folders import is_table_folder
from whatwhere.data.listing import Found, no_splits, passed_over, pictures_in, several, subfolders
from whatwhere.data.noted import folder_named, noted, readable
from whatwhere.data.scenes import Scenes, SceneSplit, video_segments
from whatwhere.data.sources import Files
from whatwhere.data.split import sampled_rows
from whatwhere.data.split_names import split_folders
from whatwhere.errors import InputError, unknown
from whatwhere.files import read_json
from whatwhere.label_maps import CLASS, IGNORE

DESCRIPTION = "classes.json"
DRAWN, CITYSCAPES = "drawn/streets", "leftImg8bit"
IMAGES, LABELS = "images", "labels"
LOOKED_AT = 16  # label maps of a split that loading looks at
CORRECT = "correct it"


def load_scenes(source: str | os.PathLike[str] | Scenes) -> Scenes:
    """Load pictures with label maps.

    A folder is one of: tables (parquet files, or what `save_to_disk` wrote) with the columns `image` and `label` (both
    pictures) and, if frames of videos, `frame`; `<split>/images` and `<split>/labels` with files of the same names;
    Cityscapes as it is distributed. The first two hold a file `classes.json`:
    `{"classes": [names], "ignore_index": number, "colors": [[r, g, b], ...]}`, the last two entries optional.

    Args:
        source: a folder, or `"drawn/streets"`.

    Raises:
        InputError: for an unknown name, or a folder that is none of these.
    """
    if isinstance(source, Scenes):
        return source
    name = os.fspath(source)
    if name == DRAWN:
        from whatwhere.data.drawn_scenes import drawn_streets  # draws them

        return drawn_streets()
    with readable(name):
        return noted(_in_folder(name, folder_named(name)))


def _in_folder(name: str, folder: Path) -> Scenes:
    if not folder.is_dir():
        raise unknown("data", name, (DRAWN, "<a folder with pictures and label maps>"))
    if (folder / CITYSCAPES).is_dir():
        return Scenes("cityscapes", _some(name, _cityscapes(folder)))
    about = described(folder)
    splits, notes = _tables(folder, about) if is_table_folder(folder) else _folders(folder, about)
    notes += [*about.notes, *_lost_classes(_some(name, splits), about)]
    return Scenes(folder.resolve().name, splits, about.colours, notes=tuple(notes))


def holds_scenes(source: str | os.PathLike[str]) -> bool:
    """Whether a name or folder is one of scenes."""
    name = os.fspath(source)
    with readable(name):
        folder = folder_named(name)
        return name == DRAWN or (folder / CITYSCAPES).is_dir() or (folder / DESCRIPTION).is_file()


def _some(name: str, splits: dict[str, SceneSplit]) -> dict[str, SceneSplit]:
    if not splits:
        raise InputError(
            f"data={name!r} holds no scenes; give parquet tables with columns image and label, folders train/images "
            "and train/labels (and test/...), or Cityscapes' train and val."
        )
    return splits


@dataclass(frozen=True)
class Description:
    """What `classes.json` says.

    Attributes:
        classes: their names.
        values: (256,) uint8, the class of each stored value.
        ignored: the value that it calls unlabelled; None if it calls none so.
        colours: of the classes.
        notes: what the reader must know of it.
    """

    classes: tuple[str, ...]
    values: Tensor
    ignored: int | None = None
    colours: tuple[tuple[int, int, int], ...] = ()
    notes: tuple[str, ...] = ()


def described(folder: Path) -> Description:
    """What `classes.json` of a folder says.

    Raises:
        InputError: if it is missing or says something else.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InputError(f'data={str(folder)!r}: write {file}, such as {{"classes": ["road", "car"]}}.')
    plain = read_json(file, remedy=CORRECT)
    names = plain.get("classes") if isinstance(plain, dict) else None
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names) and len(names) <= IGNORE):
        raise InputError(f'{file} must hold {{"classes": [1 to {IGNORE} names]}}.')
    if len(set(names)) < len(names):
        raise InputError(f"{file}: the class {next(n for n in names if names.count(n) > 1)!r} appears twice.")
    notes = check_forms(str(file), {"classes": names})
    values, ignored = torch.arange(256, dtype=torch.uint8), plain.get("ignore_index", IGNORE)
    if type(ignored) is not int or not 0 <= ignored <= IGNORE:
        raise InputError(f"{file}: ignore_index={ignored!r} must be a whole number from 0 to {IGNORE}.")
    values[ignored] = IGNORE
    colours = _colours(file, plain.get("colors", []))[: len(names)]
    return Description(tuple(names), values, plain.get("ignore_index"), colours, tuple(notes))


def _colours(file: Path, plain: Any) -> tuple[tuple[int, int, int], ...]:
    colours = [tuple(c) if isinstance(c, list) else () for c in plain] if isinstance(plain, list) else [()]
    if not all(len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in colours):
        raise InputError(f"{file}: colors must be [[r, g, b], ...], whole numbers from 0 to 255; mend or drop it.")
    return tuple((r, g, b) for r, g, b in colours)


def _lost_classes(splits: Mapping[str, SceneSplit], about: Description) -> list[str]:
    """Notes on a class that may be stored as 255, which is unlabelled unless `ignore_index` says otherwise.

    Raises:
        InputError: if the maps that were looked at hold one class and 255 only, as masks of 0 and 255 do.
    """
    if about.ignored is not None or len(about.classes) < 2:
        return []
    looked = [labels for split in splits.values() for labels in split.class_maps(sampled_rows(len(split), LOOKED_AT))]
    there = set().union(*(labels.unique().tolist() for labels in looked))
    missing = [name for i, name in enumerate(about.classes) if i not in there]
    if IGNORE not in there or len(missing) != 1:
        return []
    seen = f"{missing[0]!r} occurs in none of the {len(looked)} label maps looked at, and {IGNORE} does"
    if len(there) > 2:
        return [f"{seen}, which counts as unlabelled."]
    raise InputError(
        f"{DESCRIPTION}: class {seen}. Store the class as {about.classes.index(missing[0])}; or, if {IGNORE} is "
        f'unlabelled, write "ignore_index": {IGNORE} there.'
    )


def _tables(folder: Path, about: Description) -> tuple[dict[str, SceneSplit], list[str]]:
    from whatwhere.data import tables  # datasets takes seconds to import

    splits = {}
    for name, table in tables.stored_tables(folder).items():
        missing = [c for c in ("image", "label") if c not in table.features]
        if missing:
            raise InputError(
                f"split {name!r} has no column {' and '.join(missing)}; {tables.listed(table.features)}. Rename them."
            )
        groups = video_segments([str(frame) for frame in table["frame"]]) if "frame" in table.features else None
        maps = {CLASS: tables.Column(table, "label")}
        splits[name] = SceneSplit(name, tables.Column(table, "image"), maps, about.classes, groups, about.values)
    return splits, []


def _folders(folder: Path, about: Description) -> tuple[dict[str, SceneSplit], list[str]]:
    """The splits of a folder, and notes on what is passed over."""
    splits, notes = {}, []
    there = subfolders(folder)
    found = split_folders(f"data={str(folder)!r}", there)
    for name, root in found.items():
        pictures, maps, more = paired(_inner(root, IMAGES), _inner(root, LABELS))
        splits[name] = SceneSplit(name, Files(pictures), {CLASS: Files(maps)}, about.classes, None, about.values)
        notes += more
    others = [path.name for path in there if path not in found.values()]
    return splits, [*notes, *(no_splits(folder, others) if splits else [])]


def _inner(root: Path, name: str) -> Path:
    """The folder of pictures, or of label maps, of a split; its name counts in any case.

    Raises:
        InputError: if it is not there.
    """
    inner = subfolders(root)
    found = [path for path in inner if path.name.lower() == name]
    if len(found) == 1:
        return found[0]
    seen = f"it holds {several(path.name for path in found or inner)}" if inner else "it holds no folder"
    raise InputError(f"data: a split of scenes holds {IMAGES}/ and {LABELS}/; put {root / name} there ({seen}).")


def paired(images: Path, labels: Path) -> tuple[list[Path], list[Path], list[str]]:
    """The pictures of one folder, the label maps of the same names in another, and notes on what is passed over.

    Raises:
        InputError: for a picture without a map, or two files of one name.
    """
    pictures, maps = pictures_in(images), pictures_in(labels)
    by_name = _by_name(maps, "label maps", "the map that belongs to the picture")
    own = _by_name(pictures, "pictures", "the one that the map was drawn on")
    lone = [path for name, path in own.items() if name not in by_name]
    if lone:
        raise InputError(f"{lone[0]} has no label map; put {labels / lone[0].stem}.png there (or remove the picture).")
    notes = passed_over(str(images), [pictures])
    unused = [path.name for name, path in by_name.items() if name not in own]
    if unused:
        notes.append(f"label maps of {labels} without a picture are passed over: {several(unused)}.")
    deeper = [str(path) for root in (images, labels) for path in subfolders(root)]
    if deeper:
        notes.append(f"folders within {IMAGES}/ and {LABELS}/ are passed over: {several(deeper)}.")
    return list(own.values()), [by_name[name] for name in own], notes


def _by_name(found: Found, what: str, keep: str) -> dict[str, Path]:
    """Files by their name without its ending, in the one Unicode form of all systems.

    Raises:
        InputError: for two of one name.
    """
    names = [unicodedata.normalize("NFC", path.stem) for path in found.pictures]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        same = [path for name, path in zip(names, found.pictures, strict=True) if name == twice[0]]
        raise InputError(
            f"{same[0].parent} holds {len(same)} {what} of one name ({', '.join(p.name for p in same)}); keep {keep}."
        )
    return dict(zip(names, found.pictures, strict=True))


def _cityscapes(folder: Path) -> dict[str, SceneSplit]:
    from whatwhere.data.cityscapes import cityscapes_parts

    splits = {}
    for name in ("train", "val"):
        if (folder / "leftImg8bit" / name).is_dir():
            pictures, maps, values, classes, groups = cityscapes_parts(folder, name)
            splits[name] = SceneSplit(name, Files(pictures), {CLASS: Files(maps)}, classes, groups, values)
    return splits
