"""The networks that are measured: the given one, and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whatwhere.errors import InputError, unknown
from whatwhere.network import Network
from whatwhere.position.padding import PADDINGS, with_padding
from whatwhere.surgery import untrained

GIVEN, UNTRAINED, PADDING = "network", "untrained", "padding"
SAME = "it would be the same network again"


@dataclass(frozen=True)
class Variant:
    """One network to measure.

    Attributes:
        kind: `network` (as given), `untrained` (fresh weights), or `padding` (the same weights, another padding).
        mode: of `padding`.
        seed: of `untrained`.
    """

    kind: str = GIVEN
    mode: str = ""
    seed: int = 0

    @property
    def label(self) -> str:
        """How results call it; seeds of an untrained network share one label."""
        return f"padding {self.mode}" if self.kind == PADDING else self.kind

    def build(self, net: Network, input_size: tuple[int, int, int]) -> Network:
        """The network itself; the given one is never changed.

        Args:
            net: the given one.
            input_size: (C, H, W) on which it must run.

        Raises:
            InputError: if the network cannot have that padding, or has nothing to pad.
        """
        if self.kind == GIVEN:
            return net
        made = untrained(net, self.seed) if self.kind == UNTRAINED else self._padded(net, input_size)
        assert isinstance(made, Network)
        return made

    def _padded(self, net: Network, input_size: tuple[int, int, int]) -> object:
        made: Any = with_padding(net, self.mode, input_size=input_size)  # type: ignore[arg-type]
        if not made.module.surgery.replaced:
            raise InputError(f"the network pads with {self.mode!r} already, or not at all: {SAME}.")
        return made


def variants_of(untrained_seeds: int, paddings: Sequence[str]) -> list[Variant]:
    """The given network first, then its controls.

    Raises:
        InputError: for an unknown padding or a negative number of seeds.
    """
    if untrained_seeds < 0:
        raise InputError(f"untrained={untrained_seeds}: give the number of untrained networks, 0 for none.")
    for mode in paddings:
        if mode not in PADDINGS:
            raise unknown("paddings", str(mode), PADDINGS)
    fresh = [Variant(UNTRAINED, seed=s) for s in range(untrained_seeds)]
    return [Variant(), *fresh, *(Variant(PADDING, mode) for mode in dict.fromkeys(paddings))]
