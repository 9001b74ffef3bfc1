"""What is concluded of failures and interventions, of cells that are written out."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from whatwhere.say.studies.concluded import basis, effects_of, failures_chart, of_failures, of_intervention, tallies
from whatwhere.say.studies.measure import Cells

FAILURE = {"true": 1, "said": 2, "share": 0.0}


@dataclass
class Fake:
    """Twelve pictures in as many groups, 12 x 6 cells: the left half is a thing, a cell of which is mistaken."""

    effect: float = 0.6  # of concept 1 at the cell that is wrong
    moved: int = 1  # whether that cell is elsewhere half the pictures on
    pictures: int = 12
    result: dict[str, Any] = field(default_factory=lambda: {"failures": [FAILURE]})
    place: str = "s"

    def __post_init__(self) -> None:
        n, draws = self.pictures, torch.Generator().manual_seed(0)
        labels = torch.zeros(n, 12, 6, dtype=torch.int64)
        labels[:, :, :3] = 1
        said = labels.clone()
        maps = 0.05 * torch.rand(n, 3, 12, 6, generator=draws)
        for i in range(n):
            y = (i + self.moved * (i >= n // 2)) % 3 * 5
            said[i, y, 0] = 2
            maps[i, 1, y, 0] += self.effect
        scores = torch.nn.functional.one_hot(said, 3).movedim(-1, 1).float()
        self.said = Cells(scores, labels, maps)
        self.test = SimpleNamespace(split=SimpleNamespace(groups=torch.arange(n)))
        self.layer = SimpleNamespace(names=["c0", "c1", "c2"])
        self.scenes = SimpleNamespace(classes=("road", "bus", "taxi"))


def test_tallies_are_sums_over_cells_looked_up_one_by_one():
    fake = Fake()
    found = tallies(fake, FAILURE)
    assert found.shape == (12, 7, 3)
    maps = fake.said.maps.double().numpy()
    for i, k in np.ndindex(12, 3):
        expected = np.zeros(7)
        for y, x in np.ndindex(12, 3):
            own, other = (maps[j % 12, k, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() for j in (i, i + 6))
            at = 0 if fake.said.said[i, y, x] == 2 else 2
            expected[at : at + 2] += 1, own
            expected[4] += own**2
            expected[5 + at // 2] += other
        assert found[i, :, k] == pytest.approx(expected)


def test_effects_are_differences_in_standard_deviations():
    wrong, right = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0])
    both = np.concatenate([wrong, right])
    total = np.array([3, wrong.sum(), 2, right.sum(), (both**2).sum(), 0, 0])[:, None]
    assert effects_of(total) == pytest.approx([(wrong.mean() - right.mean()) / both.std()], rel=1e-2)


def test_the_commonest_failure_has_its_share_and_its_concept_if_it_is_shown():
    text = of_failures(Fake())
    assert text.startswith("The commonest failure: bus predicted as taxi, 2.8 % [")  # 1 of 36 cells
    row = failures_chart(Fake()).rows()[0]
    assert (row["place"], row["y"]) == ("bus predicted as taxi", pytest.approx(100 / 36))
    assert row["low"] < row["y"] < row["high"]
    assert "c1 sets it apart most clearly in 6 groups of pictures with this class; in 6 others" in of_failures(Fake())
    assert of_failures(Fake()).endswith("It goes with the failure.")
    assert "is not shown" in of_failures(Fake(effect=0.0))
    assert "is not shown" in of_failures(Fake(moved=0)), "the same places in other pictures have it as well"
    assert "too few groups" in of_failures(Fake(pictures=3))
    assert of_failures(Fake(result={"failures": []})).startswith("No two classes are confused")


def some(concepts: int = 10, pictures: int = 40, groups: int = 20) -> Any:
    split = SimpleNamespace(groups=torch.arange(pictures) // (pictures // groups))
    return SimpleNamespace(test=Sized(pictures, split), layer=SimpleNamespace(names=list(range(concepts))))


@dataclass
class Sized:
    n: int
    split: Any

    def __len__(self) -> int:
        return self.n


def test_an_intervention_is_compared_with_the_same_done_to_other_concepts():
    asked = []

    def changes(row, ways):
        asked.append((row, ways))
        return [0.5 + row / 1000, *(0.1 for _ in ways[1:])]

    text = of_intervention(some(), {2: 0.0, 3: 1.0}, changes)
    assert [row for row, _ in asked] == np.linspace(0, 39, 12).round().astype(int).tolist()
    own, *others = asked[0][1]
    assert own == {2: 0.0, 3: 1.0}
    assert len(others) == 4
    assert all(sorted(o.values()) == [0.0, 1.0] and not {2, 3} & set(o) for o in others)
    assert "12 test pictures in 12 groups, it changes 51.9 % [" in text
    assert "change 10.0 %, a difference of +42.0 points [" in text
    assert text.endswith("the prediction rests on these concepts more than on others.")


def test_where_nothing_is_shown_it_says_so():
    assert "is not shown." in of_intervention(some(), {0: 1}, lambda row, ways: [0.1 * (row % 2)] + [0.05] * 4)
    less = of_intervention(some(), {0: 1}, lambda row, ways: [0.0] + [0.05] * 4)
    assert less.endswith("is not shown, rather less.")
    alone = of_intervention(some(concepts=1), {0: 1}, lambda row, ways: [0.1])
    assert alone.endswith("too few concepts are left as they are for a control.")
    one = of_intervention(some(groups=1), {0: 1}, lambda row, ways: [0.1] + [0.05] * 4)
    assert one.endswith("one group of pictures shows no difference.")


def test_the_basis_names_scores_data_and_pictures(speaker):
    text = basis(speaker)
    own, intact = (speaker.scored.row("middle", kind) for kind in ("ssb", "intact"))
    assert text.startswith(f"small with {len(speaker.layer.names)} concepts at middle on 8 test pictures of ")
    assert text.endswith(f"in 8 groups: mIoU {own.miou.percent()} %, intact {100 * intact.miou.value:.2f} %.")
