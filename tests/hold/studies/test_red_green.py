"""The Red-Green test: its pictures by slow loops, its networks by shifts, its study on a few pictures."""

import json

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.hold.studies.red_green import RedGreen
from whatwhere.hold.studies.red_green_data import draw_blocks, red_green_data
from whatwhere.hold.studies.red_green_plan import row_of
from whatwhere.hold.studies.red_green_result import RedGreenResult, verdict
from whatwhere.hold.studies.red_green_worker import PADDINGS, RedGreenWorker, red_green_net

OPTIONS = {"pictures": (200, 20, 40), "epochs": 1}
run_cell = RedGreenWorker("cpu")


def red_green(out=None, how=(), **options) -> RedGreenResult:
    return RedGreen(**{**OPTIONS, **options}).run(out, quiet=True, **dict(how))


def cells(folder):
    return {f.name: f.stat().st_mtime_ns for f in (folder / "cells").glob("*.json")}


def blocks(n=400, seed=0):
    return draw_blocks(n, np.random.default_rng(seed))


def boxes_of(picture: torch.Tensor) -> dict[str, tuple[int, int]]:
    """First row and column of the red and of the green block, found pixel by pixel."""
    found = {}
    for name, channel in (("red", picture[0]), ("green", picture[1])):
        lit = [(r, c) for r in range(32) for c in range(32) if channel[r, c] == 1]
        top, left = min(r for r, _ in lit), min(c for _, c in lit)
        assert sorted(lit) == [(r, c) for r in range(top, top + 4) for c in range(left, left + 4)]
        found[name] = (top, left)
    return found


def test_pictures_hold_two_blocks_whose_order_is_the_class_and_whose_half_gives_it_away():
    drawn = blocks(60)
    for picture, moved, label in zip(drawn.pictures(), drawn.moved().pictures(), drawn.labels, strict=True):
        assert picture[2].sum() == 0
        assert set(picture.unique().tolist()) == {0.0, 1.0}
        box, other = boxes_of(picture), boxes_of(moved)
        first, second = ("red", "green") if label == 0 else ("green", "red")
        assert box[second][1] - box[first][1] >= 5
        for name in box:
            assert 3 <= box[name][0] - 16 * label <= 10
            assert other[name] == (box[name][0] + (16 if label == 0 else -16), box[name][1])


def test_draws_cover_their_ranges_and_nothing_else():
    drawn = blocks(4000)
    assert np.bincount(drawn.labels).tolist() == [2000, 2000]
    assert sorted(set(drawn.lefts[:, 0])) == list(range(10))
    assert sorted(set(drawn.lefts[:, 1])) == list(range(5, 28))
    assert sorted(set(drawn.tops[drawn.labels == 0].ravel())) == list(range(3, 11))


def test_sets_of_a_seed_are_its_own_and_differ():
    a, again, other = (red_green_data(50, 50, 50, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.train.pictures(), again.train.pictures())
    assert not torch.equal(a.train.pictures(), a.validation.pictures())
    assert not torch.equal(a.validation.pictures(), a.similar.pictures())
    assert not torch.equal(a.train.pictures(), other.train.pictures())


def test_networks_pad_as_their_names_say():
    sizes = {"none": 2, "zeros": 4, "circular": 4, "f-conv": 6, "reflect": 4, "replicate": 4}
    for name in PADDINGS:
        net = red_green_net(name)
        assert net[:8](torch.zeros(1, 3, 32, 32)).shape == (1, 64, sizes[name], sizes[name]), name
        assert sum(p.numel() for p in net.parameters()) == 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 64 * 2 + 2
    same = [red_green_net(p, seed=3)[0].weight for p in PADDINGS]
    assert all(torch.equal(w, same[0]) for w in same), "rows differ in their padding only"


@torch.no_grad()
def test_circular_scores_are_the_same_for_moved_pictures_and_valid_ones_are_not():
    drawn = blocks(40)
    moved = {
        p: (red_green_net(p)(drawn.pictures()) - red_green_net(p)(drawn.moved().pictures())).abs().max()
        for p in ("circular", "none")
    }
    assert moved["circular"] < 1e-6
    assert moved["none"] > 1e-4


def test_a_cell_gives_the_same_numbers_again():
    config = {"padding": "zeros", "seed": 1, "epochs": 2, "pictures": [200, 20, 40]}
    assert run_cell(config) == run_cell(config)


def test_hits_of_both_sets_are_paired():
    r = run_cell({"padding": "none", "seed": 0, "epochs": 1, "pictures": [200, 20, 40]})
    assert r["similar"] - r["dissimilar"] == r["similar_only"] - r["dissimilar_only"]
    assert r["n"] == 40


def test_training_goes_back_to_the_best_epoch(monkeypatch):
    losses = iter([0.5, 0.2, 0.9, 0.8])
    monkeypatch.setattr("whatwhere.hold.studies.red_green_worker._loss", lambda net, batches: next(losses))
    r = run_cell({"padding": "none", "seed": 0, "epochs": 4, "pictures": [200, 20, 40]})
    assert (r["epochs"], r["best_epoch"], r["validation_loss"]) == (4, 2, 0.2)
    monkeypatch.undo()
    two = run_cell({"padding": "none", "seed": 0, "epochs": 2, "pictures": [200, 20, 40]})
    assert (r["similar"], r["train_accuracy"]) == (two["similar"], two["train_accuracy"])


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


def test_verdict_names_what_lets_location_in():
    rows = [
        row_of(p, [{"n": 1000, "similar": a, "dissimilar": b, "similar_only": a - b, "dissimilar_only": 0}] * 2)
        for p, a, b in (("none", 1000, 2), ("circular", 737, 737), ("zeros", 700, 665))
    ]
    assert verdict(rows) == (
        "Location is exploited with no padding (valid) (99.8 points), zeros, same size (3.5 points). "
        "Location is not exploited (within 3 points) with circular, same size (0.0 points)."
    )


@pytest.mark.parametrize(
    ("similar", "dissimilar", "said"),
    [
        ([700, 700], [694, 694], "Location is not exploited (within 3 points) with zeros, same size (0.6 points)."),
        (
            [700, 900],
            [600, 500],
            "It is undecided whether location is exploited with zeros, same size (25.0 points).",
        ),
    ],
)
def test_each_sentence_of_the_verdict_stands_alone(similar, dissimilar, said):
    found = [
        {"n": 1000, "similar": a, "dissimilar": b, "similar_only": a - b, "dissimilar_only": 0}
        for a, b in zip(similar, dissimilar, strict=True)
    ]
    assert verdict([row_of("zeros", found)]) == said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paddings": ("zero",)}, "Did you mean 'zeros'"),
        ({"paddings": ()}, "paddings is empty"),
        ({"seeds": ()}, r"seeds=\(\)"),
        ({"epochs": 0}, "epochs=0"),
        ({"pictures": (10, 1, 10)}, "at least 2"),
    ],
)
def test_wrong_arguments_say_what_to_give(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        red_green(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(InputError, match="workers=-1"):
        red_green(how={"workers": -1})


def test_another_number_of_epochs_in_the_same_folder_is_refused(folder, result):
    with pytest.raises(InputError, match=r"another study[\s\S]*epochs: 1 there, 2 now"):
        red_green(folder, paddings=("none",), seeds=(0,), epochs=2)


@pytest.mark.slow
def test_workers_give_the_same_numbers(folder, result, tmp_path):
    elsewhere = red_green(tmp_path, paddings=("none", "f-conv"), seeds=(0, 1), how={"workers": 1})
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
