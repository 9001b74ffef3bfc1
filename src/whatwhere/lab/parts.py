"""The finished parts of a cell under way, written now and then: a kill loses seconds, not the cell."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json

EVERY = 5.0  # seconds between two writes


class Parts:
    """Plain values by name, kept in a file until the cell's own result is stored.

    >>> with Parts(file, of={"cell": config}) as parts:
    ...     if "first half" not in parts:
    ...         parts.add("first half", measured())

    Args:
        file: where they are kept; None keeps them in memory alone.
        of: plain values, all that decides the parts. Those of anything else count for nothing, nor does a damaged file.
    """

    def __init__(self, file: Path | None = None, of: Any = None) -> None:
        self._file, self._of = file, json.loads(json.dumps(of))
        self._values: dict[str, Any] = self._stored()
        self._written = time.monotonic()

    def _stored(self) -> dict[str, Any]:
        try:
            kept = read_json(self._file) if self._file and self._file.is_file() else {}
        except InputError:
            return {}
        whole = isinstance(kept, dict) and kept.get("of") == self._of and isinstance(kept.get("parts"), dict)
        return dict(kept["parts"]) if whole else {}

    def __enter__(self) -> Parts:
        """The parts so far are read already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """After an interruption or an error, what is there is written; of a whole cell the result is."""
        if kind is not None:
            self.write()

    def __contains__(self, name: str) -> bool:
        """Whether a part is finished."""
        return name in self._values

    def __getitem__(self, name: str) -> Any:
        """The value of a finished part."""
        return self._values[name]

    def add(self, name: str, value: Any) -> None:
        """A part is finished."""
        self._values[name] = value
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """Write them now."""
        self._written = time.monotonic()
        if self._file and self._values:
            write_json(self._file, {"of": self._of, "parts": self._values}, compact=True)
