"""The location test: pasting by slow loops, its rows, its study on a few small pictures."""

import json
import pickle

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold.permute import PermuteChannels
from whatwhere.hold.studies import location_worker
from whatwhere.hold.studies.location import Location
from whatwhere.hold.studies.location_plan import row_of
from whatwhere.hold.studies.location_result import LocationResult, verdict
from whatwhere.hold.studies.location_worker import ROWS, build, paste, run
from whatwhere.intervals import binomial
from whatwhere.lab.packed import pack
from whatwhere.lab.rows import Row, accuracy, accuracy_of_counts

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


def config(row: str, **changes) -> dict:
    recipe = ww.Recipe(epochs=1, batch_size=8, optimizer="adamw", lr=3e-3, crop_padding=0, flip=False)
    plain = {"row": row, "model": "cifar/resnet20", "width": 0.25, "grid": 2, "seed": 0, "recipe": recipe.to_dict()}
    return {**plain, **changes}


def test_a_picture_lies_in_its_square_and_black_elsewhere():
    x, cells = torch.randn(9, 3, 4, 5), torch.tensor([0, 8, 4, 2, 6, 1, 7, 3, 5])
    canvases = paste(x, cells, 3)
    assert canvases.shape == (9, 3, 12, 15)
    for i in range(9):
        row, column = int(cells[i]) // 3, int(cells[i]) % 3
        for r in range(3):
            for c in range(3):
                seen = canvases[i, :, 4 * r : 4 * r + 4, 5 * c : 5 * c + 5]
                assert torch.equal(seen, x[i] if (r, c) == (row, column) else torch.zeros(3, 4, 5))


@torch.no_grad()
def test_circular_padding_cannot_distinguish_squares_and_zero_padding_can():
    x = torch.randn(1, 3, 8, 8)
    canvases = paste(x.expand(4, -1, -1, -1), torch.arange(4), 2)
    spread = {}
    for row in ("circular", "zeros"):
        net = build(config(row), (3, 8, 8)).module.eval()
        torch.manual_seed(0)
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):  # zero biases would keep black at 0, as padding is
                m.bias.normal_()
        scores = net(canvases)
        spread[row] = float((scores - scores[0]).abs().max() / scores.abs().max())
    assert spread["circular"] < 1e-5
    assert spread["zeros"] > 1e-3


def test_rows_build_what_they_say():
    nets = {row: build(config(row), (3, 8, 8)).module for row in ROWS}
    modes = {
        row: {m.padding_mode for m in n.modules() if getattr(m, "kernel_size", None) == (3, 3)}
        for row, n in nets.items()
    }
    assert modes["circular"] == {"circular"}
    assert modes["permute"] == modes["shuffled"] == modes["zeros"] == {"zeros"}
    permuting = {row for row, n in nets.items() if any(isinstance(m, PermuteChannels) for m in n.modules())}
    assert permuting == {"permute"}
    assert all(torch.equal(n.conv1.weight, nets["zeros"].conv1.weight) for n in nets.values())


def kept_in(goals: list, real):
    def loss(scores, squares):
        goals.append(squares)
        return real(scores, squares)

    return loss


def test_only_the_control_is_trained_on_other_squares(monkeypatch):
    seen: dict[str, list[bool]] = {}
    real = torch.nn.functional.cross_entropy
    for row in ("zeros", "shuffled"):
        goals = []
        monkeypatch.setattr(location_worker.nn.functional, "cross_entropy", kept_in(goals, real))
        truth = []
        batches = location_worker._batches

        def watched(*args, batches=batches, truth=truth):
            for x, squares in batches(*args):
                truth.append(squares)
                yield x, squares

        monkeypatch.setattr(location_worker, "_batches", watched)
        run(torch.randn(32, 3, 8, 8), torch.randn(8, 3, 8, 8), config(row))
        monkeypatch.undo()
        seen[row] = [torch.equal(a, b) for a, b in zip(goals, truth, strict=True)]
        assert all(torch.equal(a.sort().values, b.sort().values) for a, b in zip(goals, truth, strict=True))
    assert all(seen["zeros"])
    assert not all(seen["shuffled"])


