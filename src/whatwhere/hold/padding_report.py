"""The modes of padding, and what became of a network in one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from whatwhere.hold.shortcuts import FittedShortcut
from whatwhere.surgery import Replaced

PaddingMode = Literal["zeros", "reflect", "replicate", "circular", "none", "f-conv"]
PADDINGS: tuple[PaddingMode, ...] = ("zeros", "reflect", "replicate", "circular", "none", "f-conv")


@dataclass(frozen=True)
class PaddingReport:
    """What `with_padding` did; the new module carries it as its attribute `surgery`.

    Attributes:
        mode: the padding that every spatial convolution and pool has now.
        input_size: (C, H, W) of the blank picture on which the new network was seen to run.
        replaced: every operator and module that changed, and every shortcut that is fitted to its branch; empty if none
            had to.
        elsewhere: operators that add nothing at this size, and at another would pad in this mode now.
        not_positions: how many calls pad what is no row or column of a map (channels, say); they stay.
        notes: what else to know, a sentence each.
    """

    mode: PaddingMode
    input_size: tuple[int, int, int]
    replaced: tuple[Replaced, ...]
    elsewhere: tuple[Replaced, ...] = ()
    not_positions: int = 0
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> dict[str, int]:
        """How many of each kind changed: {"Conv2d": 20, "MaxPool2d": 1, "F.pad": 12}."""
        return dict(Counter(map(_kind, self.replaced)))

    def __str__(self) -> str:
        """A summary line, then one line for each replacement, and what else to know."""
        operators = sum(map(_is_operator, self.replaced))
        count = f"{len(self.replaced) - operators} modules" + (f" and {operators} operators" if operators else "")
        head = f"padding {self.mode}: {count} changed; runs on {self.input_size}."
        spare = [f"  {r} (adds nothing at this size)" for r in self.elsewhere]
        kept = [f"{self.not_positions} calls pad channels or what is no map, and stay."] if self.not_positions else []
        return "\n".join([head, *(f"  {r}" for r in self.replaced), *spare, *kept, *self.notes])


def _kind(r: Replaced) -> str:
    fitted = r.after.startswith(FittedShortcut.__name__)
    return "shortcut" if fitted else r.before.partition("(")[0].partition(" ")[0]


def _is_operator(r: Replaced) -> bool:
    return r.before.startswith(("F.", "torch."))
