"""Load pictures by name, from a folder, or from what the user already holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from torch.utils.data import DataLoader, Dataset

from whatwhere.data.boxes import Boxes
from whatwhere.data.digits import digits
from whatwhere.data.downsampled import from_downsampled, holds_downsampled
from whatwhere.data.folders import from_folder, is_table_folder
from whatwhere.data.imagenet import from_imagenet, imagenet_in
from whatwhere.data.known_answer import known_answer
from whatwhere.data.load_boxes import DRAWN as DRAWN_BOXES
from whatwhere.data.load_boxes import holds_boxes, load_boxes
from whatwhere.data.load_scenes import DRAWN as DRAWN_STREETS
from whatwhere.data.load_scenes import holds_scenes, load_scenes
from whatwhere.data.loaders import loader_part
from whatwhere.data.noted import folder_named, noted, readable
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.scenes import Scenes
from whatwhere.data.shards import from_shards, holds_shards
from whatwhere.data.split import Split
from whatwhere.data.surroundings import surroundings
from whatwhere.data.torch_sets import dataset_part
from whatwhere.errors import InputError, unknown

if TYPE_CHECKING:
    import datasets

    Held: TypeAlias = (
        datasets.Dataset | datasets.DatasetDict | Dataset[Any] | DataLoader[Any] | Mapping[str, Any] | Data
    )
    Source: TypeAlias = str | os.PathLike[str] | Held
else:
    Held: TypeAlias = Any  # what reads signatures at run time need not import datasets
    Source: TypeAlias = Any

__all__ = ["Data", "load_data"]

BUILT_IN: Mapping[str, Callable[[], Data]] = {
    "known/what": lambda: known_answer("what"),
    "known/where": lambda: known_answer("where"),
    "known/surroundings": surroundings,
    "digits": digits,
}
NAMES = (*BUILT_IN, "hf/<hub id>", "<a folder>")
ON_THE_HUB = {name: [f"hf/uoft-cs/{name}"] for name in ("cifar10", "cifar100")}


# The order matters: a name that is known has the type of what it names; only the disk knows what a folder holds, and
# `Data | Any` lets pictures pass where pictures are needed.
@overload
def load_data(
    source: Scenes | Literal["drawn/streets"], *, image_column: str | None = None, label_column: str | None = None
) -> Scenes: ...
@overload
def load_data(
    source: Boxes | Literal["drawn/boxes"], *, image_column: str | None = None, label_column: str | None = None
) -> Boxes: ...
@overload
def load_data(
    source: Literal["known/what", "known/where", "known/surroundings", "digits"],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Data: ...
@overload
def load_data(
    source: str | os.PathLike[str], *, image_column: str | None = None, label_column: str | None = None
) -> Data | Any: ...
@overload
def load_data(source: Held, *, image_column: str | None = None, label_column: str | None = None) -> Data: ...
def load_data(
    source: Source | Scenes | Boxes, *, image_column: str | None = None, label_column: str | None = None
) -> Data | Scenes | Boxes:
    """Load pictures; or scenes, pictures with a label map each; or pictures with boxes.

    >>> load_data("hf/uoft-cs/cifar100").test.shape()    # (3, 32, 32)
    >>> load_data({"train": mine, "test": other}).train  # a split from any of the kinds below
    >>> load_data("drawn/streets").classes               # scenes
    >>> load_data("drawn/boxes").test[0]                 # a picture, and the boxes in it

    Args:
        source: `"hf/<hub id>"`; `"known/what"`, `"known/where"`, `"known/surroundings"`, `"digits"`; a folder of
            parquet files, of class folders, or of pictures without labels; a Hugging Face or torch Dataset; a
            DataLoader; or a mapping from split names to any of these objects. One split without a name is "test".
            Scenes are `"drawn/streets"`, Cityscapes as it is distributed, or a folder with `classes.json` (see
            `load_scenes`, whose result a type checker knows to be scenes). Pictures with boxes are `"drawn/boxes"`, and
            Pascal VOC or COCO as they are distributed (see `load_boxes`).
        image_column: the column of the pictures, for tables; found by its type or name if not given.
        label_column: the column of the class numbers, likewise; "" reads the pictures without labels.

    Raises:
        InputError: the source is unknown or cannot be read; the message says what was seen and what to give.
    """
    if isinstance(source, Scenes | str | os.PathLike) and _are_scenes(source):
        return load_scenes(source)
    if isinstance(source, Boxes | str | os.PathLike) and _have_boxes(source):
        return load_boxes(source)
    return load_pictures(source, image_column=image_column, label_column=label_column)


def load_pictures(source: Source, *, image_column: str | None = None, label_column: str | None = None) -> Data:
    """Load pictures; arguments and errors are those of `load_data`."""
    if _are_scenes(source):
        name = source if isinstance(source, str) else type(source).__name__
        raise InputError(
            f"data={name!r} holds scenes (pictures with label maps), and pictures with class labels are needed here; "
            "`whatwhere need curve` and `whatwhere say` take scenes."
        )
    if _have_boxes(source):
        name = source if isinstance(source, str) else type(source).__name__
        raise InputError(
            f"data={name!r} holds pictures with boxes, and pictures with class labels are needed here; `whatwhere need "
            "curve` takes boxes."
        )
    if isinstance(source, Data):
        return source
    if isinstance(source, str | os.PathLike):
        with readable(os.fspath(source)):
            return noted(_named(os.fspath(source), image_column, label_column))
    parts = source if isinstance(source, Mapping) else {_split_name(source): source}
    read = {str(split): _part(str(split), value, image_column, label_column) for split, value in parts.items()}
    return noted(assemble("dataset", read))


def _are_scenes(source: Any) -> bool:
    named = isinstance(source, str | os.PathLike) and holds_scenes(source)
    return named or isinstance(source, Scenes)


def _have_boxes(source: Any) -> bool:
    named = isinstance(source, str | os.PathLike) and holds_boxes(source)
    return named or isinstance(source, Boxes)


def _named(name: str, image_column: str | None, label_column: str | None) -> Data:
    columns = (image_column, label_column)
    if name.startswith("hf/"):
        return _tables().from_hub(name.removeprefix("hf/"), *columns)
    folder = folder_named(name)
    if name not in BUILT_IN and folder.is_dir() and is_table_folder(folder):
        return _tables().from_parquet(folder, *columns)
    if any(column is not None for column in columns):
        raise InputError(f"image_column and label_column apply to tables only; {name!r} is not a table.")
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if folder.is_dir():
        return _in_files(folder)
    if folder.exists():
        raise InputError(f"data={name!r} is a file; give the folder that holds it.")
    meant = {other: [other] for other in (DRAWN_BOXES, DRAWN_STREETS)} | ON_THE_HUB
    error = unknown("data", name, (*NAMES, DRAWN_STREETS, DRAWN_BOXES), instead=meant)
    raise InputError(f"{error} There is no folder {folder.absolute()}.")


def _in_files(folder: Path) -> Data:
    """Pictures in a folder that is no table, in whichever layout."""
    if place := imagenet_in(folder):
        return from_imagenet(folder, place)
    if holds_downsampled(folder):
        return from_downsampled(folder)
    return from_shards(folder) if holds_shards(folder) else from_folder(folder)


def _part(split: str, value: Any, image_column: str | None, label_column: str | None) -> Part | Split:
    if isinstance(value, Split):
        return value
    if _is_table(value):
        return _tables().table_part(split, value, image_column, label_column)
    if isinstance(value, DataLoader):
        return loader_part(value)
    if hasattr(value, "__getitem__") and not isinstance(value, str):
        return dataset_part(value)
    raise InputError(
        f"source is a {type(value).__name__}; give a name ({', '.join(NAMES)}), a Hugging Face or torch "
        "Dataset, "
        "a DataLoader, or a dict of them by split."
    )


def _split_name(source: Any) -> str:
    return _tables().split_name(source) if _is_table(source) else "test"


def _is_table(value: Any) -> bool:
    # Only a program that has imported datasets can hold one of its tables.
    loaded = sys.modules.get("datasets")
    return loaded is not None and isinstance(value, loaded.Dataset)


def _tables() -> Any:
    # datasets takes seconds to import, and most data sources do not need it.
    from whatwhere.data import tables

    return tables
