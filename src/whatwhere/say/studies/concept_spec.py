"""Concepts as plain values: what an option or a file says and a result records, made into a source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whatwhere.data.cityscapes import CATEGORIES
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError, unknown
from whatwhere.files import read_json
from whatwhere.say.concept_counts import concept_counts, matching, select
from whatwhere.say.concepts import Combined, ConceptSource, Merged, Named, Selected, copies_of_classes
from whatwhere.say.pixel_concepts import Colours, Positions, Textures

FROM_PIXELS = {"colours": Colours, "textures": Textures, "positions": Positions}
BRODEN, CITYSCAPES = "broden", "cityscapes"
OF_SCENES = ("merged", "named", *FROM_PIXELS)
ENTRIES = (*OF_SCENES, BRODEN, "only", "select")
LIMITS = {"share": "number", "pictures": "whole number", "bits": "number", "most": "whole number"}


def plain_spec(concepts: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """What a user gives, as a mapping.

    Args:
        concepts: "cityscapes", "broden/FOLDER", a JSON file, or a mapping.

    Raises:
        InputError: for a file that cannot be read or holds no mapping, or an unknown entry.
    """
    spec = dict(concepts) if isinstance(concepts, Mapping) else _named(os.fspath(concepts))
    for entry in spec:
        if entry not in ENTRIES:
            raise unknown("concepts", str(entry), ENTRIES)
    for entry in FROM_PIXELS:
        if not isinstance(spec.get(entry, False), bool):
            raise InputError(f"concepts: {entry}={spec[entry]!r} must be true or false.")
    return spec


def _named(name: str) -> dict[str, Any]:
    if name == CITYSCAPES:
        return {"merged": CITYSCAPES}
    family, _, folder = name.partition("/")
    if family == BRODEN and folder:
        return {BRODEN: folder}
    if not Path(name).is_file():
        raise unknown("concepts", name, [CITYSCAPES, f"{BRODEN}/FOLDER", "<a JSON file>"])
    plain = read_json(Path(name), remedy="correct it")
    if not isinstance(plain, dict):
        raise InputError(f'concepts={name!r} must hold an object, such as {{"colours": true}}.')
    return plain


def concepts_of(spec: Mapping[str, Any], scenes: Scenes) -> ConceptSource:
    """A source of concepts for scenes.

    >>> concepts_of({"merged": {"vehicle": ["car", "bus"]}, "colours": True, "only": ["vehicle", "colour: g*"]}, scenes)

    Args:
        spec: `merged`, groups of classes by name, or "cityscapes"; `named`, the label maps of which every value is a
            concept (`part`, `material`); `colours`, `textures`, `positions`, whether these are computed from the
            pixels; `only`, patterns of the names to keep; `select`, least `share`, `pictures` and `bits` and at `most`
            how many, counted on the training pictures (see `whatwhere.say.concept_counts.select`).
        scenes: with the class names, and the names of the values of other label maps.

    Raises:
        InputError: for an unknown entry, or no concept.
    """
    spec = plain_spec(spec)
    sources: list[ConceptSource] = []
    if spec.get("merged"):
        sources.append(_merged(spec["merged"], scenes))
    for name in listed(spec, "named"):
        if name not in scenes.values:
            raise unknown("concepts: named", name, scenes.values or ["none of these scenes' label maps"])
        sources.append(Named(scenes.values[name], name))
    sources += [make() for name, make in FROM_PIXELS.items() if spec.get(name)]
    if not sources:
        raise InputError(f"concepts={dict(spec)!r} names none; give some of {', '.join((*OF_SCENES, BRODEN))}.")
    joined = Combined(sources)
    only = listed(spec, "only")
    kept = Selected(joined, matching(joined.names, only, "concepts: only")) if only else joined
    return _selected(kept, checked_limits(spec["select"]), scenes) if spec.get("select") else kept


def _merged(merged: Any, scenes: Scenes) -> Merged:
    groups = _groups(merged, scenes)
    try:
        return Merged(groups, scenes.classes)
    except InputError as error:
        raise InputError(f"concepts: merged: {error}") from error


def _groups(merged: Any, scenes: Scenes) -> Mapping[str, Sequence[str]]:
    if merged == CITYSCAPES:
        return Categories.of(scenes).groups
    if not isinstance(merged, Mapping):
        raise InputError(
            f'concepts: merged={merged!r} must be groups, such as {{"vehicle": ["car", "bus"]}}, or {CITYSCAPES!r}.'
        )
    return merged


@dataclass(frozen=True)
class Categories:
    """Cityscapes' categories of classes, as far as some scenes have their classes.

    Attributes:
        groups: classes of the scenes, by category.
        left_out: categories that would copy a class of the scenes, with it.
    """

    groups: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]

    @staticmethod
    def of(scenes: Scenes) -> Categories:
        """The categories of scenes.

        Raises:
            InputError: if none merges several classes of the scenes.
        """
        own = {name: tuple(c for c in classes if c in scenes.classes) for name, classes in CATEGORIES.items()}
        groups = {name: classes for name, classes in own.items() if classes}
        copies = copies_of_classes(Merged(groups, scenes.classes), scenes.classes) if groups else {}
        kept = {name: classes for name, classes in groups.items() if name not in copies}
        if not kept:
            raise InputError(
                f"concepts={CITYSCAPES!r}: none of its categories ({', '.join(CATEGORIES)}) merges several classes of "
                f"{scenes.name!r} ({', '.join(scenes.classes)}); give groups of your own."
            )
        return Categories(kept, copies)

    @property
    def notes(self) -> list[str]:
        """What is left out."""
        names = ", ".join(f"{name} ({of})" for name, of in self.left_out.items())
        return [f"Categories of Cityscapes that would copy a class here are left out: {names}."] if names else []


def settled(spec: Mapping[str, Any], scenes: Scenes) -> dict[str, Any]:
    """The same concepts by name alone: what `select` leaves is counted once and put into `only`, categories as groups.

    Raises:
        InputError: as `concepts_of`.
    """
    fixed = dict(spec)
    if spec.get("merged") == CITYSCAPES:
        fixed["merged"] = {name: list(classes) for name, classes in Categories.of(scenes).groups.items()}
    if not spec.get("select"):
        return fixed
    del fixed["select"]
    return {**fixed, "only": list(concepts_of(spec, scenes).names)}


def notes_of(spec: Mapping[str, Any], scenes: Scenes) -> list[str]:
    """What the reader must know of concepts as a user gave them."""
    return Categories.of(scenes).notes if spec.get("merged") == CITYSCAPES else []


def _selected(source: ConceptSource, limits: Mapping[str, Any], scenes: Scenes) -> Selected:
    """Those that occur often enough and have enough information about the class."""
    return select(source, counts=concept_counts(source, scenes.train.rows(), scenes.classes), **limits)


def checked_limits(limits: Any) -> Mapping[str, Any]:
    """The entry `select`.

    Raises:
        InputError: for unknown limits, or values that are not such numbers.
    """
    if not isinstance(limits, Mapping):
        raise InputError(f'concepts: select={limits!r} must be limits, such as {{"pictures": 10, "most": 40}}.')
    for name, value in limits.items():
        if name not in LIMITS:
            raise unknown("concepts: select", str(name), list(LIMITS))
        fits = isinstance(value, int | float if LIMITS[name] == "number" else int) and not isinstance(value, bool)
        if not fits or value < 0:
            raise InputError(f"concepts: select: {name}={value!r} must be a {LIMITS[name]} from 0 on.")
    return limits


def listed(spec: Mapping[str, Any], entry: str) -> Sequence[str]:
    """The names of an entry; a single one need not be in a list."""
    names = spec.get(entry) or ()
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"concepts: {entry}={names!r} must be a list of names.")
    return names


def usual_concepts(scenes: Scenes) -> dict[str, Any]:
    """The default: the values of the other label maps if there are any, and what pixels show."""
    if scenes.values:
        return {"named": sorted(scenes.values), "positions": True}
    return dict.fromkeys(FROM_PIXELS, True)
