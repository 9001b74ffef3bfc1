"""The Red-Green test: its pictures by slow loops, its networks by shifts, its study on a few pictures."""

import json

import numpy as np
import pytest

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere.errors import InputError
from whatwhere.hold.studies.red_green import RedGreen
from whatwhere.hold.studies.red_green_result import RedGreenResult
from whatwhere.hold.studies.red_green_worker import RedGreenWorker

OPTIONS = {"pictures": (200, 20, 40), "epochs": 1}
run_cell = RedGreenWorker("cpu")


def red_green(out=None, how=(), **options) -> RedGreenResult:
    return RedGreen(**{**OPTIONS, **options}).run(out, quiet=True, **dict(how))


def cells(folder):
    return {f.name: f.stat().st_mtime_ns for f in (folder / "cells").glob("*.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("red-green")


@pytest.fixture(scope="module")
def result(folder) -> RedGreenResult:
    return red_green(folder, paddings=("none", "f-conv"), seeds=(0, 1))


def test_study_folds_its_cells(folder, result):
    cells = [json.loads(f.read_text()) for f in (folder / "cells").iterdir()]
    by = {(c["config"]["padding"], c["config"]["seed"]): c["result"] for c in cells}
    assert set(by) == {(p, s) for p in ("none", "f-conv") for s in (0, 1)}
    for row in result.rows:
        for side in ("similar", "dissimilar"):
            values = [by[row.name, s][side] / 40 for s in (0, 1)]
            assert row.values[side] == pytest.approx(values)
            assert row.measured[side].mean == pytest.approx(np.mean(values))
        assert row.measured["gap"].mean == pytest.approx(row.measured["similar"].mean - row.measured["dissimilar"].mean)


def test_study_reads_back_and_never_runs_a_cell_again(folder, result):
    assert {p.name for p in folder.iterdir()} >= {"result.json", "table.csv", "red-green.svg", "index.html"}
    assert RedGreenResult.load(folder).rows == result.rows
    before = {f: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    again = red_green(folder, paddings=("f-conv", "none"), seeds=(1, 0))
    assert {f: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()} == before
    assert again["none"].measured["gap"].mean == result["none"].measured["gap"].mean


def test_one_seed_gets_intervals_over_pictures(folder, result):
    one = red_green(folder, paddings=("none",), seeds=(0,))
    e = one["none"].measured["similar"]
    assert e.repeats == 1
    assert 0 <= e.low < e.mean < e.high <= 1
    assert any("one seed" in n for n in one.notes)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(InputError, match="workers=-1"):
        red_green(how={"workers": -1})


def test_another_number_of_epochs_in_the_same_folder_is_refused(folder, result):
    with pytest.raises(InputError, match=r"another study[\s\S]*epochs: 1 there, 2 now"):
        red_green(folder, paddings=("none",), seeds=(0,), epochs=2)


@pytest.mark.slow
def test_another_process_would_find_the_same(folder, result, tmp_path):
    elsewhere = red_green(tmp_path, paddings=("none", "f-conv"), seeds=(0, 1), how={"engine": Elsewhere()})
    assert elsewhere.rows == result.rows
    assert cells(tmp_path).keys() == cells(folder).keys()


def test_a_fold_runs_nothing_and_reports_what_is_missing(folder, result):
    before = cells(folder)
    more = red_green(folder, paddings=("none", "zeros"), seeds=(0, 1), how={"fold_only": True})
    assert cells(folder) == before
    assert [r.name for r in more.rows] == ["none"]
    assert more["none"] == result["none"]
    assert "Not finished: zeros, seed 0; zeros, seed 1." in more.notes


def test_a_fold_of_nothing_is_an_error(tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="no cell is finished"):
        red_green(tmp_path, how={"fold_only": True})


def test_the_result_is_found_by_its_kind(folder, result):
    assert isinstance(ww.load_result(folder), RedGreenResult)
    assert ww.load_result(folder).to_frame()["measure"].tolist()[:3] == ["similar", "dissimilar", "gap"]
