"""Pictures in folders: split/class/file, class/file, or files without labels."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from whatwhere.data.class_names import check_forms, in_order, order_notes
from whatwhere.data.listing import Found, no_splits, passed_over, pictures_below, pictures_in, several, subfolders
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.paths import Paths
from whatwhere.data.sources import Files
from whatwhere.data.split_names import split_folders
from whatwhere.errors import InputError

KINDS = "a folder of class folders, of pictures (.jpg, .png and others that Pillow reads), or of parquet files"


def is_table_folder(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face data set: parquet files, or the output of `save_to_disk`."""
    marks = ("*.parquet", "*/*.parquet", "dataset_dict.json", "state.json")
    return any(next(folder.glob(mark), None) is not None for mark in marks)


def from_folder(folder: Path) -> Data:
    """Load a folder of picture files.

    `train/cat/1.png` gives splits, `cat/1.png` one split called "test"; files without class folders have no
    labels. Classes are the folder names over all splits, sorted as text, or by number if all are numbers.

    Raises:
        InputError: for no pictures, class folders next to loose pictures, a class folder without pictures, or names of
            classes that differ by their form only.
    """
    splits = _splits(folder)
    roots = splits or {"test": folder}
    classes = {split: class_folders(root) for split, root in roots.items()}
    given = {split: [path.name for path in paths] for split, paths in classes.items()}
    notes = check_forms(f"data={str(folder)!r}, class folders", given)
    names = in_order(name for listed in given.values() for name in listed)
    found = {split: pictures_of(root, classes[split]) for split, root in roots.items()}
    parts = {split: folder_part(found[split], classes[split], names) for split in roots}
    notes += [*order_notes(names), *passed_over(str(folder), [held for each in found.values() for held in each])]
    others = [path.name for path in subfolders(folder) if path not in roots.values()] if splits else []
    return assemble(folder.resolve().name, parts, [*notes, *no_splits(folder, others)])


def _splits(folder: Path) -> dict[str, Path]:
    """The folders that bear names of splits; refused if one of them could also be a class."""
    folders = subfolders(folder)
    splits = split_folders(f"data={str(folder)!r}", folders)
    named = list(splits.values())
    others = [path.name for path in folders if path not in named and pictures_in(path).pictures]
    flat = [path.name for path in named if not subfolders(path)]
    if others and flat:
        raise InputError(
            f"data={str(folder)!r} holds {flat[0]!r}, which could be a split or a class, next to folders of pictures "
            f"({', '.join(others[:3])}); give the pictures as test/CLASS/FILE, or move the split out of the classes."
        )
    return splits


def class_folders(root: Path) -> list[Path]:
    """The class folders of a split; none if its pictures are loose.

    Raises:
        InputError: for folders next to loose pictures, neither, or two names of one folder.
    """
    folders, loose = subfolders(root), pictures_in(root)
    if folders and loose.pictures:
        raise InputError(
            f"data={str(root)!r} holds pictures ({loose.pictures[0].name}, ...) next to folders ({folders[0].name}, "
            "...); put every picture into a class folder, or give a folder of pictures only."
        )
    if not folders and not loose.pictures:
        raise InputError(f"data={str(root)!r} holds no pictures{_seen(loose)}; give {KINDS}.")
    _check_apart(folders)
    return folders


def _seen(found: Found) -> str:
    """The endings of files that are no pictures, for an error."""
    kinds = several(f"{ending} ({n})" for ending, n in found.others.most_common())
    return f" that Pillow reads, but files {kinds}" if kinds else " and no parquet files"


def _check_apart(folders: list[Path]) -> None:
    """Refuse a class folder that is a link to another one: its pictures would count for both."""
    places: dict[str, Path] = {}
    for folder in folders:
        other = places.setdefault(os.path.realpath(folder), folder)
        if other is not folder:
            raise InputError(f"data: class folders {other} and {folder.name!r} are the same folder; remove the link.")


def pictures_of(root: Path, folders: list[Path]) -> list[Found]:
    """What each class folder of a split holds; of the split itself without class folders.

    Raises:
        InputError: if a class folder holds no pictures.
    """
    known = {os.path.realpath(folder) for folder in folders}
    found = [pictures_below(folder, known) for folder in folders] or [pictures_in(root)]
    for folder, held in zip(folders, found, strict=False):  # no folders: loose pictures
        if not held.pictures:
            raise InputError(
                f"data: class folder {str(folder)!r} holds no pictures{_seen(held)}; fill it or remove it."
            )
    return found


def folder_part(found: list[Found], folders: list[Path], names: tuple[str, ...]) -> Part:
    """Files and labels of a split; labels are -1 without class folders."""
    paths = Paths.joined([held.pictures for held in found])
    if not folders:
        return Part(Files(paths), torch.full((len(paths),), -1), names)
    numbers = {name: i for i, name in enumerate(names)}
    labels = [numbers[folder.name] for folder, held in zip(folders, found, strict=True) for _ in held.pictures]
    return Part(Files(paths), torch.tensor(labels), names)
