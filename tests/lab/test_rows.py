"""Rows over seeds: their intervals by hand, how tables print them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.lab.rows import (
    Row,
    RowsResult,
    accuracy,
    accuracy_of_counts,
    checked_counts,
    checked_names,
    checked_seeds,
    difference,
    difference_of_counts,
    rows_figure,
)


def test_intervals_of_accuracies_and_pairs():
    alone = accuracy_of_counts([90], 100)
    assert (alone.low, alone.high) == pytest.approx((0.8238, 0.9510), abs=1e-4)  # Clopper and Pearson's table
    assert accuracy_of_counts([100, 100], 100).high == 1.0
    pairs = difference_of_counts([30], [10], 100)
    assert pairs.mean == pytest.approx(0.2)
    spread = np.std([1] * 30 + [-1] * 10 + [0] * 60, ddof=1)
    assert pairs.half_width == pytest.approx(1.98422 * spread / 10, rel=1e-3)  # Student's t of 99
    over = difference_of_counts([30, 40], [10, 10], 100)
    assert (over.mean, over.repeats) == (pytest.approx(0.25), 2)


def hits(*right: int) -> np.ndarray:
    """(seeds, 100): the first so many pictures are right."""
    return np.arange(100) < np.array(right)[:, None]


def test_accuracy_covers_seeds_and_pictures() -> None:
    """Wider than Student's t over seeds alone, which stays by name: of 60, 70, 80 right, mean 0.7, deviation 0.1."""
    e = accuracy(hits(60, 70, 80))
    assert (e.mean, e.spread, e.n, e.repeats) == (pytest.approx(0.7), pytest.approx(0.1), 100, 3)
    alone = 4.302653 * 0.1 / 3**0.5  # of two degrees of freedom
    assert e.fixed == pytest.approx((0.7 - alone, 0.7 + alone))
    assert e.low <= e.fixed[0]
    assert e.high >= min(e.fixed[1], 1.0)


def test_a_difference_is_paired_by_seed_and_picture() -> None:
    e = difference(hits(60, 70, 80), hits(50, 60, 70))
    assert (e.mean, e.repeats) == (pytest.approx(0.1), 3)
    assert e.low > 0  # of ten pictures, the same ones or not, each seed gained all


@dataclass(frozen=True)
class Found(RowsResult):
    kind: ClassVar[str] = "found"
    plotted: ClassVar[tuple[str, ...]] = ("right",)

    @property
    def chance(self) -> float | None:
        return 0.25

    @property
    def title(self) -> str:
        return "What was found"


def row(name: str, mean: float, published: float | None = None, **more: Estimate) -> Row:
    e = Estimate(mean, mean - 0.05, mean + 0.05, 0.1, 40, 2)
    return Row(
        name,
        f"the {name}",
        {"right": e, **more},
        {"right": (mean - 0.1, mean + 0.1)},
        {} if published is None else {"right": published},
    )


def found(*rows: Row) -> Found:
    return Found(rows, {"name": "pictures"}, {"epochs": 1}, provenance={"seconds": 3})


def test_a_table_is_in_per_cent_with_a_column_for_every_measure_of_any_row() -> None:
    gap = Estimate(-0.012, -0.02, -0.004, 0.0, 40, 2)
    assert found(row("one", 0.5, 0.6), row("two", 0.75, gap=gap)).table() == [
        {
            "row": "one",
            "network": "the one",
            "right %": "50.00",
            "right 95 %": "[45.00, 55.00]",
            "right published %": "60.0",
            "95 % covers": "",
            "seeds": "2",
            "pictures": "40",
            "gap %": "",
            "gap 95 %": "",
        },
        {
            "row": "two",
            "network": "the two",
            "right %": "75.00",
            "right 95 %": "[70.00, 80.00]",
            "right published %": "",
            "95 % covers": "",
            "seeds": "2",
            "pictures": "40",
            "gap %": "-1.20",
            "gap 95 %": "[-2.00, -0.40]",
        },
    ]
    assert "right published %" not in found(row("one", 0.5)).table()[0]


