"""The plan of the curve: its chunks, what each costs, and what is refused before anything runs."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import whatwhere as ww
from small_classifier import small_classifier
from small_finished import finished
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.need.studies.curve_plan import INTACT_CELL, collapse_cell
from whatwhere.need.studies.tally import Tally, written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["per-chanel"]}, "Did you mean 'per-channel'"),
        ({"methods": []}, "methods is empty"),
        ({"repeats": 0}, "repeats=0"),
        ({"reach": "to"}, "reach='to'"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"sites": "layer9*"}, "matches nothing"),
    ],
)
def test_wrong_arguments_say_what_to_give(trained, digits, options, message):
    with pytest.raises(InputError, match=message):
        ww.need.curve(trained, digits, quiet=True, **options)


def test_a_loader_that_shuffles_is_refused(trained):
    pictures = TensorDataset(torch.randn(20, 3, 32, 32), torch.arange(20) % 10)
    with pytest.raises(InputError, match=r"shuffles \(RandomSampler\).*give its Dataset \(load_data\(loader"):
        ww.need.curve(trained, ww.load_data(DataLoader(pictures, 10, shuffle=True)), methods=["gap_fc"], quiet=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"within": 5}, "within=5"),
        ({"within": -1.0}, "within=-1"),
        ({"within": "x"}, "within='x'"),
        ({"within": True}, "within=True"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": True}, "batch_size=True"),
        ({"repeats": True}, "repeats=True"),
        ({"tolerance": float("nan")}, "tolerance=nan"),
        ({"tolerance": float("inf")}, "tolerance=inf"),
        ({"reach": True}, "reach=True"),
        ({"reach": 99}, "reach=99: there are 8 cuts; give 1 to 8"),
        ({"seed": "x"}, "seed='x'"),
        ({"methods": 5}, "methods=5 matches nothing"),
        ({"methods": None}, "methods=None matches nothing"),
    ],
)
def test_values_out_of_range_are_refused(trained, digits, given, message):
    with pytest.raises(InputError, match=message):
        ww.need.curve(trained, digits, **{"methods": "mean", "quiet": True, **given})


def test_options_that_cannot_work_leave_no_folder(trained, digits, tmp_path):
    with pytest.raises(InputError, match="limit=0"):
        ww.need.curve(trained, digits, limit=0, out=tmp_path / "curve", quiet=True)
    assert not (tmp_path / "curve").exists()


def pictures(n: int = 30) -> Data:
    images = torch.zeros(n, 3, 16, 16, dtype=torch.uint8)
    return Data("few", {"test": Split("test", Memory(images), torch.arange(n) % 10, [str(i) for i in range(10)])})


def plan(n: int = 30, **options):
    return ww.need.Curve(small_classifier(), pictures(n), **{"batch_size": 4, "repeats": 3, **options}).planned()


def test_chunks_are_two_batches_then_four_at_a_time():
    cells = list(plan(methods=("per-channel", "mean")).cells(finished()))
    assert [c.config["rows"] for c in cells] == [[0, 8], [8, 24], [24, 30]]
    assert cells[0].label == "pictures 0-8"
    assert cells[0].config["draws"] == {"per-channel 0": 3, "mean 0": 1, "per-channel 3": 3, "mean 3": 1}


def test_collapsed_networks_are_cells_of_their_own_beside_the_intact_one():
    cells = list(plan(methods=("gap_fc",)).cells(finished()))
    assert cells == [INTACT_CELL, collapse_cell("0"), collapse_cell("3")]


def test_a_chunk_costs_one_pass_and_for_each_draw_what_comes_after_its_cut():
    """The first convolution is 2 · 4 · 27 · 256 operations, the second 2 · 8 · 36 · 64, the linear layer 2 · 8 · 10."""
    first, second, last = 2 * 4 * 27 * 256, 2 * 8 * 36 * 64, 2 * 8 * 10
    whole = first + second + last
    chunk, *_, intact, collapsed, later = plan(methods=("per-channel", "gap_fc")).cells(finished())
    assert chunk.cost == 8 * (whole + 3 * whole + 3 * (second + last))
    assert (intact.cost, collapsed.cost, later.cost) == (30 * whole, 0, 30 * first)


def tally(n: int, right: int, draws: int = 1) -> Tally:
    return Tally.of(torch.arange(n).lt(right).expand(draws, n))


def test_with_a_tolerance_a_chunk_is_named_after_those_before_it_and_gets_the_draws_it_needs():
    """Where every draw says the same, more of them narrow nothing: two do."""
    made = plan(methods=("per-channel",), tolerance=0.05, repeats=10)
    (first,) = made.chunks(finished())
    result = {("per-channel", s): tally(8, 4, draws=10) for s in ("0", "3")} | {None: tally(8, 6)}
    done = finished((first, written(result)))
    second = made.chunks(done)[1]
    assert first.config["draws"] == {"per-channel 0": 10, "per-channel 3": 10}
    assert second.config["draws"] == {"per-channel 0": 2, "per-channel 3": 2}
    assert len(made.chunks(done)) == 2


def test_a_fold_pairs_each_removal_with_the_intact_network_on_the_same_pictures():
    """Of 8 pictures 6 are right; without spatial information from the first cut on 2, from the second 4."""
    made = plan(methods=("mean", "gap_fc"), within=None)
    cells = list(made.cells(finished()))
    chunk = {("mean", "0"): tally(8, 2), ("mean", "3"): tally(8, 4), None: tally(8, 6)}
    pairs = [(cells[0], written(chunk)), (INTACT_CELL, tally(30, 15).to_dict())]
    pairs += [(collapse_cell("3"), tally(30, 12).to_dict())]
    found = made.fold(finished(*pairs, missing=cells[1:3]))
    seen = [(p.method, p.site, p.accuracy.mean, pytest.approx(p.drop.mean)) for p in found.points]
    assert seen == [("gap_fc", "3", 0.4, 0.1), ("mean", "3", 0.5, 0.25), ("mean", "0", 0.25, 0.5)]
    assert [p.depth_share for p in found.points] == [0.5, 0.5, 1.0]
    assert found.intact[0].accuracy.mean == 0.75
    assert found.notes == ("Not finished: pictures 8-24; pictures 24-30.",)
    assert found.commands == {"GAP+FC from 3 on (the last 50 %)": "small = ww.need.collapse(net, '3')"}
    with pytest.raises(InputError, match="no cell of the intact network"):
        plan(methods=("mean",)).fold(finished())


def test_a_network_whose_scores_are_no_numbers_is_refused():
    made = plan(methods=("mean",))
    made.net.module[7].register_forward_hook(lambda module, args, scores: scores * math.nan)
    with pytest.raises(InputError, match="gives scores that are NaN or infinite"):
        made.check(ww.Run(device="auto"))
