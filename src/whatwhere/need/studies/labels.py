"""Pictures must have labels: accuracy needs them."""

from __future__ import annotations

from typing import Any

from whatwhere.data import Split
from whatwhere.errors import InputError
from whatwhere.training.scores import check_several


def check_labels(given: Any, split: Split) -> None:
    """Refuse pictures without labels.

    Args:
        given: the option `data`, for the error.
        split: of these data.

    Raises:
        InputError: if it has no classes, or a single one.
    """
    name = f"data={given!r}" if isinstance(given, str) else "data"
    if not split.classes:
        raise InputError(f"{name}: these pictures have no labels; accuracy needs them, as class folders give.")
    check_several(split.classes, name)
