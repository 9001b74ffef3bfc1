"""What loading says beside what it loads: notes as warnings, and unreadable places as errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from whatwhere.errors import InputError

LONGEST = 100  # characters of a name in an error


class Noted(Protocol):
    """Pictures or scenes with notes."""

    @property
    def name(self) -> str:
        """In reports."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader must know."""
        ...


D = TypeVar("D", bound=Noted)


def noted(data: D) -> D:
    """The same data; each of their notes is given as a warning."""
    for note in data.notes:
        warnings.warn(f"data {data.name!r}: {note}", stacklevel=4)
    return data


def folder_named(name: str) -> Path:
    """The path of a name that a user gave, which need not exist.

    Raises:
        InputError: for a name that no file can have.
    """
    try:
        folder = Path(name).expanduser()
        folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long or not readable, ~nobody, a zero byte
        shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"data={shown!r} cannot be read ({why}); give a name of data, or a folder you may read."
        ) from error
    return folder


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn files or folders that the system does not give into an error that the user can fix.

    Args:
        name: of the folder, as the user gave it.

    Raises:
        InputError: if the system refuses something there.
    """
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise InputError(
            f"data={name!r} cannot be read ({error.strerror or error}{where}); give a folder you may read."
        ) from error
