"""The study on tiny networks: cells, resuming, folding, the matrix."""

import json
from dataclasses import replace

import numpy as np
import pytest

import whatwhere as ww
from small_engine import Elsewhere
from small_trained import RECIPE, study
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.need.studies import trained_plan
from whatwhere.need.studies.recommend import recommend
from whatwhere.need.studies.result import NeedResult, Point
from whatwhere.need.studies.trained_worker import TrainedWorker, draws_of
from whatwhere.network import Network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def result(folder) -> NeedResult:
    return study(seeds=(0, 1)).run(folder, quiet=True)


def cells(folder) -> list[dict]:
    return [json.loads(f.read_text()) for f in sorted((folder / "cells").iterdir())]


@pytest.mark.slow
def test_every_method_share_and_seed_is_a_cell(folder, result):
    trained = [c["config"] for c in cells(folder) if c["config"]["do"] == "train"]
    assert len(trained) == 2 * (1 + 2 * 2)
    assert {(p.method, round(p.depth_share, 2)) for p in result.points} == {
        (m, s) for m in ("gap_fc", "per-channel") for s in (0.38, 1.0)
    }


def test_means_and_drops_are_over_seeds(folder, result):
    by = {
        (c["config"]["method"], c["config"]["site"], c["config"]["seed"]): c["result"]["accuracy"]
        for c in cells(folder)
        if c["config"]["do"] == "train"
    }
    for p in result.points:
        values = [by[p.method, p.site, s] for s in (0, 1)]
        drops = [by["intact", None, s] - by[p.method, p.site, s] for s in (0, 1)]
        assert p.accuracy.mean == pytest.approx(np.mean(values))
        assert p.drop.mean == pytest.approx(np.mean(drops))
        assert p.drop.spread == pytest.approx(abs(drops[0] - drops[1]) / np.sqrt(2))
        half = 12.7062 * p.drop.spread / np.sqrt(2)  # Student's t with one degree of freedom
        low, high = p.drop.fixed
        assert high == pytest.approx(min(1.0, p.drop.mean + half), rel=1e-4)
        assert low == pytest.approx(max(-1.0, p.drop.mean - half), rel=1e-4)
        assert p.drop.covers == p.accuracy.covers == "seeds and test pictures"


def test_matrix_has_its_four_fields(result):
    fields = {(e.trained, e.tested) for e in result.matrix}
    assert fields == {(a, b) for a in ("intact", "per-channel") for b in ("intact", "per-channel")}
    diagonal = next(e for e in result.matrix if e.trained == e.tested == "per-channel")
    assert (
        diagonal.accuracy
        == next(p for p in result.points if p.method == "per-channel" and p.depth_share < 0.5).accuracy
    )


def test_finished_cells_are_never_run_again(folder, result):
    before = {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()}
    again = study(seeds=(0, 1)).run(folder, quiet=True)
    assert {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()} == before
    assert again.points == result.points


def test_seeds_can_be_added_later(folder, result, tmp_path):
    for f in ["study.json", *(f"cells/{p.name}" for p in (folder / "cells").iterdir())]:
        (tmp_path / f).parent.mkdir(exist_ok=True)
        (tmp_path / f).write_bytes((folder / f).read_bytes())
    more = study(seeds=(0, 1, 2), shares=(1.0,), matrix=()).run(tmp_path, weights_folder=folder, quiet=True)
    seeds = {(p.method, round(p.depth_share, 2)): p.accuracy.repeats for p in more.points}
    assert seeds == {
        (m, s): n for m in ("gap_fc", "per-channel") for s, n in ((1.0, 3), (0.38, 2))
    }  # the old ones stay
    assert {(e.trained, e.tested): e.accuracy.repeats for e in more.matrix}["intact", "per-channel"] == 2


def test_an_incomplete_grid_folds_what_is_there_and_says_so(folder, result, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "study.json").write_bytes((folder / "study.json").read_bytes())
    for f in (folder / "cells").iterdir():
        config = json.loads(f.read_text())["config"]
        if config["do"] == "train" and config["seed"] == 0 and config["method"] != "per-channel":
            (tmp_path / "cells" / f.name).write_bytes(f.read_bytes())
    partial = study(seeds=(0, 1)).run(tmp_path, fold_only=True, quiet=True)
    assert {p.method for p in partial.points} == {"gap_fc"}
    assert any("not complete" in n for n in partial.notes)
    assert any("one seed" in n for n in partial.notes)
    assert all(p.drop.low < p.drop.high for p in partial.points)


def test_nothing_there_says_so(tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="no finished cell"):
        study().run(tmp_path, fold_only=True, quiet=True)


def test_another_recipe_in_the_same_folder_is_refused(folder, result):
    with pytest.raises(InputError, match=r"another study[\s\S]*recipe"):
        study(recipe=replace(RECIPE, lr=0.01), seeds=(0,)).run(folder, quiet=True)


