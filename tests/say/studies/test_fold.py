"""Intervals over groups, paired differences, and classes that are rare or never there."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from whatwhere.intervals import crossed_half_width
from whatwhere.lab.packed import pack_scores
from whatwhere.say.studies.fold import _interval, extreme_coverages, few_groups, folded
from whatwhere.say.studies.say_row import Interval, SayRow
from whatwhere.training.evaluate_scenes import mean_iou, pixel_accuracy, pooled_miou

ABOUT = {"sites": ["s"], "kinds": ["intact"], "seeds": [0], "concepts": {}}


def drawn_cells(g, n=12, classes=3, good=0.7):
    """Confusions of pictures in six groups, as a cell holds them."""
    right = np.eye(classes) * g.integers(5, 40, (n, classes, 1))
    counts = right + g.integers(0, 9, (n, classes, classes)) * (1 - good)
    return {
        "confusions": pack_scores(counts.flatten()),
        "n": n,
        "groups": [i // 2 for i in range(n)],
        "channels": 4,
        "names": [],
        "counts": [],
        "plain": np.asarray(counts, "<f4").astype(float),
    }


def miou(total):
    right = np.diag(total)
    return np.mean(right / (total.sum(0) + total.sum(1) - right))


def test_intervals_are_paired_and_over_groups(streets):
    g = np.random.default_rng(0)
    found = {
        ("s", "intact", 0): drawn_cells(g),
        ("s", "pca", 0): drawn_cells(g, good=0.2),
        ("s", "pca", 1): drawn_cells(g, good=0.4),
    }
    three = replace(streets, splits={n: _with_classes(s, "abc") for n, s in streets.splits.items()})
    about = {**ABOUT, "kinds": ["intact", "pca"], "seeds": [0, 1]}
    seen = folded(found, three, about)
    intact, pca = (
        [c["plain"].reshape(6, 2, 3, 3).sum(1) for k, c in found.items() if k[1] == kind] for kind in ("intact", "pca")
    )
    mean, plain = np.mean(pca, 0), intact[0]
    row = seen.row("s", "pca")
    assert row.change.value == pytest.approx(miou(mean.sum(0)) - miou(plain.sum(0)))

    def without(counts):
        return np.array([miou(counts.sum(0) - c) for c in counts])

    def bounds(value, left_out, pseudo):  # from the value and from the one without the bias, whichever is further
        half, bias = crossed_half_width(pseudo), 5 * (left_out.mean() - value)
        return value - max(bias, 0) - half, value - min(bias, 0) + half

    change = without(mean) - without(plain)
    pseudo = [6 * (miou(p.sum(0)) - miou(plain.sum(0))) - 5 * (without(p) - without(plain)) for p in pca]
    assert (row.change.low, row.change.high) == pytest.approx(bounds(row.change.value, change, np.array(pseudo)))
    of_miou = bounds(row.miou.value, without(mean), np.array([6 * miou(p.sum(0)) - 5 * without(p) for p in pca]))
    assert (row.miou.low, row.miou.high) == pytest.approx(of_miou)
    assert row.change.covers == "seeds and groups of test pictures"
    assert seen.row("s", "intact").miou.covers == "groups of test pictures"
    assert row.seeds == pytest.approx([miou(p.sum(0)) for p in pca], abs=1e-6)
    assert row.change.groups == 6
    assert seen.row("s", "intact").change is None


def _with_classes(split, names):
    made = split.only(torch.arange(len(split)))
    made.classes = tuple(names)
    return made


def test_a_class_never_present_is_no_part_of_the_mean(streets):
    g = np.random.default_rng(0)
    cell = drawn_cells(g)
    counts = cell["plain"].copy().reshape(12, 3, 3)
    counts[:, 2] = 0  # never there, but said
    cell |= {"confusions": pack_scores(counts.flatten())}
    three = replace(streets, splits={n: _with_classes(s, "abc") for n, s in streets.splits.items()})
    row = folded({("s", "intact", 0): cell}, three, ABOUT).rows[0]
    total = counts.sum(0)
    expected = [total[i, i] / (total[i].sum() + total[:, i].sum() - total[i, i]) for i in range(3)]
    assert row.miou.value == pytest.approx(np.mean(expected[:2]))
    assert row.iou[2] == 0


def test_without_a_rare_class_it_counts_as_in_all_pictures(streets):
    """A class in one group of twenty, and said now and then elsewhere.

    Without that group it would have an IoU of 0, or be left out of the mean, which is another quantity.
    """
    counts = np.zeros((20, 3, 3))
    counts[:, 0, 0], counts[:, 0, 2], counts[:, 1, 1], counts[:, 1, 0] = 90, 1, 80, 20
    counts[0, 2, 2], counts[0, 2, 0] = 90, 10
    found = _interval(counts[None], pooled_miou)
    assert found.value == pytest.approx(np.mean([1800 / 2230, 0.8, 0.75]))
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.06
    cell = {"confusions": pack_scores(counts.flatten()), "n": 20, "groups": list(range(20))}
    assert few_groups({("s", "intact", 0): cell}, "abc") == ["c"]  # of which nothing is known, and the page says so
    without = pooled_miou(counts[1:].sum(0), counts.sum(0))
    assert without == pytest.approx(np.mean([1710 / 2109, 0.8, 0.75]))


def test_a_miou_of_more_pixels_than_single_precision_counts():
    """A pixel more than 2**24 is a pixel more; and as another library counts, at scale."""
    counts = np.array([[2.0**24 + 1, 1, 0], [3, 2.0**26 + 1, 5], [0, 7, 2.0**25 + 3]])
    exact = [Fraction(int(counts[i, i]), int(counts[i].sum() + counts[:, i].sum() - counts[i, i])) for i in range(3)]
    assert pooled_miou(counts) == pytest.approx(float(sum(exact) / 3), rel=1e-15)
    assert mean_iou(torch.from_numpy(counts).long()) == pytest.approx(float(sum(exact) / 3), rel=1e-15)
    assert pooled_miou(counts) == pytest.approx(mean_iou(torch.from_numpy(counts)), rel=1e-15)
    right, n = int(np.trace(counts)), int(counts.sum())
    assert pixel_accuracy(torch.from_numpy(counts).long()) == pytest.approx(float(Fraction(right, n)), rel=1e-15)
    assert 1 - pixel_accuracy(torch.from_numpy(counts).long()) == pytest.approx(16 / n, rel=1e-6)


def with_coverages(groups, **coverages):
    """A row whose confidences answer so much."""
    measures = {name: {"coverage": c} for name, c in coverages.items()}
    some = Interval(0.5, 0.4, 0.6, groups)
    return SayRow("s", "ssb", 4, (), some, some, None, (0.5,), (), {"confidence": {"measures": measures}})


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (10, ["little", "tiny", "most", "nearly all"]),
        (24, ["little", "tiny", "most", "nearly all"]),
        (25, ["tiny", "nearly all"]),
        (500, ["tiny", "nearly all"]),
    ],
)
def test_coverages_whose_intervals_are_too_narrow_are_named(groups, expected):
    given = {"none": 0, "tiny": 0.02, "little": 0.08, "some": 0.1, "half": 0.5, "many": 0.89, "most": 0.93}
    row = with_coverages(groups, **given, **{"nearly all": 0.99, "all": 1})
    assert sorted(extreme_coverages([row])) == sorted(f"{name} (ssb at s)" for name in expected)
    assert extreme_coverages([replace(row, extras={})]) == []


@pytest.mark.parametrize(("coverage", "said"), [(0.05, True), (0.4, False)])
def test_the_page_says_how_often_the_interval_of_a_small_coverage_holds_it(coverage, said, streets):
    confidence = {"accuracy": 0.99, "measures": {"concepts": {"coverage": coverage}}}
    cells = {("s", "intact", 0): {**drawn_cells(np.random.default_rng(0)), "confidence": confidence}}
    three = replace(streets, splits={n: _with_classes(s, "abc") for n, s in streets.splits.items()})
    told = [
        n for n in folded(cells, three, ABOUT).notes if "The coverage of concepts (intact at s) is near 0 or 1" in n
    ]
    assert len(told) == said
    assert all("holds it 91 to 93 times in 100 at 5 or 95 %" in n for n in told)
