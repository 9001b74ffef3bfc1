"""A result of squares, as small as a result can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from whatwhere.lab.result import Result
from whatwhere.report.page import Report, Table


@dataclass(frozen=True)
class SquaresResult(Result):
    kind: ClassVar[str] = "squares"

    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = 1

    @property
    def conclusion(self) -> str:
        return f"{len(self.rows)} squares."

    def records(self) -> Iterable[Mapping[str, Any]]:
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        return [dict(r) for r in self.rows]

    def plot(self) -> Figure:
        return Figure()

    def report(self, folder: Path | None = None) -> Report:
        return Report("Squares", "A test.", {}, [Table("All", self.table())], self.notes, self.conclusion)
