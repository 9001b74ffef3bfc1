"""How each ridge read-out of a network is solved: all columns' products at once, or a Krylov space of kept features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whatwhere.hold.features import Group, Tap
from whatwhere.hold.kept import kept_bytes
from whatwhere.hold.ridge import MOST_COLUMNS
from whatwhere.hold.studies.reading import Reading

FEW_COLUMNS = 1_500  # up to these, products and their factors take less than the network itself
KEPT = 2 << 30  # bytes of features
ITERATED = "many columns by Krylov spaces"


@dataclass(frozen=True)
class Ways:
    """Read-outs (kernel, group), in order.

    Attributes:
        closed: by `RidgeFit`.
        iterated: by `krylov_readout`; where the best penalty is tiny, as of many untrained networks, in closed form.
        taps: whose features the latter need.
        all: both, in order.
        notes: on what is left out.
    """

    closed: list[tuple[int, Group]]
    iterated: list[tuple[int, Group]]
    taps: list[Tap]
    all: list[tuple[int, Group]]
    notes: list[str]


def ways(groups: Sequence[Group], how: Reading) -> Ways:
    """Few columns: the closed form. Many: Krylov spaces where the features can be kept, else the closed form if it can.

    Args:
        groups: of a network.
        how: what is read out; its kernels count.
    """
    every = [(k, g) for k in how.kernels for g in groups]
    many = [(k, g) for k, g in every if _columns(k, g) > min(FEW_COLUMNS, MOST_COLUMNS)]
    taps = list({t.name: t for _, g in many for t in g.taps}.values())
    pictures = len(how.pictures.fit) + len(how.pictures.held_out)
    needed = kept_bytes(taps, pictures, how.size, how.padding)
    if needed <= KEPT:
        return Ways([e for e in every if e not in many], many, taps, every, [])
    solvable = [(k, g) for k, g in every if _columns(k, g) <= MOST_COLUMNS]
    notes = [_left_out(k, g, needed) for k, g in every if (k, g) not in solvable]
    return Ways(solvable, [], [], solvable, notes)


def in_closed_form(kernel: int, group: Group) -> bool:
    """Whether the products of all columns can be had."""
    return _columns(kernel, group) <= MOST_COLUMNS


def _columns(kernel: int, group: Group) -> int:
    return group.channels * kernel**2


def _left_out(kernel: int, group: Group, needed: int) -> str:
    return (
        f"The {kernel}x{kernel} ridge read-out of {group.name!r} is left out: {_columns(kernel, group)} columns are "
        f"more than {MOST_COLUMNS}, and the features of all pictures take {needed / 2**30:.1f} GiB, more than "
        f"{KEPT / 2**30:.1f}; give fewer pictures."
    )
