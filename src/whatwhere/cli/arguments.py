"""What commands do to arguments before they hand them on."""

from __future__ import annotations

from typing import Any

from whatwhere.errors import InputError
from whatwhere.training.recipes import Recipe


def listed(value: Any) -> list[Any] | None:
    """What was given once, several times ([a, b]) or with commas (a,b), as a list."""
    if value is None or isinstance(value, list):
        return value
    return value.split(",") if isinstance(value, str) else [value]


def numbers(value: Any) -> list[int] | None:
    """What `listed` gives, as whole numbers.

    Raises:
        InputError: for anything else.
    """
    try:
        every = listed(value)
        return None if every is None else [int(v) for v in every]
    except ValueError:
        raise InputError(f"{value!r}: give whole numbers with commas, such as 0,1,2.") from None


def measures(name: str, value: Any, count: int) -> tuple[float, ...] | None:
    """What `listed` gives, as so many numbers; None stays None.

    Raises:
        InputError: for anything else.
    """
    every = listed(value)
    try:
        found = None if every is None else tuple(float(v) for v in every)
    except (TypeError, ValueError):
        found = ()
    if found is not None and len(found) != count:
        raise InputError(f"{name}={value!r}: give {count} numbers with commas, such as {','.join(['1'] * count)}.")
    return found


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others keep the default of whom they are for."""
    return {name: value for name, value in options.items() if value is not None}


def adapted(recipe: Recipe, augment: bool, **changes: float | str | None) -> Recipe:
    """A recipe with some of its values replaced where something else was asked for."""
    values = {**recipe.to_dict(), **{k: v for k, v in changes.items() if v is not None}}
    changed = Recipe(**values)
    return changed if augment else changed.without_augmentation()
