"""The result of the patch study: its sentence, its table, and that it comes back."""

from pathlib import Path

import whatwhere as ww
from small_need import estimate
from whatwhere.need.studies.patches_result import Cut, PatchesResult


def result() -> PatchesResult:
    rows = [Cut(1, (32, 32), estimate(0.9))]
    rows += [Cut(g, (32 // g, 32 // g), estimate(0.9 - d), estimate(d), (0.9 - d,)) for g, d in ((2, 0.0), (4, 0.3))]
    return PatchesResult("net", {"name": "x"}, {}, {}, tuple(rows), within=0.02, chance=0.1)


def test_the_sentence_names_the_smallest_patches_within_the_loss_and_the_first_that_cost() -> None:
    assert result().conclusion == (
        "2 x 2 patches of 16 x 16 pixels cost at most 2.00 points, 0.00 points [-1.00, 1.00]. "
        "4 x 4 patches of 8 x 8 pixels cost 30.00 points [29.00, 31.00]."
    )


def test_it_comes_back_from_its_folder_with_a_page(tmp_path: Path) -> None:
    result().save(tmp_path)
    assert ww.load_result(tmp_path) == result()
    assert (tmp_path / "index.html").is_file()
    assert [line["drop"] for line in result().table()] == ["", "0.00", "30.00"]
