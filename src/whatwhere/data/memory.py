"""How much memory decoded pictures may take."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_CAP = 8 * 2**30
"""Maximum bytes of decoded pictures that a split keeps."""


def memory_budget() -> int:
    """Bytes that a split may keep now: half of the available memory, at most `MEMORY_CAP`."""
    return min(MEMORY_CAP, available() // 2)


def available() -> int:
    """Bytes of memory that are free or can be freed; a quarter of all memory if the system does not report it."""
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
