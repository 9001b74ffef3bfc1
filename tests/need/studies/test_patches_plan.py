"""The plan of the patch study: what decides a folder, and what is noted."""

from pathlib import Path

import whatwhere as ww
from small_quarters import Which, quarters, reading
from whatwhere.need.studies.patches_plan import SEAMS, cell_of


def test_one_cell_for_each_grid_and_the_intact_pictures_first() -> None:
    plan = ww.need.Patches(reading(Which()), quarters(8), grids=(8, 2)).planned()
    assert [c.config["grid"] for c in plan.cells(None)] == [1, 2, 8]  # type: ignore[arg-type]


def test_grids_are_no_part_of_a_folder_and_more_of_them_are_added(tmp_path: Path) -> None:
    net, data = reading(Which()), quarters(32)
    first = ww.need.Patches(net, data, grids=(2,), repeats=2).run(tmp_path, quiet=True)
    written = (tmp_path / "cells" / f"{cell_of(2).key}.json").stat().st_mtime_ns
    more = ww.need.Patches(net, data, grids=(2, 4), repeats=2).run(tmp_path, quiet=True)
    assert more[2] == first[2]
    assert (tmp_path / "cells" / f"{cell_of(2).key}.json").stat().st_mtime_ns == written


def test_notes_say_what_a_loss_is_of_and_that_one_draw_is_one() -> None:
    found = ww.need.patches(reading(Which()), quarters(8), grids=(2,), repeats=1, quiet=True)
    assert SEAMS in found.notes
    assert any("drawn once" in note for note in found.notes)
