"""The demo's cells: the whole study on each task, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.study import Finished, Plan, Run, Worker
from whatwhere.need.studies.demo import Demo
from whatwhere.need.studies.demo_result import MODEL, WIDTH, DemoResult
from whatwhere.need.studies.recommend import check_within
from whatwhere.need.studies.result import NeedResult
from whatwhere.need.studies.trained import Trained
from whatwhere.training.recipes import recipe_named

RECIPE = "demo"
SHARES = (0.62, 0.88)  # of VGG-11's 8 convolutions; 88 % is everything after the first
TASKS = {"what": "known/what", "where": "known/where", "digits": "digits"}


class DemoPlan(Plan[Demo, DemoResult]):
    """A cell is the study of one task.

    Raises:
        InputError: for a loss that is not a share.
    """

    keeps_weights: ClassVar[bool] = True

    def __init__(self, study: Demo) -> None:
        super().__init__(study)
        check_within(study.within)

    def shared(self) -> Mapping[str, Any]:
        """The network, its recipe and the shares."""
        return {"model": MODEL, "width": WIDTH, "recipe": recipe_named(RECIPE).to_dict(), "shares": SHARES}

    def cell(self, task: str) -> Cell:
        """The study of one task."""
        return Cell({"task": task, "data": TASKS[task], "within": self.study.within}, task)

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The three tasks."""
        return [self.cell(task) for task in TASKS]

    def worker(self, how: Run) -> DemoWorker:
        """Runs the study of a task."""
        return DemoWorker(how.folder, how.files, how.device, how.quiet)

    def fold(self, done: Finished) -> DemoResult:
        """The finished tasks side by side."""
        found = {task: done[cell] for task in TASKS if (cell := self.cell(task)) in done}
        if not found:
            raise InputError("no task of the demo is finished; run it without fold_only.")
        return DemoResult({task: NeedResult.from_dict(plain) for task, plain in found.items()}, tuple(done.notes()))


@dataclass(frozen=True)
class DemoWorker(Worker):
    """Runs the study of a task, which resumes in a folder of its own.

    Attributes:
        folder: a folder in it for each task.
        files: likewise, for weights.
        device: of the training.
        quiet: print no progress.
    """

    folder: Path
    files: Path
    device: str = "auto"
    quiet: bool = False

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one task."""
        study = Trained(
            MODEL,
            config["data"],
            width=WIDTH,
            recipe=RECIPE,
            shares=SHARES,
            seeds=(0,),
            within=config["within"],
        )
        task = config["task"]
        found = study.run(self.folder / task, weights_folder=self.files / task, device=self.device, quiet=self.quiet)
        return found.to_dict()
