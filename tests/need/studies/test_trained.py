"""The study on tiny networks: cells, resuming, folding, the matrix."""

import json
from dataclasses import replace

import numpy as np
import pytest

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.network import Network
from whatwhere.studies.dependency import cell
from whatwhere.studies.dependency import study as module
from whatwhere.studies.dependency.recommend import recommend
from whatwhere.studies.dependency.result import DependencyResult, Point
from whatwhere.studies.packed import pack

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.05, crop_padding=1, flip=False)
OPTIONS = {
    "recipe": RECIPE, "width": 0.07, "shares": (0.38, 1.0), "matrix": (0.38,), "repeats": 2, "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def result(folder) -> DependencyResult:
    return ww.dependency_study("cifar/vgg11", "digits", out=folder, seeds=(0, 1), **OPTIONS)


def cells(folder) -> list[dict]:
    return [json.loads(f.read_text()) for f in sorted((folder / "cells").iterdir())]


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
        assert p.drop.high == pytest.approx(min(1.0, p.drop.mean + half), rel=1e-4)
        assert p.drop.low == pytest.approx(max(-1.0, p.drop.mean - half), rel=1e-4)


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
    again = ww.dependency_study("cifar/vgg11", "digits", out=folder, seeds=(0, 1), **OPTIONS)
    assert {f.name: f.stat().st_mtime_ns for f in (folder / "cells").iterdir()} == before
    assert again.points == result.points


def test_seeds_can_be_added_later(folder, result, tmp_path):
    for f in ["study.json", *(f"cells/{p.name}" for p in (folder / "cells").iterdir())]:
        (tmp_path / f).parent.mkdir(exist_ok=True)
        (tmp_path / f).write_bytes((folder / f).read_bytes())
    more = ww.dependency_study(
        "cifar/vgg11",
        "digits",
        out=tmp_path,
        seeds=(0, 1, 2),
        weights=folder,
        **{**OPTIONS, "shares": (1.0,), "matrix": ()},
    )
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
    partial = ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, seeds=(0, 1), run=False, **OPTIONS)
    assert {p.method for p in partial.points} == {"gap_fc"}
    assert any("not complete" in n for n in partial.notes)
    assert any("one seed" in n for n in partial.notes)
    assert all(p.drop.low < p.drop.high for p in partial.points)


def test_nothing_there_says_so(tmp_path):
    with pytest.raises(InputError, match="no finished cell"):
        ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, run=False, **OPTIONS)


def test_another_recipe_in_the_same_folder_is_refused(folder, result):
    other = {**OPTIONS, "recipe": replace(RECIPE, lr=0.01)}
    with pytest.raises(InputError, match=r"another study[\s\S]*recipe"):
        ww.dependency_study("cifar/vgg11", "digits", out=folder, seeds=(0,), **other)


def test_a_share_that_is_nowhere_lists_the_shares_there_are(tmp_path):
    with pytest.raises(InputError, match=r"100, 88, 75, 62, 50, 38, 25, 12 %"):
        ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, **{**OPTIONS, "shares": (0.02,), "matrix": ()})


def test_result_reads_back(folder, result):
    assert DependencyResult.load(folder).points == result.points
    assert DependencyResult.load(folder).matrix == result.matrix


def test_of_one_seed_the_interval_is_over_pictures():
    hits = np.array([1, 1, 1, 0] * 25)
    one = {"accuracy": 0.75, "accuracies": [0.75], "n": 100, "repeats": 1, "hits": pack(hits)}
    estimate = module.accuracy_of([one])
    assert estimate.half_width == pytest.approx(1.98422 * np.sqrt(0.75 * 0.25 / 99), rel=1e-4)  # t of 99


def point(share: float, drop: float, half: float) -> Point:
    e = Estimate(0.5, 0.4, 0.6, 0.0, 100, 1)
    return Point("gap_fc", f"s{share}", share, e, Estimate(drop, drop - half, drop + half, 0.0, 100, 1))


def test_recommendation_is_the_deepest_whose_upper_end_is_within(trained):
    points = [point(0.2, 0.0, 0.005), point(0.4, 0.004, 0.005), point(0.6, 0.004, 0.02), point(0.8, 0.3, 0.01)]
    taken = []

    def collapsed(site: str) -> Network:
        taken.append(site)
        return ww.collapse(trained, "features.11")

    advice = recommend(points, 0.01, trained, collapsed, retrained=True)
    assert taken == ["s0.4"]
    assert advice.site == "s0.4"
    assert advice.after["parameters"] < advice.before["parameters"]
    assert advice.after["flops"] < advice.before["flops"]
    none = recommend(points[3:], 0.01, trained, collapsed, retrained=True)
    assert none.site is None
    assert "No removal" in none.text


def test_a_fixed_permutation_is_tested_as_it_was_trained(tmp_path):
    options = {**OPTIONS, "recipe": replace(RECIPE, epochs=3), "methods": ("fixed",), "shares": (0.88,), "repeats": 3}
    ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, seeds=(0,), **{**options, "matrix": (0.88,)})
    trained = next(c["result"] for c in cells(tmp_path) if c["config"]["method"] == "fixed" and "seed" in c["config"])
    assert trained["accuracies"] == [trained["epochs"][-1]["test_accuracy"]]  # one draw for ever: one test
    other = next(c for c in cells(tmp_path) if c["config"]["do"] == "test" and c["config"]["method"] == "fixed")
    assert len(other["result"]["accuracies"]) == 3
    draws = cell._draws(other["config"], 0)  # what the intact network never saw is drawn anew
    assert len({g.initial_seed() for g in draws}) == 3


@pytest.mark.parametrize(
    ("given", "message"), [({"matrix": (0.5,)}, r"matrix=\[0.5\].*shares"), ({"repeats": 256}, "repeats=256.*255")]
)
def test_what_no_cell_could_give_is_refused_before_anything_is_trained(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, seeds=(0,), **{**OPTIONS, **given})
    assert not any(tmp_path.iterdir())


def test_the_matrix_is_of_the_first_share_unless_said(monkeypatch, tmp_path):
    seen = []

    def plan(grid, source):
        seen.append(grid)
        raise ZeroDivisionError

    monkeypatch.setattr(module, "plan", plan)
    given = {k: v for k, v in OPTIONS.items() if k != "matrix"}
    with pytest.raises(ZeroDivisionError):
        ww.dependency_study("cifar/vgg11", "digits", out=tmp_path, **{**given, "shares": (0.6, 1.0)})
    assert seen[0].matrix == (0.6,)


def test_accuracies_are_never_below_zero():
    found = [{"accuracy": a, "n": 100, "repeats": 1} for a in (0.05, 0.15)]
    assert module.accuracy_of(found).low == 0.0
