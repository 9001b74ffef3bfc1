"""The control at equal parameters: a plain network, wide enough to have as many as the recalibrated one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import Any

from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.surgery import count_parameters
from whatwhere.use.insert import recalibrate

WIDER, LIKE = "wider", "ms_sar"
STEPS = 256  # from the width to twice the width


def check_wider(model: str) -> None:
    """Refuse a network without a width option.

    Raises:
        InputError: for a network of another family than cifar/.
    """
    if not model.startswith("cifar/"):
        raise InputError(
            f"methods holds {WIDER!r}, which needs a width option; {model} has none. Take a cifar/ network."
        )


@cache
def equal_width(model: str, classes: int, width: float) -> float:
    """The least width, in steps of 1/256, at which the plain network has at least the parameters of `ms_sar`.

    Args:
        model: by name.
        classes: number of scores.
        width: width factor of the network that is recalibrated.
    """
    gated = recalibrate(load_model(model, classes=classes, width=width), LIKE)
    wanted = count_parameters(gated.module)

    def at(k: int) -> int:
        return count_parameters(load_model(model, classes=classes, width=_wider(width, k)).module)

    # At twice the width every network here has far more than recalibration adds.
    return _wider(width, bisect_left(range(STEPS), wanted, key=at))


def _wider(width: float, k: int) -> float:
    return width * (1 + k / STEPS)


def widened(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Model, options and recipe of a study, at the width that gives equal parameters."""
    options = shared["options"]
    width = equal_width(shared["model"], options["classes"], options["width"])
    return {**shared, "options": {**options, "width": width}}
