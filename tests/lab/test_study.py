"""Any study: it resumes, refuses, runs in rounds, reports what is missing, and keeps what was finished."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from small_result import SquaresResult
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.cells import Cell, Worker
from whatwhere.lab.engines import Here
from whatwhere.lab.progress import Meter
from whatwhere.lab.result import Result
from whatwhere.lab.study import Finished, Plan, Run, Study, run_study

RAN: list[tuple[int, str]] = []


@dataclass(frozen=True)
class Square(Worker):
    device: str

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        RAN.append((config["x"], self.device))
        if config["x"] == 13:
            raise InputError("x=13 brings bad luck")
        return {"square": config["x"] ** 2}


class SquaresPlan(Plan["Squares", SquaresResult]):
    def shared(self) -> Mapping[str, Any]:
        return {"base": self.study.base}

    def cells(self, done: Finished) -> list[Cell]:
        """Every number, and when these are finished, the root of the largest square, and so on."""
        first = [Cell({"x": x}, f"x={x}") for x in self.study.numbers]
        again = [Cell({"x": done[c]["square"]}, "again") for c in first if c in done and done[c]["square"] == 4]
        return [*first, *again]

    def check(self, how: Run) -> None:
        if self.study.base < 0:
            raise InputError("base must be at least 0.")

    def worker(self, how: Run) -> Square:
        return Square(how.device)

    def fold(self, done: Finished) -> SquaresResult:
        rows = sorted(({"x": c["x"], "square": r["square"]} for c, r in done), key=lambda r: r["x"])
        return SquaresResult(tuple(rows), tuple(done.notes()))


@dataclass(frozen=True)
class Squares(Study[SquaresResult]):
    kind: ClassVar[str] = "squares"
    plan: ClassVar[type[Plan[Any, Any]]] = SquaresPlan
    result: ClassVar[type[Result]] = SquaresResult

    numbers: tuple[int, ...] = (1, 2, 3)
    base: int = 0


class AfterPlan(SquaresPlan):
    folder: ClassVar[str] = "after"

    def before(self) -> Study[Any]:
        return Squares((5,))


class After(Squares):
    plan: ClassVar[type[Plan[Any, Any]]] = AfterPlan


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


def test_cells_run_in_rounds_once_each(tmp_path):
    result = Squares().run(tmp_path, quiet=True)
    assert [x for x, _ in RAN] == [1, 2, 3, 4]  # 4 follows from 2
    assert result.table() == [{"x": x, "square": x**2} for x in (1, 2, 3, 4)]
    assert Squares().run(tmp_path, quiet=True).rows == result.rows
    assert len(RAN) == 4


def test_finished_cells_are_announced_once(tmp_path, capsys):
    Squares((1, 3)).run(tmp_path)
    assert "already" not in capsys.readouterr().err
    Squares((1, 2, 3)).run(tmp_path)  # in two rounds
    assert capsys.readouterr().err.count("2 finished cells are there already.") == 1


class WarnedPlan(SquaresPlan):
    def warnings(self):
        return ["odd", "odd", f"base {self.study.base}"]


class Warned(Squares):
    plan: ClassVar[type[Plan[Any, Any]]] = WarnedPlan


@dataclass(frozen=True)
class Asking(Worker):
    """Runs a study inside a cell, as an audit does."""

    quiet: bool

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        Warned((1,), base=config["x"]).run(quiet=self.quiet)
        return {"square": config["x"] ** 2}


class OuterPlan(WarnedPlan):
    def worker(self, how: Run) -> Asking:
        return Asking(how.quiet)


class Outer(Squares):
    plan: ClassVar[type[Plan[Any, Any]]] = OuterPlan


def test_a_warning_of_several_studies_in_one_is_read_once(tmp_path, capsys):
    for out in (None, tmp_path):
        Outer((3, 5)).run(out)
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Note")]
        assert told == ["Note: odd", "Note: base 0", "Note: base 3", "Note: base 5"]
    Outer((3, 5)).run(quiet=True)
    assert capsys.readouterr().err == ""


def test_the_result_is_of_all_that_is_finished_and_says_what_is_missing(tmp_path):
    Squares((1, 3)).run(tmp_path, quiet=True)
    folded = Squares((3, 7)).run(tmp_path, fold_only=True, quiet=True)
    assert [r["x"] for r in folded.rows] == [1, 3]
    assert folded.notes == ("Not finished: x=7.",)
    assert len(RAN) == 2


def test_a_failure_keeps_the_other_cells(tmp_path):
    with pytest.raises(InputError, match="bad luck"):
        Squares((1, 13, 3)).run(tmp_path, quiet=True)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    assert not (tmp_path / "result.json").exists()
    assert len(Squares((1, 3)).run(tmp_path, quiet=True).rows) == 2
    assert len(RAN) == 3


def test_a_foreign_folder_is_refused_before_anything_runs(tmp_path):
    Squares().run(tmp_path, quiet=True)
    RAN.clear()
    with pytest.raises(InputError, match="base: 0 there, 1 now"):
        Squares(base=1).run(tmp_path, quiet=True)
    with pytest.raises(InputError, match="base must be"):
        Squares(base=-1).run(tmp_path / "other", quiet=True)
    assert RAN == []


def test_a_device_must_be_here_where_the_cells_run_here(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for engine in (None, Here()):
        with pytest.raises(InputError, match="device='tpu' cannot be used"):
            Squares().run(tmp_path / "a", quiet=True, device="tpu", engine=engine)
    with pytest.raises(InputError, match="device='cuda' cannot be used"):
        Squares().run(tmp_path / "a", quiet=True, device="cuda")
    assert (RAN, (tmp_path / "a").exists()) == ([], False)
    Squares().run(tmp_path / "a", quiet=True, device="cuda", engine=Here())
    ran = list(RAN)
    assert {device for _, device in ran} == {"cuda"}
    Squares().run(tmp_path / "a", quiet=True, device="cuda", fold_only=True)
    assert ran == RAN


def test_provenance_is_recorded_and_what_was_saved_is_read_back(tmp_path):
    result = Squares().run(tmp_path, quiet=True, device="cpu")
    assert set(result.provenance) == {"command", "versions", "hardware", "seconds"}
    assert read_json(tmp_path / "study.json") == {"study": "squares", "base": 0}
    assert SquaresResult.load(tmp_path) == SquaresResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert {"result.json", "table.csv", "index.html", "cells"} <= {p.name for p in tmp_path.iterdir()}
    assert {device for _, device in RAN} == {"cpu"}
    assert list(result.to_frame().columns) == ["x", "square"]


def test_seconds_are_those_of_all_runs(tmp_path, monkeypatch):
    now, stops = [0.0], [False, True]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    real = Square.__call__

    def slow(worker, config):
        now[0] += 60
        if config["x"] == 3 and stops.pop():
            raise KeyboardInterrupt
        return real(worker, config)

    monkeypatch.setattr(Square, "__call__", slow)
    with pytest.raises(KeyboardInterrupt):
        Squares().run(tmp_path, quiet=True)
    now[0] += 5000
    assert Squares().run(tmp_path, quiet=True).provenance["seconds"] == 3 * 60 + 2 * 60  # 1, 2, 3 stopped; 3, again
    assert Squares().run(tmp_path, fold_only=True, quiet=True).provenance["seconds"] == 300


def test_seconds_of_a_folder_of_the_first_version_are_those_of_its_cells(tmp_path):
    Squares().run(tmp_path, quiet=True)
    (tmp_path / "seconds.json").unlink()
    for file in (tmp_path / "cells").iterdir():
        file.write_text(json.dumps({**read_json(file), "seconds": 100.0}))
    assert Squares().run(tmp_path, fold_only=True, quiet=True).provenance["seconds"] == pytest.approx(400, abs=1)


def test_a_folder_of_which_the_result_alone_was_kept_resumes(tmp_path):
    Squares().run(quiet=True).save(tmp_path)
    Squares(numbers=(5,)).run(tmp_path, quiet=True)
    assert [r["x"] for r in SquaresResult.load(tmp_path).rows] == [5]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text('{"kind": "cubes", "schema_version": 1}')
    RAN.clear()
    with pytest.raises(InputError, match=r"result\.json is there already, and this command did not write it"):
        Squares().run(tmp_path / "other", quiet=True)
    assert RAN == []


def test_a_folder_with_a_page_of_the_users_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "index.html").write_text("my page")
    with pytest.raises(InputError, match=r"index\.html is there already, and this command did not write it"):
        Squares().run(tmp_path, quiet=True)
    assert RAN == []
    assert {p.name for p in tmp_path.iterdir()} == {"index.html"}
    Squares().run(tmp_path, quiet=True, overwrite=True)
    assert "Squares" in (tmp_path / "index.html").read_text()


def test_a_fold_needs_a_study_and_weights_need_a_training(tmp_path):
    with pytest.raises(InputError, match="holds no study to fold"):
        Squares().run(tmp_path / "typo", fold_only=True)
    assert not (tmp_path / "typo").exists()
    with pytest.raises(InputError, match="this study trains nothing"):
        Squares().run(tmp_path, weights_folder=tmp_path / "w")


def test_quiet_is_quiet_everywhere(tmp_path, capsys):
    class Loud(SquaresPlan):
        def worker(self, how: Run) -> Square:
            with Meter("preparing", 1):
                return super().worker(how)

    class Louder(Squares):
        plan: ClassVar[type[Plan[Any, Any]]] = Loud

    Louder().run(tmp_path / "a", quiet=True)
    assert capsys.readouterr().err == ""
    Louder().run(tmp_path / "b")
    assert "preparing: done" in capsys.readouterr().err


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert len(Squares().run(quiet=True).rows) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_study_may_rest_on_another(tmp_path):
    result = run_study(After((1,)), Run(tmp_path, quiet=True))
    assert [r["x"] for r in result.rows] == [1]
    assert [r["x"] for r in SquaresResult.load(tmp_path).rows] == [5]
    assert (tmp_path / "after" / "index.html").exists()


def test_finished_cells_by_their_configuration(tmp_path):
    seen: list[Any] = []

    class Looking(SquaresPlan):
        def fold(self, done: Finished) -> SquaresResult:
            seen.append(done.by("x"))
            assert Cell({"x": 1}) in done
            assert done[Cell({"x": 1})] == {"square": 1}
            assert Cell({"x": 9}) not in done
            return super().fold(done)

    class Look(Squares):
        plan: ClassVar[type[Plan[Any, Any]]] = Looking

    Look((1, 3)).run(tmp_path, quiet=True)
    assert seen == [{(1,): {"square": 1}, (3,): {"square": 9}}]


def test_engine_and_workers_are_passed_on(tmp_path):
    class Counting:
        sent = 0

        def submit(self, function, configuration, /):
            Counting.sent += 1

            class Handle:
                def done(self):
                    return True

                def result(self):
                    return function(configuration)

            return Handle()

    assert len(Squares((1, 3)).run(tmp_path, engine=Counting(), quiet=True).rows) == 2
    assert Counting.sent == 2
    with pytest.raises(InputError, match="workers=-1"):
        Squares((7,)).run(tmp_path, workers=-1, quiet=True)


def test_a_run_needs_a_folder_for_its_files(tmp_path):
    assert Run(tmp_path).files == tmp_path
    assert Run(tmp_path, weights_folder=tmp_path / "w").files == tmp_path / "w"
    with pytest.raises(ValueError, match="out is None"):
        _ = Run().folder
