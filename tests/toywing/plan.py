"""What the study of brightness does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from toywing.brightness import Brightness
from whatwhere.errors import unknown
from whatwhere.lab.cells import Cell
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.lab.sources import GivenData
from whatwhere.lab.study import Finished, Plan, Run, Worker
from whatwhere.report.page import Report, Table


@dataclass(frozen=True)
class BrightnessResult(Result):
    """Mean brightness by quadrant, in [0, 1]."""

    kind: ClassVar[str] = "brightness"

    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def conclusion(self) -> str:
        brightest = max(self.rows, key=lambda r: r["brightness"])
        return f"The brightest quadrant is {brightest['quadrant']} ({100 * brightest['brightness']:.1f} % of white)."

    def records(self) -> Iterable[Mapping[str, Any]]:
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        return [dict(r) for r in self.rows]

    def plot(self) -> Figure:
        figure = Figure()
        figure.add_subplot().bar([r["quadrant"] for r in self.rows], [r["brightness"] for r in self.rows])
        return figure

    def report(self, folder: Path | None = None) -> Report:
        tables = [Table("Brightness", self.table())]
        figures = {"brightness": self.plot()}
        return Report("How bright is where?", "Mean over pictures.", figures, tables, self.notes, self.conclusion)


@dataclass(frozen=True)
class BrightnessWorker(Worker):
    source: GivenData

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        images = next(iter(self.source.data.test.take(config["pictures"]).batches(config["pictures"])))[0]
        vertical, horizontal = config["quadrant"].split("-")
        rows = images.chunk(2, 2)[vertical == "bottom"]
        return {"brightness": float(rows.chunk(2, 3)[horizontal == "right"].double().mean() / 255)}


class BrightnessPlan(Plan[Brightness, BrightnessResult]):
    """A cell per quadrant."""

    def shared(self) -> Mapping[str, Any]:
        return {"data": GivenData.of(self.study.data).data.test.fingerprint, "pictures": self.study.pictures}

    def cells(self, done: Finished) -> list[Cell]:
        return [Cell({"quadrant": q, "pictures": self.study.pictures}, q) for q in self.study.quadrants]

    def check(self, how: Run) -> None:
        for quadrant in self.study.quadrants:
            if quadrant not in Brightness.quadrants:
                raise unknown("quadrants", quadrant, Brightness.quadrants)

    def worker(self, how: Run) -> BrightnessWorker:
        return BrightnessWorker(GivenData.of(self.study.data))

    def fold(self, done: Finished) -> BrightnessResult:
        rows = [{"quadrant": c["quadrant"], "brightness": r["brightness"]} for c, r in done]
        return BrightnessResult(tuple(rows), tuple(done.notes()))
