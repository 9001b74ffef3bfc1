"""Errors that a user can fix: they name the argument, what was seen, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager


class InputError(ValueError):
    """An argument that cannot be used; the message says what to give instead."""


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; the message names the step and the last good checkpoint."""


def unknown(
    what: str,
    seen: object,
    known: Iterable[str],
    *,
    shown: int = 12,
    instead: Mapping[str, Sequence[str]] | None = None,
) -> InputError:
    """An error for an unknown name, with the nearest ones.

    Args:
        what: the argument's name, as the user wrote it.
        seen: the value given.
        known: every value that would have been accepted.
        shown: how many choices to print at most.
        instead: as for `nearest`.
    """
    names = list(known)
    listed = ", ".join(names[:shown]) + (f", … ({len(names)} in all)" if len(names) > shown else "")
    hint = nearest(str(seen), names, instead)
    return InputError(f"{what}={seen!r} matches nothing.{hint} Choices: {listed or '(none)'}.")


def nearest(seen: str, known: Iterable[str], instead: Mapping[str, Sequence[str]] | None = None) -> str:
    """The question whether one of the three nearest names was meant, after a space; nothing if none is near.

    A name that differs in capitals alone is the only one asked for.

    Args:
        seen: what was typed.
        known: every name that would have been accepted.
        instead: what to type in place of words that users take for names, by word.
    """
    meant: dict[str, list[str]] = {}
    for name, typed in [*((n, (n,)) for n in known), *(instead or {}).items()]:
        meant.setdefault(name.casefold(), []).extend(typed)
    word = seen.casefold()
    close = [word] if word in meant else difflib.get_close_matches(word, meant, n=3, cutoff=0.5)
    words = list(dict.fromkeys(repr(typed) for c in close for typed in meant[c]))
    return f" Did you mean {' or '.join(words[:3])}?" if words else ""


def no_tensor(output: object) -> InputError:
    """An error for a network that does not return a tensor of scores.

    Args:
        output: what the network returned.
    """
    kind = type(output).__name__
    if isinstance(output, Mapping):
        kind += f" with {', '.join(map(str, output)) or 'nothing in it'}"
    elif isinstance(output, Sized):
        kind += f" of length {len(output)}"
    return InputError(
        f"the network returns a value of type {kind}; expected a tensor of scores (N, classes). Wrap it in a module "
        "whose forward returns that tensor alone."
    )


@contextmanager
def downloading(library: str, name: str) -> Iterator[None]:
    """Turn a failed download in the block into an error that the user can fix.

    Args:
        library: whose weights are fetched.
        name: of the network.

    Raises:
        InputError: without a connection, without such a file, or without room for it.
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
