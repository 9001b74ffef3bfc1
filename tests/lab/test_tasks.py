"""A cell is run once, and kept where it is run, before another process may ask for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.lab.cells import Cell, CellFiles, Store, Worker
from whatwhere.lab.tasks import Keeping, Task, _portable, kept


class Awkward(Exception):
    """Cannot be unpickled, as some errors of network libraries."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"awkward {code}")


class Work(Worker):
    def __init__(self) -> None:
        self.ran, self.safe = list[int](), list[str]()
        self.inside: Any = None

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.ran.append(config["x"])
        if self.inside:
            self.inside(config)
        return {"square": config["x"] ** 2}

    def stored(self, cell: Cell) -> None:
        self.safe.append(cell.label)


CELL = Cell({"x": 3}, "three")


def test_a_result_is_kept_before_the_claim_is_given_up(tmp_path: Path) -> None:
    work, files = Work(), CellFiles(tmp_path)
    again = Keeping(Task(work), files, "three")
    work.inside = lambda config: seen.append(again(config).state)  # another process, that asks meanwhile
    seen = list[str]()
    report = Keeping(Task(work), files, "three")(CELL.config)
    assert (report.state, report.result, seen, work.ran, work.safe) == (
        "kept",
        {"square": 9},
        ["claimed"],
        [3],
        ["three"],
    )
    assert set(report.about) == {"seconds", "hardware", "versions"}
    assert files.load(CELL) == {"square": 9}
    assert [p.name for p in (tmp_path / "cells").iterdir()] == [f"{CELL.key}.json"]


def test_a_cell_that_another_has_run_meanwhile_is_not_run(tmp_path: Path) -> None:
    work, files = Work(), CellFiles(tmp_path)
    files.save(CELL, {"square": 9})
    report = Keeping(Task(work), files)(CELL.config)
    assert (report.state, report.result, work.ran) == ("kept", None, [])


def test_the_first_of_two_results_stands(tmp_path: Path) -> None:
    """A process that was taken for dead and wakes up."""
    work, files = Work(), CellFiles(tmp_path)
    work.inside = lambda config: files.save(CELL, {"square": 9, "of": "the other"})
    assert Keeping(Task(work), files)(CELL.config).state == "kept"
    assert files.load(CELL)["of"] == "the other"


def test_what_went_wrong_comes_back_and_the_claim_is_given_up(tmp_path: Path) -> None:
    work, files = Work(), CellFiles(tmp_path)
    work.inside = lambda config: 1 / 0
    report = Keeping(Task(work), files)(CELL.config)
    assert (report.state, type(report.error)) == ("failed", ZeroDivisionError)
    work.inside = None
    assert kept(CELL, {"loss": float("nan")}, {}, files, work).state == "failed"
    assert Keeping(Task(work), files)(CELL.config).state == "kept"


def test_a_folder_that_cannot_be_written_is_told_apart_from_a_cells_own_mistake(tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("in the way")
    work, files = Work(), CellFiles(tmp_path)
    report = Keeping(Task(work), files)(CELL.config)
    assert (report.state, work.ran) == ("unwritable", [])
    assert "is a file, and a folder is needed there" in str(report.error)
    assert kept(CELL, {}, {}, files, work).state == "unwritable"
    (tmp_path / "cells").unlink()

    def wrong(config: Mapping[str, Any]) -> None:
        raise InputError("x=3 is wrong")

    work.inside = wrong
    assert Keeping(Task(work), files)(CELL.config).state == "failed"


def test_errors_on_their_way_from_a_worker() -> None:
    """A user's mistake is passed on as it is, others with their traceback, what cannot be unpickled as text."""
    for error in (InputError("a"), TrainingDiverged("b")):
        assert _portable(error) is error
        assert not hasattr(error, "__notes__")
    work = Work()
    outcome, about = Task(work, away=True)({"do": "square"})  # no x
    assert isinstance(outcome, KeyError)
    assert 'config["x"]' in outcome.__notes__[0]
    assert set(about) == {"seconds", "hardware", "versions"}

    def awkward(config: Mapping[str, Any]) -> None:
        raise Awkward(code=config["x"])

    work.inside = awkward
    outcome, _ = Task(work, away=True)({"x": 5})
    assert type(outcome) is RuntimeError
    assert "awkward 5" in str(outcome)


def test_a_job_whose_folder_another_study_has_taken_meanwhile_runs_nothing(tmp_path: Path) -> None:
    """Its command was killed while it was queued."""
    work, mine = Work(), Store(tmp_path, {"base": 1})
    Store(tmp_path, {"base": 2})
    report = Keeping(Task(work), CellFiles(tmp_path, mine.mark))(CELL.config)
    assert (report.state, work.ran, mine.has(CELL)) == ("unwritable", [], False)
    assert "holds another study by now; give each study a folder of its own" in str(report.error)
