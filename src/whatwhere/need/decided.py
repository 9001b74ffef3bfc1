"""Networks that end in a decision among what they computed, as a detector's boxes are: what can be asked of them.

Such a network has a part whose attribute `decides` is true. What enters it is computed position by position from the
maps before; what leaves it is a choice of some of that, in an order that rounding can change.
"""

from __future__ import annotations

from torch import nn

from whatwhere.errors import InputError
from whatwhere.network import Network, as_module

NO_COLLAPSE = "its boxes are those of many positions of its maps, and GAP+FC leaves one"


def deciding(net: nn.Module | Network) -> nn.Module | None:
    """The part of a network that chooses among what was computed; None if there is none."""
    return next((m for m in as_module(net).modules() if getattr(m, "decides", False) is True), None)


def check_collapsible(net: nn.Module | Network) -> None:
    """Refuse a detector.

    Raises:
        InputError: saying why it cannot be collapsed.
    """
    if deciding(net) is not None:
        raise InputError(
            f"net is a detector: {NO_COLLAPSE}. Shuffle or pool its maps instead (ww.need.shuffle, ww.need.pool), or "
            "collapse a network of classes."
        )
