"""Cells of one folder are of the same pictures: a study's fingerprints read a few of them, this the rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from whatwhere.data.split_names import TRAIN, first_of
from whatwhere.errors import InputError
from whatwhere.files import read_json, refuse_foreign, write_json

FILE, CONTENTS = "pictures.json", "contents"


def check_pictures(folder: Path, plan: Any, *, overwrite: bool = False) -> None:
    """Refuse a folder whose cells are of pictures that have changed since; else write down what these hold.

    A folder from before has no such file, and gets it.

    Args:
        folder: of the study.
        plan: of the study, whose other options are those of the folder.
        overwrite: replace a file of that name which no study wrote.

    Raises:
        InputError: naming the splits that have changed.
    """
    now = {name: split.contents for name, split in splits_of(plan).items() if getattr(split, "contents", "")}
    if not now:
        return
    there = _read(folder / FILE, overwrite=overwrite)
    seen = (there or {}) if any((folder / "cells").glob("*.json")) else {}
    changed = [name for name in now if seen.get(name, now[name]) != now[name]]
    if changed:
        which = " and ".join(map(repr, changed))
        raise InputError(
            f"out={str(folder)!r} holds cells of other pictures: those of split {which} have changed since (same "
            "number and labels, another content); choose another folder, or delete it."
        )
    if {**seen, **now} != there:
        write_json(folder / FILE, {CONTENTS: {**seen, **now}})


def splits_of(plan: Any) -> dict[str, Any]:
    """The splits that a plan's numbers come from: those it says (`measured`), or the usual ones of its data."""
    if hasattr(plan, "measured"):
        return {split.name: split for split in plan.measured}
    data, test, scenes = (
        getattr(where, name, None)
        for where, name in ((plan.study, "data_source"), (plan, "test_source"), (plan.study, "scene_source"))
    )
    found: dict[str, Any] = {} if scenes is None else {**scenes.scenes.splits}
    for given, of in ((data, ""), (test, " of test_data")):
        found |= {} if given is None else {f"{split.name}{of}": split for split in _usual(given.given)}
    return found


def _usual(data: Any) -> list[Any]:
    """The splits to learn from and to test on, as far as there are any; no study takes others of its own accord."""
    found = [first_of(data.splits, TRAIN)]
    with suppress(InputError):  # there is none to test on
        found.append(data.test)
    return [split for split in found if split is not None]


def _read(file: Path, *, overwrite: bool) -> Mapping[str, str] | None:
    """What an earlier call wrote; None if there is no such file."""
    if not file.exists():
        return None
    seen = read_json(file)
    ours = isinstance(seen, dict) and seen.keys() == {CONTENTS} and isinstance(seen[CONTENTS], dict)
    refuse_foreign(file.parent, [file], ours=ours, overwrite=overwrite)
    return seen[CONTENTS] if ours else None
