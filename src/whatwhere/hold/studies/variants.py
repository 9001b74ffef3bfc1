"""The networks that are measured: the given one and its controls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from whatwhere.errors import InputError, unknown
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.hold.padding import PADDINGS, with_padding
from whatwhere.hold.studies import token_controls
from whatwhere.lab.cells import Cell
from whatwhere.lab.sources import place
from whatwhere.network import Network
from whatwhere.redraw import untrained, untrained_notes
from whatwhere.site import expected_input_size

GIVEN, UNTRAINED, PADDING = "network", "untrained", "padding"
SAME = "it would be the same network again"
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Variant:
    """One network to measure.

    Attributes:
        kind: `network` (as given), `untrained` (fresh weights), `padding` (the same weights, another padding), or one
            of `token_controls`, for a while.
        mode: of `padding`.
        seed: of `untrained`.
    """

    kind: str = GIVEN
    mode: str = ""
    seed: int = 0

    @property
    def label(self) -> str:
        """How results call it; seeds of an untrained network share one label."""
        if self.kind == PADDING:
            return f"padding {self.mode}"
        return token_controls.LABELS.get(self.kind, self.kind)

    @property
    def title(self) -> str:
        """How progress calls it."""
        return f"{self.label} (seed {self.seed})" if self.kind == UNTRAINED else self.label

    def build(self, net: Network, input_size: Shape) -> Network:
        """The network itself; the given one is never changed.

        Args:
            net: the given one.
            input_size: (C, H, W) on which it must run.

        Raises:
            InputError: if the network cannot have that padding, or has nothing to pad.
        """
        if self.kind == UNTRAINED:
            return untrained(net, self.seed)
        return self._padded(net, input_size) if self.kind == PADDING else net

    def acting(self, net: Network, input_size: Shape) -> AbstractContextManager[object]:
        """What is done to the network while it is measured."""
        if self.kind in token_controls.LABELS:
            return token_controls.acting(self.kind, net, input_size, self.seed)
        return nullcontext()

    def _padded(self, net: Network, input_size: Shape) -> Network:
        made = with_padding(net, self.mode, input_size=input_size)  # type: ignore[arg-type]
        done: Any = made.module.surgery
        if not done.replaced:
            raise InputError(f"the network pads with {self.mode!r} already, or not at all: {SAME}.")
        return made


def cell_of(variant: Variant) -> Cell:
    """The cell that measures a network."""
    return Cell(asdict(variant), variant.title)


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


def possible(
    variants: Iterable[Variant], net: Network, input_size: Shape, *, strict: bool = False
) -> tuple[list[Variant], list[str]]:
    """Those of some variants that the network can have, and a note on each padding that it cannot have.

    A note says what in the untrained networks is not drawn by the layers themselves.

    Args:
        variants: to choose from.
        net: the given network.
        input_size: (C, H, W) on which each must run.
        strict: a padding that the network cannot have is an error; one that it has already is still a note.

    Raises:
        InputError: as `strict` says; if trained weights would stay in an untrained network.
    """
    found, variants = [], list(variants)
    notes = untrained_notes(net) if any(v.kind == UNTRAINED for v in variants) else []
    for variant in variants:
        try:
            if variant.kind == PADDING:
                variant.build(net, input_size)
            found.append(variant)
        except InputError as error:
            if strict and SAME not in str(error):
                raise
            notes.append(f"Padding {variant.mode} is left out: {error}")
    return found, notes


def sized(net: Network, side: int | None) -> Network:
    """The network, expecting pictures of another height and width.

    Raises:
        InputError: if `side` is below 1.
    """
    if side is None:
        return net
    if side < 1:
        raise InputError(f"input_size={side}: give a height and width in pixels, such as 224.")
    preprocessing = replace(net.preprocessing, size=(side, side))
    return replace(net, preprocessing=preprocessing, input_size=(expected_input_size(net)[0], side, side))


def identity(net: Network) -> dict[str, Any]:
    """What makes a network the one that it is, for study.json."""
    return {
        "network": net.name,
        "weights": fingerprint(net.module),
        "layers": architecture(net.module),  # paddings and strides are not among the tensors
        "preprocessing": net.preprocessing.to_dict(),
    }


@contextmanager
def placed(net: Network, device: str) -> Iterator[Network]:
    """The network on a device; its module is put back where it was."""
    before = next(net.module.parameters(), torch.empty(0)).device
    try:
        yield place(net, device)
    finally:
        net.module.to(before)
