"""The plan of the location test: its cells, its rows by hand, and what is refused."""

import pytest
import torch

from small_finished import finished
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.hold.studies.location import Location
from whatwhere.hold.studies.location_plan import recipe_of, row_of

OPTIONS = {"grid": 2, "width": 0.25, "pictures": 24, "test_pictures": 12, "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def pictures() -> Data:
    """Of 8 x 8 pixels, which no test looks at."""
    splits = {name: torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8) for name in ("train", "test")}
    labels = torch.arange(40) % 2
    return Data("few", {name: Split(name, Memory(x), labels, ["a", "b"]) for name, x in splits.items()})


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
        Location(pictures, **{**OPTIONS, **options}).run(quiet=True)


def test_a_cell_is_a_row_and_a_seed_and_seeds_come_first(pictures):
    plan = Location(pictures, rows=("zeros", "circular"), seeds=(1, 0), **OPTIONS).planned()
    cells = plan.cells(finished())
    assert [c.label for c in cells] == ["zeros, seed 1", "circular, seed 1", "zeros, seed 0", "circular, seed 0"]
    assert cells[1].config == {"do": "location", "row": "circular", "seed": 1, **plan.shared()}
    assert plan.shared()["grid"] == 2
    assert plan.shared()["data"] == {"train": plan.train.fingerprint, "test": plan.test.fingerprint}
    assert (len(plan.train), len(plan.test)) == (24, 12)


def test_a_row_by_hand():
    """Two seeds of 12 pictures, of which 9 and 6 are right."""
    row = row_of("permute", [{"n": 12, "right": 9}, {"n": 12, "right": 6}])
    assert row.label == "zero padding, channels permuted"
    assert row.values == {"accuracy": (0.75, 0.5)}
    e = row.measured["accuracy"]
    assert (e.mean, e.n, e.repeats) == (0.625, 12, 2)
    assert e.spread == pytest.approx(0.25 / 2**0.5)


def test_a_fold_says_what_is_missing_and_refuses_nothing_at_all(pictures):
    plan = Location(pictures, rows=("zeros", "circular"), seeds=(0, 1), **OPTIONS).planned()
    first, missing = plan.cell("zeros", 1), plan.cell("circular", 0)
    found = plan.fold(finished((first, {"n": 12, "right": 9}), missing=[missing]))
    assert [(r.name, r.measured["accuracy"].mean) for r in found.rows] == [("zeros", 0.75)]
    assert found.data["train pictures"] == 24
    assert found.notes[-1] == "Not finished: circular, seed 0."
    with pytest.raises(InputError, match="no cell is finished"):
        plan.fold(finished(missing=[first]))


def test_every_network_is_trained_without_shifts_and_flips():
    recipe = recipe_of(3, 8, 0.01, 8)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.optimizer) == (3, 8, 0.01, "adamw")
    assert (recipe.crop_padding, recipe.flip) == (0, False)
    with pytest.raises(InputError, match="batch_size=9 is more than the 8 training pictures"):
        recipe_of(3, 9, 0.01, 8)
