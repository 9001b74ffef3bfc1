"""Errors that a user can mend: they name the argument, what was seen, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager


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


def no_tensor(output: object) -> InputError:
    """An error for a network that gives something else than a tensor of scores.

    Args:
        output: what the network gave.
    """
    kind = type(output).__name__
    if isinstance(output, Mapping):
        kind += f" with {', '.join(map(str, output)) or 'nothing in it'}"
    elif isinstance(output, Sized):
        kind += f" of length {len(output)}"
    return InputError(
        f"the network gives a value of type {kind}; expected a tensor of scores (N, classes). Wrap it in a module "
        "whose forward returns that tensor alone."
    )


@contextmanager
def downloading(library: str, name: str) -> Iterator[None]:
    """What cannot be fetched or found in the block is told as an error that a user can mend.

    Args:
        library: whose weights are fetched.
        name: of the network.

    Raises:
        InputError: if there is no connection, no such file, or no room for it.
    """
    try:
        yield
    except Exception as error:
        # huggingface_hub's own errors and urllib's are OSErrors; a connection lost on the way is httpx's.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("httpx", "huggingface_hub")):
            raise
        reason = " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
        raise InputError(
            f"pretrained=True: {library} could not download its weights of {name} ({reason}). Try again with a "
            "connection, or leave pretrained out and give weights=FILE, a file with this network's tensors."
        ) from error
