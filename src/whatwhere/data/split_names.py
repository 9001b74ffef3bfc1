"""What splits are called: `train` and `training`, `val`, `valid`, `dev` and `validation`, in any case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from whatwhere.errors import InputError

T = TypeVar("T")

TRAIN = ("train", "training")
VALIDATION = ("validation", "val", "valid", "dev")
TEST = ("test", "testing", "eval", "evaluation")
SPLITS = (*TRAIN, *TEST, *VALIDATION)
SHORT = {"training": "train", "testing": "test"}


def split_name(name: str) -> str | None:
    """What the split of a folder's name is called here; None if the name is not one of a split."""
    plain = name.strip().lower()
    return SHORT.get(plain, plain) if plain in SPLITS else None


def split_folders(argument: str, folders: Iterable[Path]) -> dict[str, Path]:
    """Those of some folders that bear a split's name, by what it is called here.

    Raises:
        InputError: if two stand for the same split.
    """
    named: dict[str, list[Path]] = {}
    for folder in folders:
        if (name := split_name(folder.name)) is not None:
            named.setdefault(name, []).append(folder)
    for name, same in named.items():
        if len(same) > 1:
            seen = ", ".join(folder.name for folder in same)
            raise InputError(f"{argument} holds {seen}; rename those that stand for the same split, {name!r}.")
    return {name: same[0] for name, same in named.items()}


def first_of(splits: Mapping[str, T], names: Iterable[str]) -> T | None:
    """The first split of some names, in any case; None if there is none of them."""
    plain = {split.strip().lower(): value for split, value in splits.items()}
    return next((plain[name] for name in names if name in plain), None)
