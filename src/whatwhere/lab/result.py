"""Results: one family. Frozen, versioned, self-describing; saved with their tables, figures and page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, ClassVar, Self

from whatwhere.errors import InputError
from whatwhere.files import read_json, refuse_foreign, write_json
from whatwhere.lab.cells import is_result
from whatwhere.report.notebook import as_html
from whatwhere.report.page import Report, files_of, write_report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
FILE, STUDY = "result.json", "study.json"


class Result:
    """What a study found, and all that it rests on. Every result is a frozen dataclass with these attributes.

    Attributes:
        kind: says in result.json which class reads it.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
        schema_version: of result.json.
    """

    kind: ClassVar[str]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    schema_version: int

    def __init_subclass__(cls, **given: Any) -> None:
        """Keep `__repr__` below: a dataclass writes its own, all rows on one line, unless its class has one."""
        super().__init_subclass__(**given)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The class, how many rows, and the answer's beginning."""
        return f"<{type(self).__name__}, {len(list(self.records()))} rows: {shorten(self.conclusion, 160)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the answer and the first rows."""
        notes = f"What else to know is in .notes ({len(self.notes)})." if self.notes else ""
        return as_html([self.conclusion], self.table(), whole=".table()", ending=notes)

    @property
    def conclusion(self) -> str:
        """The answer in a sentence or two."""
        raise NotImplementedError

    def records(self) -> Iterable[Any]:
        """The measured rows, each a dataclass of plain values."""
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """One line for each row, formatted to read."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """The figure that shows the answer."""
        raise NotImplementedError

    def report(self, folder: Path | None = None) -> Report:
        """The page's content; with a folder, links to other pages in it."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """The rows as numbers, a column for each value: `accuracy.mean`, `accuracy.low`, ..."""
        import pandas as pd

        rows = [asdict(r) if is_dataclass(r) and not isinstance(r, type) else dict(r) for r in self.records()]
        return pd.json_normalize(rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in result.json."""
        plain: Any = self  # every subclass is a dataclass
        return {"kind": self.kind, **asdict(plain)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """From the plain values of result.json.

        Raises:
            InputError: if they are of another kind or schema version.
        """
        from dacite import Config, from_dict

        kind, version = plain.get("kind"), plain.get("schema_version")
        if kind != cls.kind or version != SCHEMA_VERSION:
            raise InputError(
                f"this result has kind {kind!r}, schema version {version!r}; this version of whatwhere reads kind "
                f"{cls.kind!r}, version {SCHEMA_VERSION}."
            )
        made: Self = from_dict(cls, dict(plain), Config(cast=[tuple], check_types=False))
        return made

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read result.json of a folder."""
        return cls.from_dict(read_json(Path(folder) / FILE))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write result.json, table.csv, the figures and index.html; returns the page.

        Args:
            folder: made if it is not there; a result of the same kind in it is replaced.
            overwrite: replace other files of these names as well.

        Raises:
            InputError: if there are such files.
        """
        to, report = Path(folder), self.report(Path(folder))
        foreign = [f for f in (to / FILE, *files_of(to, report)) if _is_older(f, to / STUDY)]
        refuse_foreign(to, foreign, ours=is_result(to / FILE, self.kind), overwrite=overwrite)
        write_json(to / FILE, self.to_dict())
        return write_report(to, report)


def _is_older(file: Path, study: Path) -> bool:
    """Whether a file was there before the study in its folder was begun, or there is no study."""
    return file.exists() and (not study.exists() or file.stat().st_mtime_ns < study.stat().st_mtime_ns)
