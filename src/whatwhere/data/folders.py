"""Pictures in folders: split/class/file, class/file, or files without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from whatwhere.data.parts import EVALUATION, Data, Part, assemble
from whatwhere.data.sources import Files
from whatwhere.errors import InputError

SPLITS = ("train", "training", *EVALUATION)
EXTENSIONS = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


def is_table_folder(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face data set: parquet files, or the output of `save_to_disk`."""
    marks = ("*.parquet", "*/*.parquet", "dataset_dict.json", "state.json")
    return any(next(folder.glob(mark), None) is not None for mark in marks)


def from_folder(folder: Path) -> Data:
    """Load a folder of picture files.

    `train/cat/1.png` gives splits, `cat/1.png` one split called "test"; files without class folders have no
    labels. Classes are the folder names, sorted, over all splits.

    Raises:
        InputError: for no pictures, class folders next to loose pictures, or a class folder without pictures.
    """
    roots = _splits(folder) or {"test": folder}
    classes = {split: class_folders(root) for split, root in roots.items()}
    names = tuple(sorted({path.name for paths in classes.values() for path in paths}))
    parts = {split: folder_part(root, classes[split], names) for split, root in roots.items()}
    return assemble(folder.resolve().name, {"train" if k == "training" else k: v for k, v in parts.items()})


def _splits(folder: Path) -> dict[str, Path]:
    """The folders that bear names of splits; refused if one of them could also be a class."""
    named = [path for path in subfolders(folder) if path.name.lower() in SPLITS]
    splits = {path.name.lower(): path for path in named}
    if len(splits) < len(named):
        raise InputError(
            f"data={str(folder)!r} holds {', '.join(p.name for p in named)}; rename those that differ by case only."
        )
    others = [path.name for path in subfolders(folder) if path not in named and loose_pictures(path)]
    flat = [name for name, path in splits.items() if not subfolders(path)]
    if others and flat:
        raise InputError(
            f"data={str(folder)!r} holds {flat[0]!r}, which could be a split or a class, next to folders of pictures "
            f"({', '.join(others[:3])}); give the pictures as test/CLASS/FILE, or move the split out of the classes."
        )
    return splits


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def class_folders(root: Path) -> list[Path]:
    """The class folders of a split; none if its pictures are loose.

    Raises:
        InputError: for folders next to loose pictures, or neither.
    """
    folders, loose = subfolders(root), loose_pictures(root)
    if folders and loose:
        raise InputError(
            f"data={str(root)!r} holds pictures ({loose[0].name}, ...) next to folders ({folders[0].name}, "
            "...); put every picture into a class folder, or give a folder of pictures only."
        )
    if not folders and not loose:
        raise InputError(
            f"data={str(root)!r} holds no pictures ({', '.join(sorted(EXTENSIONS))}) and no parquet files; "
            "give a folder of class folders, of pictures, or of parquet files."
        )
    return folders


def loose_pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if is_picture(path) and path.is_file())


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def folder_part(root: Path, folders: list[Path], names: tuple[str, ...]) -> Part:
    """Files and labels of a split; labels are -1 without class folders.

    Raises:
        InputError: if a class folder holds no pictures.
    """
    if not folders:
        loose = loose_pictures(root)
        return Part(Files(loose), torch.full((len(loose),), -1), names)
    paths: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        found = sorted(pictures_below(folder))
        if not found:
            raise InputError(f"data: class folder {str(folder)!r} holds no pictures; fill it or remove it.")
        paths += found
        labels += [names.index(folder.name)] * len(found)
    return Part(Files(paths), torch.tensor(labels), names)


def pictures_below(folder: Path) -> Iterator[Path]:
    """The picture files in a folder and its subfolders; links are followed."""
    for parent, _, files in os.walk(folder, followlinks=True):
        yield from (path for path in (Path(parent, file) for file in files) if is_picture(path))
