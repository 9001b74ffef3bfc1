"""Many paths in little memory: a `Path` takes some 500 bytes, here it takes its name's and a dozen."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import overload

import numpy as np


class Paths(Sequence[Path]):
    """Paths of which many lie in one folder, packed."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """Pack paths."""
        numbers: dict[str, int] = {}
        folders, names, ends = array("l"), bytearray(), array("q")
        for path in paths:
            folders.append(numbers.setdefault(os.path.dirname(path), len(numbers)))
            names += os.fsencode(path.name)
            ends.append(len(names))
        self._parents, self._names = [*numbers], bytes(names)
        self._folders, self._ends = np.array(folders, dtype=np.int32), np.array(ends, dtype=np.int64)

    @classmethod
    def joined(cls, several: Sequence[Sequence[Path]]) -> Paths:
        """Some after the other, without unpacking them."""
        parts = [part if isinstance(part, cls) else cls(part) for part in several]
        whole = cls()
        firsts = accumulate((len(part._parents) for part in parts), initial=0)
        starts = accumulate((len(part._names) for part in parts), initial=0)
        whole._parents = [parent for part in parts for parent in part._parents]
        whole._names = b"".join(part._names for part in parts)
        folders = (part._folders + first for part, first in zip(parts, firsts, strict=False))
        ends = (part._ends + start for part, start in zip(parts, starts, strict=False))
        whole._folders = np.concatenate([whole._folders, *folders])
        whole._ends = np.concatenate([whole._ends, *ends])
        return whole

    def __len__(self) -> int:
        """How many."""
        return len(self._folders)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        """A path, or some."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        at = range(len(self))[row]
        start = int(self._ends[at - 1]) if at else 0
        return Path(self._parents[self._folders[at]], os.fsdecode(self._names[start : int(self._ends[at])]))

    def __iter__(self) -> Iterator[Path]:
        """One after the other."""
        return (self[i] for i in range(len(self)))
