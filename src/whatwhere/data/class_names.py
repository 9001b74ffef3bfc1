"""Classes that are named by folders or lists: their order, and names that differ by their form only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from whatwhere.errors import InputError

DIGITS = 18  # of a class number, at most


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names sorted as text, or by number if all of them are numbers: 2 before 10."""
    listed = sorted(set(names))
    return tuple(sorted(listed, key=int)) if numbered(listed) else tuple(listed)


def numbered(names: Sequence[str]) -> bool:
    """Whether all names are whole numbers in plain digits."""
    return bool(names) and all(name.isascii() and name.isdecimal() and len(name) <= DIGITS for name in names)


def order_notes(names: Sequence[str]) -> list[str]:
    """What the reader must know of the labels of class folders, in their order."""
    if numbered(names):
        return _of_numbers(names)
    if len({re.sub(r"\d+", "0", name) for name in names}) > 1:  # not one name with many numbers
        return []
    counted = sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    moved = [name for name, other in zip(names, counted, strict=True) if name != other]
    return [
        f"class folders are sorted as text: {name!r} is label {names.index(name)}, not the one that its number "
        f"suggests ({counted.index(name)}). Pad the numbers with zeros if the network's scores follow them."
        for name in moved[:1]
    ]


def _of_numbers(names: Sequence[str]) -> list[str]:
    for i, name in enumerate(names):
        if int(name) != i:
            return [
                f"class folders are numbers, but not 0 to {len(names) - 1}: folder {name!r} is label {i}. See that "
                "the network's scores mean the same."
            ]
    return [
        f"class folders are numbers, and labels follow them: folder {name!r} is label {int(name)}. Sorted as text, "
        f"which torchvision's ImageFolder does, it would be {i}."
        for i, name in enumerate(sorted(names))
        if int(name) != i
    ][:1]


def check_forms(where: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Refuse classes whose names differ by their form only, which are hardly two classes.

    Args:
        where: the names stand, for the error.
        names: by split.

    Returns:
        A note if names of one split differ by case only: these may be two classes, such as letters.

    Raises:
        InputError: for names that differ by Unicode form or spaces, or by case from split to split.
    """
    every = {name: None for listed in names.values() for name in listed}
    for same in alike(every, _without_form):
        raise InputError(f"{where}: {_shown(same)} differ by Unicode form, spaces or zeros only; give them one name.")
    notes = []
    for same in alike(every, lambda name: _without_form(name).casefold()):
        if not any(set(same) <= set(listed) for listed in names.values()):
            raise InputError(f"{where}: {_shown(same)} differ by case only, from split to split; give them one name.")
        notes.append(f"the classes {_shown(same)} differ by case only and count as {len(same)} classes.")
    return notes


def alike(names: Iterable[str], form: Callable[[str], str]) -> list[list[str]]:
    """The names that have another's form, together."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(form(name), []).append(name)
    return [sorted(group) for group in same.values() if len(group) > 1]


def _without_form(name: str) -> str:
    """Composed and visible characters, without zeros before a number and spaces around; one sign between words."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    plain = re.sub(r"[\s_-]+", " ", seen).strip()
    return str(int(plain)) if numbered([plain]) else plain


def _shown(names: Sequence[str]) -> str:
    """Names so that their difference is seen: what is not plain text is escaped."""
    return " and ".join(ascii(name) for name in names)
