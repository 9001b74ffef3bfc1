"""A step comes back from a cell as it was."""

import numpy as np

from whatwhere.hold.studies.erasing import Step
from whatwhere.hold.studies.without_worker import plain_step, step_of


def test_a_step_survives_its_cell() -> None:
    spc = {"H": np.array([0.5, -0.25]), "V": np.array([0.0, 1.0])}
    given = Step(3, 0.125, spc, {"H": np.zeros(2), "V": np.zeros(2)}, np.array([True, False]))
    back = step_of(plain_step(given))
    assert (back.rank, back.variance) == (3, 0.125)
    assert all((back.spc[t] == spc[t]).all() for t in spc)
    assert back.right is not None
    assert back.right.tolist() == [True, False]
    assert step_of(plain_step(Step(0, 0.0, spc, spc))).right is None
