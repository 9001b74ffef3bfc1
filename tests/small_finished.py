"""Finished cells without a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whatwhere.lab.cells import Cell
from whatwhere.lab.study import Finished


def finished(*cells: tuple[Cell, Mapping[str, Any]], missing: Sequence[Cell] = ()) -> Finished:
    """Cells with their results, as a plan folds them."""
    store: Any = None  # which only a run needs
    return Finished(store, {cell.key: (cell.config, result) for cell, result in cells}, missing)
