"""Depth shares: the one rule from "the last 30 %" to a place in a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from whatwhere.errors import InputError

LAST = "last "
EPS = 1e-9  # shares are quotients of whole numbers


class _Place(Protocol):
    """What a rule on depth needs to know of a site."""

    @property
    def name(self) -> str: ...
    @property
    def order(self) -> int: ...
    @property
    def depth_share(self) -> float: ...


P = TypeVar("P", bound=_Place)


def within_share(cuts: Sequence[P], share: float) -> P | None:
    """The deepest cut with at most a share of the convolutions at or after it; None if every cut has more.

    A cut's share counts in whole per cent, rounded down: the paper calls 4 of 13 convolutions (30.8 %) "the last 30 %"
    and 7 of 13 (53.8 %) "53 %". A cut of exactly the share comes first.
    """
    exact = next((s for s in cuts if abs(s.depth_share - share) < EPS), None)
    return exact or next((s for s in cuts if int(100 * s.depth_share + EPS) <= 100 * share + EPS), None)


def share_of(which: object) -> float | None:
    """The share that a selection names by "last 30%" or a number such as 0.3; None if it names something else.

    Raises:
        InputError: for a share that is not above 0 and at most 1, or is no number.
    """
    if isinstance(which, float):
        return _checked(which, which)
    if not isinstance(which, str) or not which.startswith(LAST):
        return None
    try:
        percent = float(which.removeprefix(LAST).strip().removesuffix("%"))
    except ValueError:
        raise InputError(f"sites={which!r}: write a percentage such as 'last 30%'.") from None
    return _checked(percent / 100, which)


def _checked(share: float, which: str | float) -> float:
    if not math.isfinite(share) or not 0 < share <= 1:
        raise InputError(f"sites={which!r}: give a share above 0 and at most all, such as 'last 30%' (or 0.3).")
    return share


def cut_named(cuts: Sequence[P], which: object) -> P | None:
    """The cut that a share names; None for a selection that names something else, or if no cut is that deep."""
    share = share_of(which)
    return within_share(cuts, share) if share else None


def from_share(some: Iterable[P], cuts: Sequence[P], which: str | float) -> list[P]:
    """Some of a network's places: those from the cut that a share names on.

    Args:
        some: places.
        cuts: where the network can be cut, first to last.
        which: the share.

    Raises:
        InputError: if no cut is that deep; the message lists the shares that there are.
    """
    share, cut = share_of(which) or 0.0, cut_named(cuts, which)
    if cut is None and cuts:
        listed = f"{', '.join(s.name for s in cuts)}, at {shares_of(cuts)}"
        raise InputError(f"sites={which!r} matches nothing: no cut is that deep. Choices: {listed}.")
    if cut is None or cut is cuts[0]:  # this is all that there is
        return [s for s in some if int(100 * s.depth_share + EPS) <= 100 * share + EPS]
    return [s for s in some if s.order >= cut.order]


def shares_of(cuts: Iterable[_Place]) -> str:
    """The shares that there are, in per cent, for an error."""
    return ", ".join(f"{100 * s.depth_share:.0f}" for s in cuts) + " %"
