"""Known answers: what reads *where* falls to what a random order leaves, what reads *what* loses nothing."""

import pytest
from torch import nn

import whatwhere as ww
from small_quarters import HowBright, Which, quarters, reading
from whatwhere.data import Data
from whatwhere.errors import InputError


def test_a_network_that_reads_where_falls_to_chance_and_one_that_reads_what_loses_nothing() -> None:
    where = ww.need.patches(reading(Which()), quarters(), grids=(2, 4), repeats=4, within=0.1, quiet=True)
    assert where[1].score.mean == 1
    # Of 4 patches in a random order each place is as likely: 1/4. Halves of a quarter that part leave it less sure.
    assert where[2].score.low < 0.25 < where[2].score.high
    assert where[2].drop is not None
    assert where[2].drop.mean == pytest.approx(1 - where[2].score.mean)
    what = ww.need.patches(
        reading(HowBright()), quarters(label="what"), grids=(2, 4), repeats=4, within=0.1, quiet=True
    )
    assert [r.score.mean for r in what.rows] == [1, 1, 1]
    assert "4 x 4 patches of 4 x 4 pixels cost at most 10.00 points" in what.conclusion
    assert "No grid is shown to cost anything" in what.conclusion


def test_a_study_is_the_intervention_and_an_evaluation(trained: ww.Network, digits: Data) -> None:
    data = Data("digits", {"test": digits.test.take(40)})
    found = ww.need.patches(trained, data, grids=(2,), repeats=1, scope="batch", batch_size=40, quiet=True)
    assert found[1].score.mean == ww.evaluate(trained, data).accuracy
    from whatwhere.need.studies.chunk import seed_of_draw

    with ww.need.shuffle_patches(trained, 2, scope="batch", seed=seed_of_draw(0, "patches 2", "input", 0, 0)):
        assert found[2].score.mean == ww.evaluate(trained, data, batch_size=40).accuracy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grids": (1, 2)}, r"grids=\(1, 2\): give patches along a side, 2 or more"),
        ({"grids": ()}, r"grids=\(\)"),
        ({"grids": (3,)}, r"grid=3 does not divide a picture of 16 x 16 pixels; grids that do: 2, 4, 8, 16"),
        ({"scope": "picture"}, "scope='picture'"),
        ({"repeats": 0}, "repeats=0"),
        ({"within": 2.0}, "within=2"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ww.need.patches(reading(Which()), quarters(8), quiet=True, **options)


def test_without_labels_a_network_is_compared_with_itself() -> None:
    found = ww.need.patches(reading(Which()), quarters(32), grids=(2,), repeats=3, score="agreement", quiet=True)
    right = ww.need.patches(reading(Which()), quarters(32), grids=(2,), repeats=3, quiet=True)
    assert found[1].score.mean == found[1].score.low == 1  # with itself, by definition
    assert found[2].score.mean == right[2].score.mean  # the intact network is always right
    assert found.measured.name == "agreement"


def test_a_network_that_gives_maps_is_refused() -> None:
    segmenter = nn.Conv2d(3, 4, 1)
    with pytest.raises(InputError, match=r"a tensor of 4 axes.*a map whose positions move with the patches"):
        ww.need.patches(reading(segmenter), quarters(8), grids=(2,), score="agreement", quiet=True)
