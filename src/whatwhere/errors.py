"""Errors that a user can mend: they name the argument, what was seen, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used; the message says what to give instead."""


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; the message names the step and the last good checkpoint."""


def unknown(what: str, seen: str, known: Iterable[str], *, shown: int = 12) -> InputError:
    """An error for a name that matches nothing, with the nearest names first.

    Args:
        what: the argument's name, as the user wrote it.
        seen: the value given.
        known: every value that would have been accepted.
        shown: how many choices to print at the most.
    """
    names = list(known)
    close = difflib.get_close_matches(seen, names, n=3, cutoff=0.5)
    listed = ", ".join(names[:shown]) + (f", … ({len(names)} in all)" if len(names) > shown else "")
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return InputError(f"{what}={seen!r} matches nothing.{hint} Choices: {listed or '(none)'}.")
