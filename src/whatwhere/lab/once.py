"""Workers that prepare pictures or networks: once in each process, for all the cells that it runs."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

from whatwhere.lab.cells import Worker


class PreparedOnce(Worker):
    """A worker, a frozen dataclass, whose cached properties serve every cell of a process.

    Each cell is sent with a copy of the worker. A process keeps the first copy and uses it for all that are equal.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """The attributes alone, without what was prepared."""
        worker: Any = self  # every subclass is a dataclass
        return (_of_this_process, (type(self), *((f.name, getattr(self, f.name)) for f in fields(worker))))


@lru_cache(maxsize=1)
def _of_this_process(kind: type[PreparedOnce], *attributes: tuple[str, Any]) -> PreparedOnce:
    return kind(**dict(attributes))
