"""Hugging Face data sets from the hub, a folder or memory: choice of columns, and reading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from whatwhere.data.contents import MOST_READ, MOST_SIZES, evenly, file_size, of_sizes
from whatwhere.data.parts import Data, Part, assemble
from whatwhere.data.pixels import Raw
from whatwhere.data.sources import as_raw
from whatwhere.data.split import stored_bytes
from whatwhere.errors import InputError

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABEL_COLUMNS = ("label", "fine_label", "labels")


def from_hub(hub_id: str, image_column: str | None, label_column: str | None) -> Data:
    """Load `owner/name`, or `owner/name:configuration`, from the hub, or what was loaded or downloaded from it before.

    Raises:
        InputError: if it cannot be loaded: unknown, private, or no network.
    """
    repository, _, configuration = hub_id.partition(":")
    try:
        found = datasets.load_dataset(repository, configuration or None)
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        folder = downloaded(repository)
        if folder is None:
            raise InputError(
                f"data='hf/{hub_id}' cannot be loaded ({type(error).__name__}: {error}). Check the name at "
                "https://huggingface.co/datasets; without a network, bring `hf download --repo-type dataset "
                f"{repository}` here, or give the folder of its parquet files instead: load_data('path/to/folder')."
            ) from error
        found = datasets.load_dataset(str(folder), configuration or None)
    return from_tables(f"hf/{hub_id}", found, image_column, label_column)


def downloaded(repository: str) -> Path | None:
    """Where `hf download` put a data set; None if it is not here."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
    except (OSError, ValueError):  # not here, or no name of a repository
        return None


def from_parquet(folder: Path, image_column: str | None, label_column: str | None) -> Data:
    """Load a folder of parquet files, or one written by `save_to_disk`."""
    return from_tables(folder.resolve().name, stored_tables(folder), image_column, label_column)


