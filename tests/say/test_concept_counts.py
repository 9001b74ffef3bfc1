"""Counts of concepts by loops, mutual information by hand, and the choice by both."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.concept_counts import (
    ConceptCounts,
    concept_counts,
    joint_counts,
    matching,
    mutual_information,
    select,
)


class Stored:
    """Concepts whose maps are the label maps of their names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([labels[n] for n in self.names]).to(torch.int8)


def drawn(n: int = 3, classes: int = 3) -> list[tuple[Tensor, dict[str, Tensor]]]:
    g = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(n):
        maps = {name: torch.randint(-1, 2, (4, 5), generator=g) for name in ("a", "b")}
        values = torch.randint(0, classes, (4, 5), generator=g)
        values[0, 0] = IGNORE
        rows.append((torch.zeros(3, 4, 5), {**maps, "class": values}))
    return rows


def test_counts_are_those_of_a_loop_over_pixels() -> None:
    rows = drawn()
    found = concept_counts(Stored("a", "b"), rows, ("x", "y", "z"))
    for k, name in enumerate(("a", "b")):
        joint, present, labelled = np.zeros((2, 3), int), 0, 0
        for _, labels in rows:
            for state, value in zip(labels[name].flatten().tolist(), labels["class"].flatten().tolist(), strict=True):
                present, labelled = present + (state == 1), labelled + (state >= 0)
                if state >= 0 and value != IGNORE:
                    joint[state, value] += 1
        assert (int(found.present[k]), int(found.labelled[k])) == (present, labelled)
        assert found.joint[k].tolist() == joint.tolist()
        assert float(found.share[k]) == pytest.approx(present / labelled)
    assert found.seen == 3


def test_pictures_without_the_tasks_map_count_for_frequency_only() -> None:
    (picture, labels), *_ = drawn()
    alone = {n: labels[n] for n in ("a", "b")}
    found = concept_counts(Stored("a", "b"), [(picture, alone)], ("x", "y", "z"))
    assert int(found.joint.sum()) == 0
    assert int(found.labelled[0]) == int((labels["a"] >= 0).sum())
    with pytest.raises(InputError, match="rows is empty"):
        concept_counts(Stored("a"), [], ("x",))


def test_joint_counts_of_four_pixels() -> None:
    maps = torch.tensor([[[1, 1], [0, -1]]], dtype=torch.int8)
    values = torch.tensor([[0, IGNORE], [1, 1]])
    assert joint_counts(maps, values, 2).tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        ([[5, 0], [0, 5]], 1.0),  # each says the other
        ([[2, 2], [2, 2]], 0.0),
        ([[0, 0], [3, 7]], 0.0),  # always present
        ([[0, 0], [0, 0]], 0.0),
        ([[2, 0], [1, 1]], 0.8112781244591328 - 0.5),
    ],
)
def test_mutual_information_in_bits(counts: list[list[int]], bits: float) -> None:
    """Of the last one: 0.8113 bits of a class that a quarter of the pixels have; left is a coin at half of them."""
    assert mutual_information(np.array(counts)) == pytest.approx(bits, abs=1e-12)


def counted(*each: tuple[str, int, int, list[list[int]]]) -> ConceptCounts:
    names = tuple(e[0] for e in each)
    joint = torch.tensor([e[3] for e in each])
    present, pictures = (torch.tensor([e[i] for e in each]) for i in (1, 2))
    return ConceptCounts(names, ("x", "y"), present, torch.full((len(each),), 100), pictures, joint, 9)


COUNTS = counted(
    ("telling", 10, 5, [[50, 10], [5, 35]]),
    ("copy", 40, 9, [[60, 0], [0, 40]]),
    ("rare", 1, 1, [[50, 49], [1, 0]]),
    ("idle", 50, 9, [[25, 25], [25, 25]]),
)


def test_a_concept_that_is_there_exactly_where_a_class_is_copies_it() -> None:
    assert COUNTS.copies == {"copy": "y"}
    rows = {r["concept"]: r for r in COUNTS.table()}
    assert (rows["copy"]["copy of"], rows["idle"]["copy of"]) == ("y", None)
    assert (rows["copy"]["share"], rows["copy"]["pictures"]) == (0.4, 9)
    assert rows["idle"]["bits about the class"] == 0.0


def test_a_choice_keeps_the_sources_order_and_takes_the_most_telling() -> None:
    source = Stored("telling", "copy", "rare", "idle")
    how: dict[str, Any] = {"counts": COUNTS}
    assert select(source, share=0.05, **how).names == ("telling", "copy", "idle")
    assert select(source, pictures=6, **how).names == ("copy", "idle")
    assert select(source, bits=0.1, **how).names == ("telling", "copy")
    assert select(source, most=2, **how).names == ("telling", "copy")
    assert select(source, most=1, **how).names == ("copy",)
    assert select(source, names=["i*", "rare"]).names == ("rare", "idle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["z*"]}, "matches nothing"),
        ({"share": 0.5}, "need counts="),
        ({"counts": counted(("other", 1, 1, [[1, 0], [0, 1]])), "most": 1}, "counts are of other concepts"),
        ({"counts": COUNTS, "bits": 5.0}, "leave none of 4 concepts"),
        ({"most": 0}, "most=0"),
    ],
)
def test_a_choice_that_cannot_be_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(Stored("telling", "copy", "rare", "idle"), **options)


def test_patterns_and_names_with_brackets() -> None:
    known = ("part: a", "part: b", "sky [x]")
    assert matching(known, ["part: *"]) == ["part: a", "part: b"]
    assert matching(known, ["sky [x]", "*b"]) == ["part: b", "sky [x]"]
