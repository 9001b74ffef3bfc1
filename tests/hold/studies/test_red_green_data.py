"""The Red-Green pictures by slow loops over their pixels."""

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.hold.studies.red_green_data import Blocks, draw_blocks, red_green_data


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


def test_a_pair_by_hand():
    """Class 1: green on the left at row 20, column 2; red on the right at row 24, column 9. Moved, 16 rows further up."""
    pair = Blocks(np.array([1]), np.array([[20, 24]]), np.array([[2, 9]]))
    (picture,), (moved,) = pair.pictures(), pair.moved().pictures()
    assert boxes_of(picture) == {"green": (20, 2), "red": (24, 9)}
    assert boxes_of(moved) == {"green": (4, 2), "red": (8, 9)}
    assert pair.targets().tolist() == pair.moved().targets().tolist() == [1]


def test_dissimilar_pictures_are_the_similar_ones_moved():
    """Class 0 by 16 rows down, class 1 by 16 rows up, and nothing else."""
    sets = red_green_data(4, 4, 6, seed=0)
    assert sets.similar.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert (sets.dissimilar.tops - sets.similar.tops).tolist() == [[16, 16], [-16, -16]] * 3
    assert (sets.dissimilar.lefts == sets.similar.lefts).all()
    assert (sets.dissimilar.labels == sets.similar.labels).all()


def test_a_set_needs_a_picture_of_either_class():
    assert draw_blocks(2, np.random.default_rng(0)).labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="pictures: 1 cannot hold both classes"):
        draw_blocks(1, np.random.default_rng(0))