def test_a_share_that_is_nowhere_lists_the_shares_there_are(tmp_path):
    with pytest.raises(InputError, match=r"100, 88, 75, 62, 50, 38, 25, 12 %"):
        study(shares=(0.02,), matrix=()).run(tmp_path, quiet=True)


def test_result_reads_back(folder, result):
    assert NeedResult.load(folder).points == result.points
    assert NeedResult.load(folder).matrix == result.matrix


def point(share: float, drop: float, half: float) -> Point:
    e = Estimate(0.5, 0.4, 0.6, 0.0, 100, 1)
    return Point("gap_fc", f"s{share}", share, e, Estimate(drop, drop - half, drop + half, 0.0, 100, 1))


def test_recommendation_is_the_deepest_whose_upper_end_is_within(trained):
    points = [point(0.2, 0.0, 0.005), point(0.4, 0.004, 0.005), point(0.6, 0.004, 0.02), point(0.8, 0.3, 0.01)]
    taken = []

    def collapsed(site: str) -> Network:
        taken.append(site)
        return ww.need.collapse(trained, "features.11")

    advice = recommend(points, 0.01, trained, collapsed, retrained=True)
    assert taken == ["s0.4"]
    assert advice.site == "s0.4"
    assert advice.after["parameters"] < advice.before["parameters"]
    assert advice.after["flops"] < advice.before["flops"]
    none = recommend(points[3:], 0.01, trained, collapsed, retrained=True)
    assert none.site is None
    assert "No removal" in none.text


def test_a_fixed_permutation_is_tested_as_it_was_trained(tmp_path):
    options = {"recipe": replace(RECIPE, epochs=3), "methods": ("fixed",), "shares": (0.88,), "repeats": 3}
    study(seeds=(0,), matrix=(0.88,), **options).run(tmp_path, quiet=True)
    trained = next(c["result"] for c in cells(tmp_path) if c["config"]["method"] == "fixed" and "seed" in c["config"])
    assert trained["accuracies"] == [trained["epochs"][-1]["test_accuracy"]]  # one draw for ever: one test
    other = next(c for c in cells(tmp_path) if c["config"]["do"] == "test" and c["config"]["method"] == "fixed")
    assert len(other["result"]["accuracies"]) == 3
    draws = draws_of(other["config"], 0)  # what the intact network never saw is drawn anew
    assert len({g.initial_seed() for g in draws}) == 3


def finished(source, target, wanted) -> None:
    """Some finished cells of a folder in another one."""
    (target / "cells").mkdir(parents=True)
    (target / "study.json").write_bytes((source / "study.json").read_bytes())
    for f in (source / "cells").iterdir():
        if wanted(json.loads(f.read_text())["config"]):
            (target / "cells" / f.name).write_bytes(f.read_bytes())


def test_a_finished_folder_is_folded_without_training_or_reading_pictures(folder, result, monkeypatch):
    built = []
    load_model = trained_plan.load_model
    monkeypatch.setattr(trained_plan, "load_model", lambda *a, **k: built.append(a) or load_model(*a, **k))
    monkeypatch.setattr(TrainedWorker, "__call__", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr("whatwhere.data.split.Split.batches", lambda *_, **__: pytest.fail("read"))
    again = study(seeds=(0, 1)).run(folder, fold_only=True, quiet=True)
    assert again.points == result.points
    assert len(built) == 1  # for its sites; the collapsed one of the recommendation is made from it


def test_tests_that_are_missing_are_named(folder, result, tmp_path):
    finished(folder, tmp_path, lambda c: c["do"] == "train")
    partial = study(seeds=(0, 1)).run(tmp_path, fold_only=True, quiet=True)
    assert partial.points == result.points
    assert {(e.trained, e.tested) for e in partial.matrix} == {("intact", "intact"), ("per-channel", "per-channel")}
    assert any(n.startswith("Not finished: intact 0 %, seed 0, tested per-channel; ") for n in partial.notes)


@pytest.mark.slow
def test_another_process_would_find_the_same(folder, result, tmp_path):
    study(shares=(1.0,), matrix=(), methods=("per-channel",), seeds=(0,)).run(tmp_path, engine=Elsewhere(), quiet=True)
    both = {f.name: json.loads(f.read_text())["result"] for f in (tmp_path / "cells").iterdir()}
    assert len(both) == 2
    for name, found in both.items():
        alone = json.loads((folder / "cells" / name).read_text())["result"]
        assert (found["hits"], found["accuracies"]) == (alone["hits"], alone["accuracies"])


def test_a_test_needs_the_weights_of_its_network_which_is_said_before_others_are_trained(
    folder, result, tmp_path, monkeypatch, capsys
):
    finished(folder, tmp_path, lambda c: c["do"] == "train" and c["seed"] == 0)
    said = []

    def train(*_):
        said.append(capsys.readouterr().err)
        raise InputError("no time")

    monkeypatch.setattr(TrainedWorker, "_train", train)
    with pytest.raises(InputError, match="the trained network was not kept"):
        study(seeds=(0, 1)).run(tmp_path, quiet=True)
    assert "was not kept" in said[0]
