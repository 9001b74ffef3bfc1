"""Rounds of fitting and projecting, against the same by NumPy on features that are given."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_position import placed
from small_quarters import LEVELS, quarters
from whatwhere.hold.position_out import Subspace
from whatwhere.hold.studies.erasing import Erasing, Step
from whatwhere.hold.studies.pictures import pictures_of
from whatwhere.hold.targets import targets_of


@pytest.fixture(scope="module")
def erasing() -> Erasing:
    net = placed("where", LEVELS)
    chosen = pictures_of(quarters(64), None, 40, 16, 0)
    return Erasing(net, chosen, "1", targets_of(("H", "V")), 16, 0, 8)


def test_the_first_directions_are_those_of_least_squares(erasing: Erasing) -> None:
    """The read-out's own weights, by solving the normal equations with the penalty that it chose."""
    readout = erasing._fitted(erasing.nothing)
    x = torch.cat(erasing.features[0]).double().movedim(1, -1).flatten(0, -2).numpy()
    goal = np.tile(np.linspace(0, 1, 16), len(x) // 16)
    scale = x.std(0)
    z = (x - x.mean(0)) / scale
    weight = np.linalg.solve(z.T @ z / len(z) + readout.penalty[0] * np.eye(8), z.T @ (goal - goal.mean()) / len(z))
    assert readout.weight[0, :, 0, 0].numpy() == pytest.approx(weight / scale, rel=1e-5, abs=1e-7)


def test_each_round_takes_out_what_the_last_read_out_used(erasing: Erasing) -> None:
    found = list(erasing.rounds(2))
    assert [step.rank for _, step in found][:2] == [0, 2]
    assert found[0][1].variance == 0
    assert all(a.variance < b.variance for (_, a), (_, b) in pairwise(found))
    x = erasing.features[2][0].double()
    for space, _ in found[1:]:
        left = space.removed_from(x) - space.mean[:, None, None]
        assert float(torch.einsum("rc,nchw->nrhw", space.basis, left).abs().max()) < 1e-9


def test_nothing_taken_out_is_the_network_as_it_is(erasing: Erasing) -> None:
    step = erasing.measured(erasing.nothing)
    assert step.right is not None
    assert step.right.mean() == ww.evaluate(erasing.net, erasing.pictures.test).accuracy
    assert set(step.spc) == {"H", "V"}
    assert all(len(v) == 16 for v in (*step.spc.values(), *step.shuffled.values()))
    assert abs(np.mean(step.shuffled["H"])) < 0.2


def test_controls_have_as_many_directions(erasing: Erasing) -> None:
    for space in (erasing.shuffled_directions(3), erasing.random_directions(3, 0)):
        assert isinstance(space, Subspace)
        assert space.rank == 3
    assert torch.equal(erasing.random_directions(3, 0).basis, erasing.random_directions(3, 0).basis)
    assert not torch.equal(erasing.random_directions(3, 0).basis, erasing.random_directions(3, 1).basis)


@pytest.mark.parametrize(("spc", "holds"), [(0.5, True), (0.0, False), (-0.5, False)])
def test_position_is_held_where_intervals_do_not_meet(spc: float, holds: bool) -> None:
    noise = np.linspace(-0.1, 0.1, 20)
    assert Step(1, 0.1, {"H": spc + noise}, {"H": noise}).holds is holds
