"""The plan of the Red-Green test: its cells, the row of a padding by hand, and what is refused."""

import pytest

from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.hold.studies.red_green import RedGreen
from whatwhere.hold.studies.red_green_plan import checked_pictures, row_of
from whatwhere.hold.studies.red_green_worker import RedGreenWorker
from whatwhere.intervals import binomial
from whatwhere.lab.study import Run

OPTIONS = {"pictures": (200, 20, 40), "epochs": 1}


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
        RedGreen(**{**OPTIONS, **options}).run(tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_cell_is_a_padding_and_a_seed_and_seeds_come_first():
    plan = RedGreen(paddings=("none", "zeros"), seeds=(0, 1), **OPTIONS).planned()
    cells = plan.cells(finished())
    assert [c.label for c in cells] == ["none, seed 0", "zeros, seed 0", "none, seed 1", "zeros, seed 1"]
    assert cells[3].config == {"do": "red-green", "padding": "zeros", "seed": 1, "epochs": 1, "pictures": [200, 20, 40]}
    assert plan.worker(Run(device="cpu")) == RedGreenWorker("cpu")


def cell_result(similar, dissimilar, similar_only, dissimilar_only):
    return {
        "n": 40,
        "similar": similar,
        "dissimilar": dissimilar,
        "similar_only": similar_only,
        "dissimilar_only": dissimilar_only,
    }


def test_the_row_of_a_padding_by_hand():
    """Two seeds of 40 pictures: 30 and 36 right where place agrees, 20 and 10 where it contradicts."""
    row = row_of("f-conv", [cell_result(30, 20, 14, 4), cell_result(36, 10, 26, 0)])
    assert row.values["similar"] == (0.75, 0.9)
    assert row.values["dissimilar"] == (0.5, 0.25)
    assert row.values["gap"] == pytest.approx((0.25, 0.65))
    assert {m: e.mean for m, e in row.measured.items()} == pytest.approx(
        {"similar": 0.825, "dissimilar": 0.375, "gap": 0.45}
    )
    assert row.published == {"similar": 0.897, "dissimilar": 0.897}
    assert row_of("reflect", [cell_result(30, 20, 14, 4)]).published == {}


def test_a_fold_takes_the_cells_that_were_asked_for_and_are_finished():
    plan = RedGreen(paddings=("none", "zeros"), seeds=(0,), **OPTIONS).planned()
    none, zeros = (plan.cell(p, 0) for p in ("none", "zeros"))
    strange = plan.cell("circular", 7)
    found = plan.fold(finished((none, cell_result(30, 20, 14, 4)), (strange, cell_result(1, 1, 0, 0)), missing=[zeros]))
    assert [r.name for r in found.rows] == ["none"]
    e = found["none"].measured["similar"]
    assert (e.low, e.high) == binomial(30, 40)
    assert any("one seed" in n for n in found.notes)
    assert found.notes[-1] == "Not finished: zeros, seed 0."


@pytest.mark.parametrize("given", [5, "200", (10, 10), (10, 10, 10, 10), (10.0, 10, 10)])
def test_pictures_are_three_whole_numbers(given):
    with pytest.raises(InputError, match="give three whole numbers"):
        checked_pictures(given)
    assert checked_pictures((2, 3, 4)) == [2, 3, 4]
