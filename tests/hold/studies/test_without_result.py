"""The sentence of the study that takes position out."""

from pathlib import Path

import whatwhere as ww
from small_need import estimate
from whatwhere.hold.studies.without_result import Left, WithoutResult


def row(removed: str, rank: int, spc: float, drop: float | None = None) -> Left:
    accuracy = None if removed == "untrained" else estimate(0.8 - (drop or 0.0))
    lost = None if drop is None else estimate(drop)
    return Left(removed, rank, 0.01 * rank, {"H": estimate(spc)}, {"H": estimate(0.0)}, accuracy, lost)


def result(*, gone: bool = True) -> WithoutResult:
    rows = (
        row("nothing", 0, 0.9),
        row("position", 2, 0.3, 0.0),
        row("position", 4, 0.0, 0.05),
        row("random", 4, 0.9, 0.01),
    )
    settings = {"site": "layer4", "channels": 512}
    return WithoutResult("net", {"name": "x"}, {}, settings, (*rows, row("untrained", 0, 0.95)), gone)


def test_the_sentence_says_whether_position_is_gone_and_what_it_costs_beside_random_directions() -> None:
    assert result().conclusion == (
        "Without 4 of 512 directions at layer4 position is gone: SPC of H 0.90 [0.89, 0.91] before, SPC of H 0.00 "
        "[-0.01, 0.01] after. That costs 5.00 [4.00, 6.00] points of accuracy; as many random directions cost 1.00 "
        "[0.00, 2.00] points."
    )
    assert "position is not gone" in result(gone=False).conclusion


def test_it_comes_back_with_its_page(tmp_path: Path) -> None:
    result().save(tmp_path)
    assert ww.load_result(tmp_path) == result()
    assert [line["taken out"] for line in result().table()] == [
        "nothing",
        "position",
        "position",
        "random",
        "untrained",
    ]
