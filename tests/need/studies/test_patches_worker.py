"""A cell of the patch study: interrupted, it goes on; its intervals know which pictures share a draw."""

from pathlib import Path

import numpy as np
import pytest

import whatwhere as ww
from small_quarters import Which, quarters, reading
from whatwhere.need.studies.chunk import packed
from whatwhere.need.studies.patches_plan import cell_of
from whatwhere.need.studies.patches_worker import PatchesWorker, tally_of_cell
from whatwhere.need.studies.tally import Tally
from whatwhere.scores.classes import ACCURACY


def test_an_interrupted_cell_measures_the_rest_and_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ww.need.Patches(reading(Which()), quarters(48), grids=(2,), repeats=3, batch_size=16).planned()
    whole = plan.worker(ww.Run(tmp_path / "whole"))(cell_of(2).config)
    outputs, calls = PatchesWorker._outputs, []

    def until_killed(self, *args):  # type: ignore[no-untyped-def]
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return outputs(self, *args)

    monkeypatch.setattr(PatchesWorker, "_outputs", until_killed)
    worker = plan.worker(ww.Run(tmp_path / "killed"))
    with pytest.raises(KeyboardInterrupt):
        worker(cell_of(2).config)
    assert worker(cell_of(2).config) == whole
    assert len(calls) == 5 + 6  # the first batch is not measured again
    worker.stored(cell_of(2))
    assert not list((tmp_path / "killed" / "checkpoints").glob("*"))


def tally(right: np.ndarray, together: int = 1) -> Tally:
    draws = [packed(ACCURACY, list(draw.astype(float)[:, None])) for draw in right]
    found = tally_of_cell({"draws": draws}, ACCURACY, together)
    assert isinstance(found, Tally)
    return found


def test_where_each_picture_has_its_own_draw_no_batch_varies_as_one() -> None:
    right = np.random.default_rng(0).random((2, 100)) < 0.5
    own = tally(right).estimate(ACCURACY)
    expected = 1.984 * right.mean(0).std(ddof=1) / 10  # Student's t over pictures, each with its mean over draws
    assert own.half_width == pytest.approx(expected, rel=0.01)
    assert own.mean == pytest.approx(right.mean())
    assert tally(right).draws(ACCURACY) == pytest.approx(right.mean(1))


def test_pictures_that_share_a_draw_may_all_be_wrong_together() -> None:
    right = np.stack([np.zeros(100), np.ones(100)]) > 0
    assert tally(right, 100).estimate(ACCURACY).half_width == pytest.approx(0.5)  # to the end: nothing is known
    assert tally(right).estimate(ACCURACY).half_width < 0.2