def test_rows_by_name_and_as_numbers() -> None:
    gap = Estimate(0.1, 0.0, 0.2, 0.0, 40, 2)
    result = found(row("one", 0.5), row("two", 0.75, gap=gap))
    assert result["two"] is result.rows[1]
    records = list(result.records())
    assert [(r["name"], r["measure"], r["mean"]) for r in records] == [
        ("one", "right", 0.5),
        ("two", "right", 0.75),
        ("two", "gap", 0.1),
    ]
    assert records[0]["values"] == (0.4, 0.6)
    assert records[2]["values"] is None
    assert result.facts == {"data": {"name": "pictures"}, "settings": {"epochs": 1}, "seconds": 3}


def test_a_figure_shows_means_intervals_chance_and_what_was_published() -> None:
    figure = found(row("one", 0.5, 0.6), row("two", 0.75)).plot()
    (axes,) = figure.axes
    lines: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
    assert list(lines["chance: 25.0 %"].get_xdata()) == [25.0, 25.0]
    assert list(lines["right, published"].get_xdata()) == [60.0]
    (container,) = axes.containers
    means, _, (bars,) = container.lines  # type: ignore[attr-defined]
    assert list(means.get_xdata()) == [50.0, 75.0]
    assert list(means.get_ydata()) == [0.0, 1.0]
    assert [[x for x, _ in ends] for ends in bars.get_segments()] == [
        pytest.approx([45.0, 55.0]),
        pytest.approx([70.0, 80.0]),
    ]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["the one", "the two"]
    assert axes.get_xlim() == (-3, 103)


def test_without_chance_the_figure_shows_the_range_that_was_measured() -> None:
    (axes,) = rows_figure([row("one", 0.5)], ["right"], chance=None, title="t").axes
    assert 40 < axes.get_xlim()[0] < 45
    assert not [line for line in axes.lines if "chance" in str(line.get_label())]


def test_names_and_seeds_are_kept_once_in_their_order() -> None:
    assert checked_names("rows", ("b", "a", "b"), ("a", "b", "c")) == ("b", "a")
    assert checked_seeds([3, 0, 3]) == (3, 0)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checked_names("rows", ("c",), ("zeros", "circular")), r"rows='c' matches nothing.*zeros, circular"),
        (lambda: checked_names("rows", (), ("a", "b")), "rows is empty; give at least one of a, b"),
        (lambda: checked_seeds([]), r"seeds=\(\)"),
        (lambda: checked_seeds([0, -1]), r"seeds=\(0, -1\)"),
        (lambda: checked_seeds([1.0]), r"seeds=\(1\.0,\)"),  # type: ignore[list-item]
        (lambda: checked_seeds([True]), r"seeds=\(True,\)"),
        (lambda: checked_counts(epochs=1, pictures=0), "pictures=0: give a whole number of at least 1"),
        (lambda: checked_counts(epochs=True), "epochs=True"),
        (lambda: checked_counts(epochs=2.0), r"epochs=2\.0"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(check: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check()


def test_the_pages_points_are_the_rows_in_per_cent_and_what_was_published_is_beside() -> None:
    e = Estimate(0.5, 0.25, 0.75, 0.1, 9, 2)
    rows = (Row("a", "A", {"m": e}, {}), Row("b", "B", {"m": e}, {}, {"m": 0.125}))

    class Two(RowsResult):
        plotted = ("m",)
        chance = 0.1
        title = "t"

    chart = Two(rows, {}, {}).chart("c")
    assert (chart.levels, chart.ticks, chart.joined) == ({"chance": 10.0}, ["A", "B"], False)
    assert [(r["series"], r["place"], r["y"], r["low"], r["high"]) for r in chart.rows()] == [
        ("m", "A", 50.0, 25.0, 75.0),
        ("m", "B", 50.0, 25.0, 75.0),
        ("m, published", "B", 12.5, None, None),
    ]
    assert chart.controls == ["m, published"]
