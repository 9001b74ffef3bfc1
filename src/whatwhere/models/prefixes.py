"""Prefixes of names in files of weights: what DataParallel, torch.compile or a larger model puts before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from torch import Tensor

from whatwhere.errors import InputError

COMPILED = "_orig_mod."  # of torch.compile, anywhere in a name


def renamed_as(state: Mapping[str, Tensor], own: Mapping[str, Any], where: str) -> tuple[dict[str, Tensor], str]:
    """Tensors by the network's names, where a prefix is all that keeps them apart.

    Args:
        state: tensors by the file's names.
        own: the network's, by its own.
        where: the file, for messages.

    Returns:
        The tensors, and what was done to their names; "" for nothing.

    Raises:
        InputError: if the file holds the network's tensors several times, behind different prefixes.
    """
    plain = {n.replace(".layer.", ".") for n in own} | set(own)  # recalibrated networks load plain names, too
    names = {n: n.replace(COMPILED, "") for n in state if n not in plain} | {n: n for n in state if n in plain}
    rename, done = _renaming(set(names.values()), plain, where)
    new = {n: rename(names[n]) for n in state}
    _refuse_doubles(new, where)
    changed = [n for n, m in new.items() if n != m]
    example = f"{changed[0]!r} is the network's {new[changed[0]]!r}" if changed else ""
    said = f"{where}: {done} {len(changed)} of {len(new)} names; {example}." if changed else ""
    return {m: state[n] for n, m in new.items()}, said


def _renaming(names: Set[str], own: Set[str], where: str) -> tuple[Callable[[str], str], str]:
    """How a name of the file becomes one of the network's, and in words."""
    fit, possible = len(names & own), min(len(names), len(own))
    off, on = _prefixes(names - own, own), _prefixes(own - names, names)
    if max(off.values(), default=0) >= max(on.values(), default=0):
        prefix = _best(off, fit, possible, where)
        said = f"the prefix {prefix or COMPILED!r} is taken off"
        return lambda name: name if name in own else name.removeprefix(prefix), said
    prefix = _best(on, fit, possible, where)
    return lambda name: prefix + name if prefix + name in own and name not in own else name, (
        f"the prefix {prefix!r} is put before"
    )


def _prefixes(long: Iterable[str], short: Set[str]) -> Counter[str]:
    """By prefix, how many of the long names are a short one behind it."""
    found: Counter[str] = Counter()
    for name in long:
        dots = (i + 1 for i, letter in enumerate(name) if letter == ".")
        found.update(name[:end] for end in dots if name[end:] in short)
    return found


def _best(prefixes: Counter[str], fit: int, possible: int, where: str) -> str:
    """The prefix behind which most names fit; "" if even with it fewer than half do."""
    top = prefixes.most_common(2)
    if not top or 2 * (top[0][1] + fit) < possible:
        return ""
    if len(top) > 1 and top[0][1] == top[1][1] and not fit:
        both = " and ".join(repr(p) for p, _ in top)
        raise InputError(f"{where} holds the network's tensors several times, behind {both}; keep one of them.")
    return top[0][0]


def _refuse_doubles(new: Mapping[str, str], where: str) -> None:
    double = next((m for m, count in Counter(new.values()).items() if count > 1), None)
    if double is not None:
        both = " and ".join(repr(n) for n, m in new.items() if m == double)
        raise InputError(f"{where} holds two tensors for the network's {double!r}: {both}; keep one of them.")
