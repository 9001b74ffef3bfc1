"""Concepts as plain values: what a configuration file says and a result records, made into a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whatwhere.data.concept_counts import concept_counts, matching, select
from whatwhere.data.concepts import Combined, ConceptSource, Merged, Named, Selected
from whatwhere.data.pixel_concepts import Colours, Positions, Textures
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError, unknown

FROM_PIXELS = {"colours": Colours, "textures": Textures, "positions": Positions}
ENTRIES = ("merged", "named", *FROM_PIXELS, "only", "select")
LIMITS = {"share": "number", "pictures": "whole number", "bits": "number", "most": "whole number"}


def concepts_of(spec: Mapping[str, Any], scenes: Scenes) -> ConceptSource:
    """A source of concepts for scenes.

    >>> concepts_of({"merged": {"vehicle": ["car", "bus"]}, "colours": True, "only": ["vehicle", "colour: g*"]}, scenes)

    Args:
        spec: `merged`, groups of classes by name; `named`, the label maps of which every value is a concept (`part`,
            `material`); `colours`, `textures`, `positions`, whether these are computed from the pixels; `only`,
            patterns of the names to keep; `select`, least `share`, `pictures` and `bits` and at `most` how many,
            counted on the training pictures (see `whatwhere.data.concept_counts.select`).
        scenes: with the class names, and the names of the values of other label maps.

    Raises:
        InputError: for an entry nobody knows, or no concept.
    """
    for entry in spec:
        if entry not in ENTRIES:
            raise unknown("concepts", str(entry), ENTRIES)
    sources: list[ConceptSource] = []
    if spec.get("merged"):
        if not isinstance(spec["merged"], Mapping):
            raise InputError(f'concepts: merged={spec["merged"]!r} must be groups, such as {{"vehicle": ["car"]}}.')
        sources.append(Merged(spec["merged"], scenes.classes))
    for name in _listed(spec, "named"):
        if name not in scenes.values:
            raise unknown("concepts: named", name, scenes.values or ["none of these scenes' label maps"])
        sources.append(Named(scenes.values[name], name))
    sources += [make() for name, make in FROM_PIXELS.items() if spec.get(name)]
    if not sources:
        raise InputError(f"concepts={dict(spec)!r} names none; give some of {', '.join(ENTRIES)}.")
    joined = Combined(sources)
    only = _listed(spec, "only")
    kept = Selected(joined, matching(joined.names, only)) if only else joined
    return _selected(kept, spec["select"], scenes) if spec.get("select") else kept


def settled(spec: Mapping[str, Any], scenes: Scenes) -> dict[str, Any]:
    """The same concepts by name alone: what `select` leaves is counted once, and put into `only`.

    Raises:
        InputError: as `concepts_of`.
    """
    if not spec.get("select"):
        return dict(spec)
    names = concepts_of(spec, scenes).names
    return {**{entry: value for entry, value in spec.items() if entry != "select"}, "only": list(names)}


def _selected(source: ConceptSource, limits: Any, scenes: Scenes) -> Selected:
    """Those that occur often enough and tell enough of the class."""
    if not isinstance(limits, Mapping):
        raise InputError(f'concepts: select={limits!r} must be limits, such as {{"pictures": 10, "most": 40}}.')
    for name, value in limits.items():
        if name not in LIMITS:
            raise unknown("concepts: select", str(name), list(LIMITS))
        fits = isinstance(value, int | float if LIMITS[name] == "number" else int) and not isinstance(value, bool)
        if not fits or value < 0:
            raise InputError(f"concepts: select: {name}={value!r} must be a {LIMITS[name]} from 0 on.")
    counts = concept_counts(source, scenes.train.rows(), scenes.classes)
    return select(source, counts=counts, **limits)


def _listed(spec: Mapping[str, Any], entry: str) -> Sequence[str]:
    """The names of an entry; a single one need not be in a list."""
    names = spec.get(entry) or ()
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"concepts: {entry}={names!r} must be a list of names.")
    return names


def usual_concepts(scenes: Scenes) -> dict[str, Any]:
    """What is taken where nobody says: the values of the other label maps if there are any, and what pixels tell."""
    if scenes.values:
        return {"named": sorted(scenes.values), "positions": True}
    return dict.fromkeys(FROM_PIXELS, True)
