"""The location test: pasting by slow loops, its rows, its study on a few small pictures."""

import json

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold.studies import location_worker
from whatwhere.hold.studies.location import Location
from whatwhere.hold.studies.location_plan import row_of
from whatwhere.hold.studies.location_result import LocationResult
from whatwhere.intervals import binomial
from whatwhere.lab.packed import pack
from whatwhere.lab.rows import accuracy, accuracy_of_counts

OPTIONS = {
    "grid": 2,
    "width": 0.25,
    "pictures": 24,
    "test_pictures": 12,
    "epochs": 1,
    "batch_size": 8,
}


def location_test(data, out=None, how=(), **options) -> LocationResult:
    return Location(data, **{**OPTIONS, **options}).run(out, quiet=True, **dict(how))


@pytest.fixture(scope="module")
def pictures() -> Data:
    """Digits, cut to 8 x 8 pixels."""
    small = {}
    for name, split in ww.load_data("digits").splits.items():
        images, labels = next(split.take(40).batches(40))
        small[name] = torch.utils.data.TensorDataset(images[:, :, ::4, ::4].float() / 255, labels)
    return ww.load_data(small)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("location")


@pytest.fixture(scope="module")
def result(pictures, folder) -> LocationResult:
    return location_test(pictures, folder, rows=("zeros", "permute"), seeds=(0, 1))


def test_study_folds_its_cells_and_reads_back(folder, result):
    cells = [json.loads(f.read_text()) for f in (folder / "cells").iterdir()]
    by = {(c["config"]["row"], c["config"]["seed"]): c["result"]["right"] / 12 for c in cells}
    for row in result.rows:
        values = tuple(by[row.name, s] for s in (0, 1))
        assert row.values["accuracy"] == values
        assert row.measured["accuracy"].mean == pytest.approx(sum(values) / 2)
    assert LocationResult.load(folder).rows == result.rows
    assert {p.name for p in folder.iterdir()} >= {"result.json", "table.csv", "location.svg", "index.html"}
    assert result.chance == 0.25


def test_rows_can_be_added_later(pictures, folder, result):
    before = {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    more = location_test(pictures, folder, rows=("zeros", "shuffled"), seeds=(0,))
    after = {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    e = more["zeros"].measured["accuracy"]
    assert (e.low, e.high) == binomial(round(e.mean * 12), 12)


def test_seeds_are_folded_with_their_pictures_and_old_cells_without():
    right = np.random.default_rng(0).random((2, 50)) < 0.6
    cells = [{"n": 50, "right": int(h.sum()), "hits": pack(h.astype(np.uint8))} for h in right]
    assert row_of("zeros", cells).measured["accuracy"] == accuracy(right)
    old = [{"n": 50, "right": c["right"]} for c in cells]  # of the first version
    counted = accuracy_of_counts([c["right"] for c in cells], 50, same=True)
    assert row_of("zeros", old).measured["accuracy"] == counted


NAMED = {"rows": ("zeros",), "pictures": 16, "test_pictures": 8, "seeds": (0, 1)}  # digits, of 32 x 32 pixels


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return tmp_path_factory.mktemp("named")


@pytest.fixture(scope="module")
def by_name(named) -> LocationResult:
    return location_test("digits", named, **NAMED)


def test_finished_networks_are_not_trained_again(named, by_name, monkeypatch):
    monkeypatch.setattr(location_worker, "run", None)
    assert location_test("digits", named, **NAMED).rows == by_name.rows


def test_other_pictures_in_the_same_folder_are_refused(named, by_name):
    with pytest.raises(InputError, match=r"another study[\s\S]*data: "):
        location_test("digits", named, **{**NAMED, "pictures": 17})


@pytest.mark.slow
def test_another_process_would_find_the_same(by_name):
    assert location_test("digits", how={"engine": Elsewhere()}, **NAMED).rows == by_name.rows


def test_pictures_given_as_an_object_do_not_go_to_workers(pictures):
    with pytest.raises(InputError, match="data was given as an object"):
        location_test(pictures, how={"workers": 2}, rows=("zeros",))


def test_a_fold_runs_nothing_and_reports_what_is_missing(named, by_name):
    more = location_test("digits", named, how={"fold_only": True}, **{**NAMED, "rows": ("circular", "zeros")})
    assert more.rows == by_name.rows
    assert "Not finished: circular, seed 0; circular, seed 1." in more.notes
    assert len(list((named / "cells").iterdir())) == 2
