"""Known answers: position taken out costs *where* all it knows and *what* nothing, and nothing is left to be read."""

from pathlib import Path

import pytest
import torch

import whatwhere as ww
from small_position import placed
from small_quarters import LEVELS, quarters
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError

SMALL = {"size": 8, "pictures": 60, "test_pictures": 40, "untrained": 0, "random": 2, "rounds": 4}


def noisy(task: str) -> Data:
    """Bright quarters under noise that no label follows from."""
    data = quarters(192, label=task).test
    drawn = torch.randint(0, 12, (192, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = next(data.batches(192))[0] + drawn
    return Data("noisy", {"test": Split("test", Memory(images), data.labels, data.classes)})


@pytest.fixture(scope="module", params=["what", "where"])
def found(request: pytest.FixtureRequest) -> tuple[str, ww.hold.WithoutResult]:
    return request.param, ww.hold.without(placed(request.param, LEVELS), noisy(request.param), "1", quiet=True, **SMALL)


def test_position_is_held_and_then_gone(found: tuple[str, ww.hold.WithoutResult]) -> None:
    _, result = found
    first, last = result.rows[0], result.last
    for target in ("H", "V"):
        assert first.spc[target].mean > 0.95
        assert last.spc[target].low <= last.shuffled[target].high
        assert abs(last.spc[target].mean) < 0.3
    assert result.gone
    assert last.rank < 8


def test_what_keeps_its_accuracy_and_where_falls_to_chance(found: tuple[str, ww.hold.WithoutResult]) -> None:
    task, result = found
    first, last = result.rows[0], result.last
    assert first.accuracy is not None
    assert last.accuracy is not None
    assert last.drop is not None
    assert first.accuracy.mean == 1
    if task == "what":
        assert last.drop.low <= 0 <= last.drop.high
        assert last.accuracy.mean > 0.9
    else:
        assert last.accuracy.high < 0.5  # the mean position is in one of four quarters, whatever the picture


def test_as_many_other_directions_leave_position(found: tuple[str, ww.hold.WithoutResult]) -> None:
    _, result = found
    for removed in ("random", "shuffled positions"):
        row = result.control(removed)
        assert row is not None
        assert row.rank == result.last.rank
        assert max(e.mean for e in row.spc.values()) > 0.5
    assert result.control("untrained") is None


def test_the_intervention_does_what_the_study_measured() -> None:
    net, data = placed("where", LEVELS), noisy("where")
    before = ww.evaluate(net, data).correct
    with ww.hold.without_position(net, "1", data, rounds=3, size=8):
        assert ww.evaluate(net, data).accuracy < 0.5
    assert torch.equal(ww.evaluate(net, data).correct, before)
    assert all(not m._forward_hooks for m in net.module.modules())


def test_a_study_resumes_and_comes_back(tmp_path: Path) -> None:
    net, data = placed("what", LEVELS), noisy("what")
    options = {**SMALL, "rounds": 1, "random": 1}
    first = ww.hold.Without(net, data, site="1", **options).run(tmp_path, quiet=True)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()}
    again = ww.hold.Without(net, data, site="1", **options).run(tmp_path, quiet=True)
    assert again.rows == first.rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").iterdir()} == written
    assert ww.load_result(tmp_path).rows == first.rows


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"site": ""}, "site='': give the name of one site"),
        ({"site": "0*"}, r"site='0\*' names 3 sites \(0.texture, 0.mix, 0\); give the name of one"),
        ({"rounds": 0}, "rounds=0"),
        ({"random": -1}, "random=-1"),
        ({"targets": ("X",)}, "targets='X'"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ww.hold.Without(placed("what", LEVELS), noisy("what"), **{"site": "1", **options}).run(quiet=True)  # type: ignore[arg-type]
