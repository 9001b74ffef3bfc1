"""A study's cells, the store that survives a kill, and who runs them."""

from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells

__all__ = ["Cell", "Store", "run_cells"]
