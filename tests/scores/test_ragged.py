"""Arrays of several shapes in one, and back."""

import numpy as np

from whatwhere.scores.ragged import apart, joined


def test_arrays_come_back_with_their_shapes():
    given = [np.arange(6.0).reshape(2, 3), np.array(7.5), np.zeros((0, 4)), np.array([[[1.0]]])]
    again = apart(joined(given))
    assert [a.shape for a in again] == [(2, 3), (), (0, 4), (1, 1, 1)]
    assert [a.tolist() for a in again] == [a.tolist() for a in given]
    assert apart(joined([])) == []


def test_the_form_is_the_documented_one():
    assert joined([[[1, 2]], 5.0]).tolist() == [2, 2, 1, 2, 1, 2, 0, 5]
