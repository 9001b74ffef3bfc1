"""The cells of the study: what is trained, what is tested the other way, and what each costs."""

import json

import pytest

from small_cells import trained_cells
from small_trained import study
from whatwhere.errors import InputError
from whatwhere.need.studies.trained_cells import Grid, checked_shares


def test_the_matrix_is_of_the_first_share_unless_given():
    assert Grid.of(study(shares=(0.6, 1.0), matrix=None)).matrix == (0.6,)
    assert Grid.of(study(shares=(0.6, 1.0), matrix=())).matrix == ()


GRID = Grid(("gap_fc", "per-channel"), (0.25, 0.75), (0, 1), (0.25,), (0.0, 0.5))


def test_training_goes_seed_by_seed_with_the_intact_network_first():
    labels = [c.label for c in trained_cells().training(GRID)]
    assert labels[:7] == [
        "intact 0 %, seed 0",
        "gap_fc 25 %, seed 0",
        "per-channel 25 %, seed 0",
        "gap_fc 75 %, seed 0",
        "per-channel 75 %, seed 0",
        "intact 0 %, seed 0, no augmentation",
        "gap_fc 50 %, seed 0, no augmentation",
    ]
    assert len(labels) == 14


def test_tests_are_of_the_two_fields_that_training_leaves_open():
    pairs = [(t.label, c.label) for t, c in trained_cells().testing(GRID)]
    assert pairs[:2] == [
        ("intact 0 %, seed 0", "intact 0 %, seed 0, tested per-channel"),
        ("per-channel 25 %, seed 0", "per-channel 25 %, seed 0, tested intact"),
    ]
    assert len(pairs) == 4


def test_a_cell_names_its_site_and_the_intact_network_has_none():
    cells = trained_cells()
    assert cells.train("gap_fc", 0.75, 1).config == {
        **cells.shared(),
        "do": "train",
        "method": "gap_fc",
        "site": "b",
        "seed": 1,
        "watch": True,
    }
    assert cells.train("gap_fc", 0, 1).config["method"] == "intact"
    assert cells.train("gap_fc", 0, 1).config["site"] is None
    plain = cells.train("gap_fc", 0.5, 0, plain=True).config["recipe"]
    assert (plain["flip"], plain["crop_padding"]) == (False, 0)


def test_a_training_costs_three_passes_a_step_and_a_test_an_epoch():
    """40 pictures, 10 test pictures, 2 epochs; a collapsed network costs what comes before its cut."""
    cells = trained_cells()
    epochs = 2 * (3 * 40 + 10)
    assert cells.train("gap_fc", 0, 0).cost == (epochs + 10) * 1000
    assert cells.train("gap_fc", 0.25, 0).cost == (epochs + 10) * 600
    assert cells.train("truncate", 0.25, 0).cost == (epochs + 10) * 600
    assert cells.train("pointwise-max", 0.25, 0).cost == pytest.approx((epochs + 10) * (600 + 400 / 9))
    assert cells.train("per-channel", 0.25, 0).cost == (epochs + 5 * 10) * 1000
    trained = cells.train("per-channel", 0.25, 0)
    assert cells.test(trained, "intact", 0).cost == 10 * 1000
    assert cells.test(trained, "per-channel", 0.25).cost == 50 * 1000


def test_a_grid_is_widened_by_what_earlier_calls_finished():
    cells = trained_cells()
    before = Grid(("rows",), (0.5,), (7,), (0.5,), (0.75,))
    configs = [c.config for c in cells.training(before)] + [c.config for _, c in cells.testing(before)]
    wide = cells.widened(Grid(("gap_fc",), (0.25,), (0,), (), ()), json.loads(json.dumps(configs)))  # as read back
    assert wide == Grid(("gap_fc", "rows"), (0.25, 0.5), (0, 7), (0.5,), (0.75,))
    assert cells.widened(GRID, []) == GRID


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (54, r"x=\[54\]: give shares from 0 to 1, such as 0.31,0.54; 54 % is 0.54"),
        ((0.5, -0.1), r"x=\[0.5, -0.1\]: give shares from 0 to 1"),
        ("half", r"x=\['half'\]: give shares from 0 to 1"),
        (True, r"x=\[True\]"),
        (float("nan"), r"x=\[nan\]"),
    ],
)
def test_what_is_no_share_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        checked_shares("x", given)


def test_the_intact_network_is_a_choice_only_where_it_is_not_trained_anyway():
    assert checked_shares("x", (0, 0.5)) == (0, 0.5)
    with pytest.raises(InputError, match="0 is the intact network, which is trained anyway"):
        checked_shares("x", (0, 0.5), intact=False)


def test_shares_are_kept_as_they_are():
    assert checked_shares("x", (0, 0.5, 1)) == (0, 0.5, 1)
    assert checked_shares("x", 0.5) == (0.5,)
