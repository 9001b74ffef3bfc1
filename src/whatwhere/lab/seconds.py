"""The time that a result took: the seconds of all runs into its folder, also of those that were killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json

FILE = "seconds.json"
EVERY = 10.0  # seconds between two notes: a kill leaves at most so many out


class Seconds:
    """Counts while its block runs, and notes now and then how many there are in all.

    Args:
        folder: where they are noted.
        started: what `time.perf_counter` said when the work began.
        before: those of earlier runs, where they were not noted.
    """

    def __init__(self, folder: Path, started: float, before: float = 0.0) -> None:
        self._file, self._started = folder / FILE, started
        self._before = self._noted() if self._file.is_file() else before
        self._others, self._seen = 0.0, self._before  # what runs beside this one have noted; what is in the file
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_noting, daemon=True)

    def _noted(self) -> float:
        try:
            return float(read_json(self._file)["seconds"])
        except (InputError, KeyError, TypeError, ValueError):
            return 0.0

    @property
    def total(self) -> float:
        """So far, those of earlier runs included, and of runs beside this one as far as they were noted."""
        return round(self._before + self._others + time.perf_counter() - self._started, 1)

    def __enter__(self) -> Seconds:
        """Begin to note."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Note the last ones."""
        self._over.set()
        self._thread.join()
        self._note()

    def _keep_noting(self) -> None:
        while not self._over.wait(EVERY):
            self._note()

    def _note(self) -> None:
        if self._file.is_file():
            self._others += max(0.0, self._noted() - self._seen)
        self._seen = self.total
        try:
            write_json(self._file, {"seconds": self._seen})
        except InputError:  # a full disk: what matters says so itself
            return
