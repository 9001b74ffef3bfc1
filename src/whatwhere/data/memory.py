"""How much memory decoded pictures may take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MEMORY_CAP = 8 * 2**30
"""Maximum bytes of decoded pictures that a split keeps."""


def memory_budget() -> int:
    """Bytes that a split may keep now: half of the available memory, at most `MEMORY_CAP`."""
    return min(MEMORY_CAP, available() // 2)


def available() -> int:
    """Bytes of memory that are free or can be freed, of the machine and of what a container or job may use of it."""
    return min([_of_the_machine(), *left_in_groups()])


def _of_the_machine() -> int:
    """What the system reports; a quarter of all memory if it does not."""
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


@dataclass(frozen=True)
class _Files:
    """How a version of Linux's control groups calls its files.

    Attributes:
        folder: of all groups.
        limit: the file of a group's limit.
        used: of what it uses, files in memory included.
        freed: in its `memory.stat`, bytes of files that are dropped when memory is needed.
    """

    folder: str
    limit: str
    used: str
    freed: str


FIRST = _Files("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = _Files("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def left_in_groups(root: Path = Path("/")) -> list[int]:
    """Bytes that are left of each limit on this process: its control groups', and those of the groups around them.

    Args:
        root: of the file system.
    """
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return []
    found: dict[Path, int | None] = {}
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if kinds and "memory" not in kinds.split(","):
            continue
        files = FIRST if kinds else SECOND
        top = root / files.folder
        # In a container the path may be the host's, of which only the top is seen.
        within = top / path.strip("/")
        found |= {each: _left(each, files) for each in (within, *within.parents) if each.is_relative_to(top)}
    return [left for left in found.values() if left is not None]


def _left(group: Path, files: _Files) -> int | None:
    """Bytes left of a group's limit; None if it has none, or does not say."""
    try:
        limit, used = (int((group / name).read_text()) for name in (files.limit, files.used))  # a limit may be "max"
        return max(0, limit - used + _freed(group, files))
    except (OSError, ValueError):
        return None


def _freed(group: Path, files: _Files) -> int:
    """Bytes of files in memory that are counted as used and dropped when memory is needed."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{files.freed} "))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
