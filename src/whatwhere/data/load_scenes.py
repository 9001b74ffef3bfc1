"""Scenes by name or folder: parquet tables, folders of pictures and label maps, Cityscapes, drawn streets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whatwhere.data.folders import is_picture, is_table_folder
from whatwhere.data.scenes import Scenes, SceneSplit, video_segments
from whatwhere.data.sources import Files
from whatwhere.errors import InputError, unknown
from whatwhere.files import read_json
from whatwhere.label_maps import CLASS, IGNORE

DESCRIPTION = "classes.json"
DRAWN, CITYSCAPES = "drawn/streets", "leftImg8bit"
SPLITS = ("train", "validation", "val", "test")


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
    name, folder = os.fspath(source), Path(source).expanduser()
    if name == DRAWN:
        from whatwhere.data.drawn_scenes import drawn_streets  # draws them

        return drawn_streets()
    if not folder.is_dir():
        raise unknown("data", name, (DRAWN, "<a folder with pictures and label maps>"))
    if (folder / CITYSCAPES).is_dir():
        return Scenes("cityscapes", _some(name, _cityscapes(folder)))
    classes, values, colours = described(folder)
    splits = _tables(folder, classes, values) if is_table_folder(folder) else _folders(folder, classes, values)
    return Scenes(folder.resolve().name, _some(name, splits), colours)


def holds_scenes(source: str | os.PathLike[str]) -> bool:
    """Whether a name or folder is one of scenes."""
    folder = Path(source).expanduser()
    return os.fspath(source) == DRAWN or (folder / CITYSCAPES).is_dir() or (folder / DESCRIPTION).is_file()


def _some(name: str, splits: dict[str, SceneSplit]) -> dict[str, SceneSplit]:
    if not splits:
        raise InputError(
            f"data={name!r} holds no scenes; give parquet tables with columns image and label, folders train/images "
            "and train/labels (and test/...), or Cityscapes' train and val."
        )
    return splits


def described(folder: Path) -> tuple[tuple[str, ...], Tensor, tuple[tuple[int, int, int], ...]]:
    """What `classes.json` says: the class names, what each stored value stands for (256,), and colours.

    Raises:
        InputError: if it is missing or says something else.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InputError(f'data={str(folder)!r}: write {file}, such as {{"classes": ["road", "car"]}}.')
    plain = read_json(file)
    names = plain.get("classes") if isinstance(plain, dict) else None
    if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names) and len(names) <= IGNORE):
        raise InputError(f'{file} must hold {{"classes": [1 to {IGNORE} names]}}.')
    if len(set(names)) < len(names):
        raise InputError(f"{file}: the class {next(n for n in names if names.count(n) > 1)!r} appears twice.")
    values, ignored = torch.arange(256, dtype=torch.uint8), plain.get("ignore_index", IGNORE)
    if type(ignored) is not int or not 0 <= ignored <= IGNORE:
        raise InputError(f"{file}: ignore_index={ignored!r} must be a whole number from 0 to {IGNORE}.")
    values[ignored] = IGNORE
    return tuple(names), values, _colours(file, plain.get("colors", []))[: len(names)]


def _colours(file: Path, plain: Any) -> tuple[tuple[int, int, int], ...]:
    colours = [tuple(c) if isinstance(c, list) else () for c in plain] if isinstance(plain, list) else [()]
    if not all(len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in colours):
        raise InputError(f"{file}: colors must be [[r, g, b], ...], whole numbers from 0 to 255; mend or drop it.")
    return tuple((r, g, b) for r, g, b in colours)


def _tables(folder: Path, classes: Sequence[str], values: Tensor) -> dict[str, SceneSplit]:
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
        splits[name] = SceneSplit(name, tables.Column(table, "image"), maps, classes, groups, values)
    return splits


def _folders(folder: Path, classes: Sequence[str], values: Tensor) -> dict[str, SceneSplit]:
    splits = {}
    for name in SPLITS:
        if (folder / name / "images").is_dir():
            pictures, maps = paired(folder / name / "images", folder / name / "labels")
            splits[name] = SceneSplit(name, Files(pictures), {CLASS: Files(maps)}, classes, None, values)
    return splits


def paired(images: Path, labels: Path) -> tuple[list[Path], list[Path]]:
    """The pictures of one folder and the label maps of the same names in another.

    Raises:
        InputError: for a picture without a map, or no picture.
    """
    pictures = sorted(p for p in images.iterdir() if is_picture(p))
    maps: Mapping[str, Path] = {p.stem: p for p in sorted(labels.iterdir()) if is_picture(p)} if labels.is_dir() else {}
    lone = [p for p in pictures if p.stem not in maps]
    if lone:
        raise InputError(f"{lone[0]} has no label map; put {labels / lone[0].stem}.png there (or remove the picture).")
    return pictures, [maps[p.stem] for p in pictures]


def _cityscapes(folder: Path) -> dict[str, SceneSplit]:
    from whatwhere.data.cityscapes import cityscapes_parts

    splits = {}
    for name in ("train", "val"):
        if (folder / "leftImg8bit" / name).is_dir():
            pictures, maps, values, classes, groups = cityscapes_parts(folder, name)
            splits[name] = SceneSplit(name, Files(pictures), {CLASS: Files(maps)}, classes, groups, values)
    return splits
