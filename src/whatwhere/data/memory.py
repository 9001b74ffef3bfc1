"""How much memory decoded pictures may take."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_CAP = 8 * 2**30
"""The most bytes of decoded pictures that one split keeps, however much memory is free."""


def memory_budget() -> int:
    """Bytes a split may keep now: half of the available memory, at most `MEMORY_CAP`."""
    return min(MEMORY_CAP, available() // 2)


def available() -> int:
    """Bytes of memory that are free or can be freed; a fourth of all memory where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return _physical() // 4


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return MEMORY_CAP