def test_every_epoch_draws_new_squares_for_the_same_pictures():
    x = torch.arange(16.0).view(16, 1, 1, 1)
    recipe = ww.Recipe(epochs=2, batch_size=8, crop_padding=0)
    drawn = list(location_worker._batches(x, recipe, 3, torch.Generator().manual_seed(0)))
    assert len(drawn) == 4
    epochs = [torch.cat([c.sum((1, 2, 3)) for c, _ in part]) for part in (drawn[:2], drawn[2:])]
    assert all(torch.equal(e.sort().values, torch.arange(16.0)) for e in epochs)
    places = [
        {int(v): int(c) for (b, cs) in part for v, c in zip(b.sum((1, 2, 3)), cs, strict=True)}
        for part in (drawn[:2], drawn[2:])
    ]
    assert places[0] != places[1]


def test_a_cell_gives_the_same_numbers_again():
    pictures = torch.randn(16, 3, 8, 8), torch.randn(16, 3, 8, 8)
    assert run(*pictures, config("permute")) == run(*pictures, config("permute"))


@pytest.mark.slow
def test_a_small_network_learns_the_square_with_zero_padding_and_not_in_the_control():
    torch.manual_seed(0)
    pictures = torch.randn(256, 3, 8, 8), torch.randn(128, 3, 8, 8)
    recipe = ww.Recipe(epochs=6, batch_size=16, optimizer="adamw", lr=3e-3, crop_padding=0, flip=False)
    options = {"recipe": recipe.to_dict(), "width": 0.5}
    found = {row: run(*pictures, config(row, **options))["right"] / 128 for row in ("zeros", "shuffled", "circular")}
    assert found["zeros"] > 0.7
    assert abs(found["shuffled"] - 0.25) < 0.16  # four standard errors of a guess
    assert abs(found["circular"] - 0.25) < 0.16


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


def test_verdict_parts_rows_at_chance():
    rows = [
        Row("a", "this", {"accuracy": accuracy_of_counts([99], 100)}, {}),
        Row("b", "that", {"accuracy": accuracy_of_counts([12], 100)}, {}),
    ]
    assert verdict(rows, 1 / 9) == (
        "The square is predicted better than chance with this (99.0 %). "
        "Not significantly better than chance (11.1 %): that (12.0 %)."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 1}, "grid=1"),
        ({"rows": ("zero",)}, "Did you mean 'zeros'"),
        ({"pictures": 0}, "pictures=0"),
        ({"batch_size": 25}, "batch_size=25"),
        ({"seeds": (-1,)}, r"seeds=\(-1,\)"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"model": "cifar/resnet2"}, "Did you mean"),
    ],
)
def test_wrong_arguments_say_what_to_give(pictures, options, message):
    with pytest.raises(InputError, match=message):
        location_test(pictures, **options)


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
def test_workers_give_the_same_numbers(by_name):
    assert location_test("digits", how={"workers": 1}, **NAMED).rows == by_name.rows


def test_pictures_given_as_an_object_do_not_go_to_workers(pictures):
    with pytest.raises(InputError, match="data was given as an object"):
        location_test(pictures, how={"workers": 2}, rows=("zeros",))


def test_a_fold_runs_nothing_and_reports_what_is_missing(named, by_name):
    more = location_test("digits", named, how={"fold_only": True}, **{**NAMED, "rows": ("circular", "zeros")})
    assert more.rows == by_name.rows
    assert "Not finished: circular, seed 0; circular, seed 1." in more.notes
    assert len(list((named / "cells").iterdir())) == 2


def test_a_process_prepares_the_pictures_once(tmp_path):
    plan = Location("digits", **OPTIONS).planned()
    worker = plan.worker(ww.Run(tmp_path))
    assert len(worker.train) == 24
    sent = pickle.dumps(worker)
    assert len(sent) < 1000
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first is second
    assert torch.equal(first.train, worker.train)
