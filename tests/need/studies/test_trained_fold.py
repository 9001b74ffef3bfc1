"""From cells that are written out to points, drops paired by seed, and the matrix."""

import numpy as np
import pytest

from small_cells import trained_cells
from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.intervals import over_networks, student
from whatwhere.lab.packed import pack
from whatwhere.need.studies.trained_cells import Grid
from whatwhere.need.studies.trained_fold import LAST_EPOCH, ONE_SEED, SEEDS, Fold, accuracy_of, drop_of


def test_of_one_seed_the_interval_is_over_pictures():
    hits = np.array([1, 1, 1, 0] * 25)
    one = {"accuracy": 0.75, "accuracies": [0.75], "n": 100, "repeats": 1, "hits": pack(hits)}
    estimate = accuracy_of([one])
    assert estimate.half_width == pytest.approx(1.98422 * np.sqrt(0.75 * 0.25 / 99), rel=1e-4)  # t of 99


def test_accuracies_are_never_below_zero():
    assert accuracy_of([result(0.05), result(0.15)]).low == 0.0


CELLS = trained_cells()
GRID = Grid(("gap_fc", "per-channel"), (0.25, 0.75), (0, 1), (0.25,), (0.0, 0.5))


def result(accuracy: float, n: int = 100) -> dict:
    hits = (np.arange(n) < round(accuracy * n)).astype(np.uint8)
    return {"accuracy": accuracy, "accuracies": [accuracy], "n": n, "repeats": 1, "hits": pack(hits)}


def fold(*pairs, missing=()) -> Fold:
    return Fold(CELLS, GRID, finished(*pairs, missing=missing))


INTACT = [(CELLS.train("gap_fc", 0, s), result(a)) for s, a in ((0, 0.9), (1, 0.8))]
REMOVED = [(CELLS.train("gap_fc", 0.25, s), result(a)) for s, a in ((0, 0.7), (1, 0.5))]


def test_points_are_means_over_seeds_and_drops_are_paired():
    """Drops of 0.2 and 0.3: mean 0.25, deviation 0.0707."""
    folded = fold(*INTACT, *REMOVED)
    (intact,), (p,) = folded.intact(), folded.points()
    assert (intact.accuracy.mean, intact.values) == (pytest.approx(0.85), (0.9, 0.8))
    assert (p.method, p.site, p.depth_share, p.group) == ("gap_fc", "d", 0.25, "")
    assert (p.accuracy.mean, p.values) == (pytest.approx(0.6), (0.7, 0.5))
    assert (p.drop.mean, p.drop.spread) == (pytest.approx(0.25), pytest.approx(0.1 / 2**0.5))
    assert p.drop.high == pytest.approx(min(1.0, 0.25 + student(1) * 0.1 / 2))


def test_a_drop_is_of_the_seeds_whose_intact_network_is_finished():
    (p,) = fold(INTACT[0], *REMOVED).points()
    assert p.drop.mean == pytest.approx(0.2)
    assert p.drop.repeats == 1
    (alone,) = fold(*REMOVED).points()
    assert alone.drop is None


def test_networks_without_augmentation_are_a_group_with_an_intact_network_of_their_own():
    plain = [(CELLS.train("gap_fc", s, 0, plain=True), result(a)) for s, a in ((0, 0.8), (0.5, 0.75))]
    folded = fold(*INTACT, *plain)
    assert [(p.group, p.accuracy.mean) for p in folded.intact()] == [
        ("", pytest.approx(0.85)),
        ("no augmentation", pytest.approx(0.8)),
    ]
    (p,) = folded.points()
    assert (p.group, p.site) == ("no augmentation", "c")
    assert p.drop.mean == pytest.approx(0.05)


def test_the_matrix_has_a_field_for_what_is_finished():
    shuffled = (CELLS.train("per-channel", 0.25, 0), result(0.6))
    crossed = (CELLS.test(CELLS.train("per-channel", 0, 0), "per-channel", 0.25), result(0.3))
    back = (CELLS.test(shuffled[0], "intact", 0), result(0.4))
    found = {(e.trained, e.tested): e.accuracy.mean for e in fold(INTACT[0], shuffled, crossed, back).matrix()}
    assert found == {
        ("intact", "intact"): 0.9,
        ("intact", "per-channel"): 0.3,
        ("per-channel", "intact"): 0.4,
        ("per-channel", "per-channel"): 0.6,
    }
    assert [(e.trained, e.tested) for e in fold(INTACT[0]).matrix()] == [("intact", "intact")]


def test_a_drop_of_one_seed_is_over_its_pictures():
    """Of 100 pictures the first 90 are right, then the first 70: 20 differ by one."""
    e = drop_of([(result(0.9), result(0.7))])
    assert e.mean == pytest.approx(0.2)
    assert (e.n, e.repeats) == (100, 1)
    assert e.half_width == pytest.approx(student(99) * np.std([1] * 20 + [0] * 80, ddof=1) / 10, rel=1e-2)


def test_the_example_of_a_point_is_a_finished_network():
    folded = fold(*INTACT, REMOVED[1])
    (p,) = folded.points()
    assert folded.example(p) == REMOVED[1][0].key


def test_what_is_missing_is_counted_and_named():
    test = CELLS.test(INTACT[0][0], "per-channel", 0.25)
    first, second, third, last = fold(*INTACT, REMOVED[0], missing=[test]).notes()
    assert "Finished seeds of the 2 planned: intact 0 %: 2; gap_fc 25 %: 1; per-channel 25 %: 0" in first
    assert second == "Not finished: intact 0 %, seed 0, tested per-channel."
    assert (third, last) == (ONE_SEED, LAST_EPOCH)
    whole = fold(*((c, result(0.5)) for c in CELLS.training(GRID)))
    assert list(whole.notes()) == [SEEDS, LAST_EPOCH]


def test_a_folder_without_a_trained_network_is_refused():
    folded = fold()
    folded.done.__dict__["store"] = type("Folder", (), {"folder": "out"})()
    with pytest.raises(InputError, match="out holds no finished cell"):
        folded.check()
    fold(*INTACT).check()


def test_a_drop_over_seeds_is_paired_by_seed_and_picture():
    rng = np.random.default_rng(0)
    intact, removed = rng.random((2, 60)) < 0.8, rng.integers(0, 4, (2, 60))  # of three draws
    plain = [{"accuracies": [h.mean()], "n": 60, "repeats": 1, "hits": pack(h.astype(np.uint8))} for h in intact]
    shuffled = [{"accuracies": [0.5] * 3, "n": 60, "repeats": 3, "hits": pack(h)} for h in removed]
    expected = over_networks(intact - removed / 3, counted=True)
    assert drop_of(list(zip(plain, shuffled, strict=True))) == expected
    assert accuracy_of(shuffled) == over_networks(removed / 3, counted=True, low=0.0)
