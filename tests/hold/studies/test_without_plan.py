"""What the plan asks for, in which order, and how runs become a row."""

from pathlib import Path

import numpy as np
import pytest

import whatwhere as ww
from small_position import placed
from small_quarters import LEVELS, quarters
from whatwhere.hold.studies.erasing import Step
from whatwhere.hold.studies.without_plan import POSITION_CELL, left_of
from whatwhere.hold.studies.without_worker import plain_step
from whatwhere.lab.cells import Store
from whatwhere.lab.study import Finished


def step(rank: int, value: float, right: list[int] | None = None) -> Step:
    spc = {"H": np.full(4, value)}
    return Step(rank, 0.1, spc, {"H": np.zeros(4)}, None if right is None else np.array(right, dtype=bool))


def test_other_directions_are_as_many_as_position_took(tmp_path: Path) -> None:
    plan = ww.hold.Without(placed("what", LEVELS), quarters(64), site="1", untrained=1, random=2).planned()
    store = Store(tmp_path, {})
    first = list(plan.cells(Finished(store)))
    assert [c.config["removed"] for c in first] == ["position", "untrained"]
    done = {"steps": [plain_step(step(0, 0.9)), plain_step(step(4, 0.0))]}
    contents = {POSITION_CELL.key: (POSITION_CELL.config, done)}
    more = [c.config for c in plan.cells(Finished(store, contents))][2:]
    assert [c["removed"] for c in more] == ["shuffled positions", "random", "random"]
    assert {c["rank"] for c in more} == {4}


def test_a_loss_is_paired_by_picture_and_averaged_over_draws() -> None:
    intact = np.array([1, 1, 1, 0], dtype=bool)
    row = left_of("random", [step(2, 0.5, [1, 1, 0, 0]), step(2, 0.7, [1, 0, 0, 0])], intact)
    assert row.accuracy is not None
    assert row.drop is not None
    assert row.accuracy.mean == pytest.approx(3 / 8)
    assert row.drop.mean == pytest.approx(3 / 8)
    assert row.spc["H"].mean == pytest.approx(0.6)
    assert left_of("untrained", [step(0, 0.5, [1, 0, 0, 0])], intact).accuracy is None
    assert left_of("position", [step(2, 0.5)], None).drop is None