def stored_tables(folder: Path) -> dict[str, datasets.Dataset]:
    """The tables by split, in a folder of parquet files or one written by `save_to_disk`.

    Raises:
        InputError: if `datasets` cannot read it.
    """
    saved = any((folder / mark).exists() for mark in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(str(folder))
    except Exception as error:  # pyarrow and datasets raise many kinds for a broken file
        raise InputError(
            f"data={str(folder)!r} cannot be read as a Hugging Face data set ({type(error).__name__}: "
            f"{error}); write it with Dataset.to_parquet or save_to_disk."
        ) from error
    return by_split(found)


def by_split(tables: Any) -> dict[str, datasets.Dataset]:
    """Tables by split; a single `Dataset` without a split name counts as "test"."""
    if isinstance(tables, datasets.Dataset):
        return {split_name(tables): tables}
    return {str(name): table for name, table in tables.items()}


def from_tables(name: str, tables: Any, image_column: str | None, label_column: str | None) -> Data:
    """A `Dataset` or `DatasetDict` as data."""
    if not isinstance(tables, datasets.Dataset | Mapping):
        raise InputError(f"source is a {type(tables).__name__}, which has no rows by number; give a datasets.Dataset.")
    return assemble(name, {k: table_part(k, v, image_column, label_column) for k, v in by_split(tables).items()})


def split_name(table: datasets.Dataset) -> str:
    """The split that a table was loaded as, without its slice: "train[:10%]" is "train"."""
    named = re.match(r"\w+", str(table.split)) if table.split is not None else None
    return named.group() if named else "test"


def table_part(
    split: str, table: datasets.Dataset, image_column: str | None = None, label_column: str | None = None
) -> Part:
    """One table as a part.

    Raises:
        InputError: for a transform, which would be ignored, or a column that is missing, ambiguous or unusable.
    """
    if table.format["type"] == "custom":
        raise InputError(
            f"split {split!r} has a transform set, which would be ignored; call .reset_format(), or give a DataLoader."
        )
    features = table.features
    image = find_image_column(features, image_column)
    if label_column == "":
        return Part(Column(table, image), torch.full((len(table),), -1), ())
    label = find_label_column(features, label_column)
    names = getattr(features[label], "names", None)
    return Part(Column(table, image), read_labels(split, table, label), tuple(names) if names else None)


def find_image_column(features: Mapping[str, Any], given: str | None) -> str:
    """The given column, else the `Image` column (by name if there are several), else one with a usual name."""
    if given is not None:
        return _existing("image_column", given, features)
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(images) == 1:
        return images[0]
    return _by_name("image_column", IMAGE_COLUMNS, images or list(features), features)


def find_label_column(features: Mapping[str, Any], given: str | None) -> str:
    """The given column, else one with a usual name, else the only `ClassLabel`, else the only integer column."""
    if given is not None and is_label(features[_existing("label_column", given, features)]):
        return given
    if given is not None:
        raise InputError(f"label_column={given!r} is {kind(features[given])}, not a class number; {listed(features)}.")
    labels = [name for name, feature in features.items() if is_label(feature)]
    named = [name for name in LABEL_COLUMNS if name in labels]
    classes = [name for name in labels if isinstance(features[name], datasets.ClassLabel)]
    for candidates in (named[:1], classes, labels):
        if len(candidates) == 1:
            return candidates[0]
    hint = "; label_column='' reads the pictures without labels"
    return _by_name("label_column", LABEL_COLUMNS, labels, features, hint)


def is_label(feature: Any) -> bool:
    """Whether a column holds class numbers."""
    dtype = getattr(feature, "dtype", "")
    return isinstance(feature, datasets.ClassLabel) or (
        isinstance(feature, datasets.Value) and str(dtype).startswith(("int", "uint"))
    )


def _by_name(
    argument: str,
    names: Sequence[str],
    candidates: Sequence[str],
    features: Mapping[str, Any],
    hint: str = "",
) -> str:
    for name in names:
        if name in candidates:
            return name
    seen = "several columns fit" if candidates and argument == "label_column" else "no column fits"
    raise InputError(f"{argument} is not given and {seen}; {listed(features)}. Give {argument}=<name>{hint}.")


def _existing(argument: str, given: str, features: Mapping[str, Any]) -> str:
    if given not in features:
        raise InputError(f"{argument}={given!r} does not exist; {listed(features)}.")
    return given


def listed(features: Mapping[str, Any]) -> str:
    """The columns with their kinds, for error messages."""
    return "the columns are " + ", ".join(f"{name!r} ({kind(feature)})" for name, feature in features.items())


def kind(feature: Any) -> str:
    """The kind of a column, in a word."""
    return str(feature.dtype) if isinstance(feature, datasets.Value) else type(feature).__name__


def read_labels(split: str, table: datasets.Dataset, column: str) -> Tensor:
    """The label column, (N,) int64, read without the pictures.

    Raises:
        InputError: if a row has no label.
    """
    if not len(table):
        return torch.empty(0, dtype=torch.int64)
    values = table.select_columns([column]).with_format("arrow")[:][column]
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise InputError(
            f"split {split!r}, row {row}: column {column!r} is empty ({values.null_count} such rows); "
            "give it a label or remove the row."
        )
    return torch.from_numpy(values.to_numpy().astype(np.int64))


class Column:
    """The picture column of a table, read without decoding."""

    def __init__(self, table: datasets.Dataset, column: str) -> None:
        view = table.select_columns([column]).with_format(None)
        if isinstance(view.features[column], datasets.Image):
            view = view.cast_column(column, datasets.Image(decode=False))
        self.view, self.column = view, column

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.view)

    def read(self, rows: Sequence[int]) -> list[Raw]:
        """The encoded pictures (or the pixels, for a column of arrays)."""
        values = self.view[list(rows)][self.column]
        return [self._raw(value, row) for value, row in zip(values, rows, strict=True)]

    def _raw(self, value: Any, row: int) -> Raw:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if value is None:
            raise InputError(f"{self.place(row)}: column {self.column!r} is empty; remove the row.")
        return as_raw(value, self.place(row))

    def place(self, row: int) -> str:
        """The row, and the name of its file if the table has one."""
        value = self.view[row][self.column]
        path = value.get("path") if isinstance(value, dict) else None
        return f"row {row} (file {Path(path).name})" if path else f"row {row}"

    def told(self, rows: Sequence[int]) -> Iterable[bytes]:
        """The sizes of encoded pictures, which are not read for it; of other columns the pixels of 1,000 pictures."""
        stored = self.view.data.column(self.column)
        if not pa.types.is_struct(stored.type) or not {"bytes", "path"} <= {field.name for field in stored.type}:
            return (stored_bytes(self.read([row])[0]) for row in evenly(rows, MOST_READ))
        moved = self.view._indices  # where the rows of a shuffled table lie
        at = pa.array(evenly(rows, MOST_SIZES), pa.int64())
        at = at if moved is None else moved.column(0).take(at)
        return of_sizes(_sizes(stored, at))


def _sizes(stored: Any, at: Any) -> list[int]:
    """The sizes of some pictures of a column of bytes and paths: of their files where there are no bytes."""
    sizes: list[int | None] = pc.binary_length(pc.struct_field(stored, "bytes")).take(at).to_pylist()
    paths = pc.struct_field(stored, "path").take(at).to_pylist() if None in sizes else [None] * len(sizes)
    pairs = zip(sizes, paths, strict=True)
    return [file_size(Path(path or "(none)")) if size is None else size for size, path in pairs]
