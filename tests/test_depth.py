"""Depth shares by hand, on tables of places that are written out."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from whatwhere.depth import cut_named, from_share, share_of, shares_of, within_share
from whatwhere.errors import InputError


@dataclass(frozen=True)
class Place:
    name: str
    kind: str
    order: int
    depth_share: float
    parents: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.name


def chain(convs: int) -> list[Place]:
    """Convolutions, each followed by a norm, whose share is that of the convolutions still to come."""
    kinds = [(i, kind) for i in range(convs) for kind in ("conv", "norm")]
    return [
        Place(f"{kind}{i}", kind, order, (convs - i - (kind == "norm")) / convs)
        for order, (i, kind) in enumerate(kinds)
    ]


VGG16 = chain(13)
RESIDUAL = [  # a stem, and two blocks of two convolutions, the second with a convolution in its shortcut
    Place("stem", "conv", 0, 1.0),
    Place("a", "block", 1, 0.8),
    Place("a.conv1", "conv", 2, 0.8, ("a",)),
    Place("a.conv2", "conv", 3, 0.6, ("a",)),
    Place("b", "block", 4, 0.4),
    Place("b.conv1", "conv", 5, 0.4, ("b",)),
    Place("b.conv2", "conv", 6, 0.2, ("b",)),
]


def names(places: Any) -> list[str]:
    return [p.name for p in places]


def cuts(places: list[Place]) -> list[Place]:
    blocks = {p.name for p in places if p.kind == "block"}
    return [p for p in places if p.kind == "block" or (p.kind == "conv" and not blocks & set(p.parents))]


@pytest.mark.parametrize(
    ("share", "convolutions"),
    [(1.0, 13), (0.54, 7), (0.53, 7), (0.529, 6), (0.31, 4), (0.3, 4), (0.299, 3), (0.08, 1), (0.07, 1), (0.069, None)],
)
def test_a_cuts_share_counts_in_whole_per_cent_rounded_down(share: float, convolutions: int | None) -> None:
    """The paper's words: 4 of 13 are 30.8 %, "the last 30 %"; 7 of 13 are 53.8 %, "53 %"."""
    fits = [n for n in range(1, 14) if 100 * n // 13 <= 100 * Fraction(str(share))]
    assert max(fits, default=None) == convolutions
    cut = within_share(cuts(VGG16), share)
    assert (cut and cut.name) == (None if convolutions is None else f"conv{13 - convolutions}")


def test_a_cut_of_exactly_the_share_comes_first() -> None:
    """Of 201 convolutions, 61 and 62 are both 30 % in whole per cent; whoever names 61 / 201 means the second."""
    there = cuts(chain(201))
    assert within_share(there, 0.3).name == f"conv{201 - 62}"  # type: ignore[union-attr]
    assert within_share(there, 61 / 201).name == f"conv{201 - 61}"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("which", "share"),
    [("last 30%", 0.3), ("last 12.5 %", 0.125), ("last 7", 0.07), ("last 100%", 1.0), (0.25, 0.25)]
    + [(w, None) for w in ("layer4", "lasting", 3, None, ["last 30%"])],
)
def test_what_names_a_share(which: object, share: float | None) -> None:
    assert share_of(which) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize("which", ["last 0%", "last 101%", "last nan%", 0.0, 1.1, float("inf")])
def test_a_share_that_cannot_be(which: str | float) -> None:
    with pytest.raises(InputError, match="give a share above 0 and at most all"):
        share_of(which)


def test_a_share_that_is_no_number() -> None:
    with pytest.raises(InputError, match=r"sites='last third': write a percentage such as 'last 30%'"):
        share_of("last third")


def test_the_cut_that_a_selection_names() -> None:
    assert cut_named(cuts(RESIDUAL), "last 45%") == RESIDUAL[4]
    assert cut_named(cuts(RESIDUAL), "last 20%") is None
    assert cut_named(cuts(RESIDUAL), "a.conv2") is None


def test_places_of_a_share_begin_at_its_cut() -> None:
    """Not at the norm behind the convolution before, though its share is as small."""
    norms = [p for p in VGG16 if p.kind == "norm"]
    assert names(from_share(VGG16, cuts(VGG16), "last 16%")) == ["conv11", "norm11", "conv12", "norm12"]
    assert names(from_share(norms, cuts(VGG16), "last 16%")) == ["norm11", "norm12"]
    assert names(from_share(RESIDUAL, cuts(RESIDUAL), 0.7)) == ["b", "b.conv1", "b.conv2"]
    assert from_share(VGG16, cuts(VGG16), 1.0) == VGG16


def test_a_share_above_every_cut_lists_them() -> None:
    with pytest.raises(InputError, match=r"no cut is that deep\. Choices: stem, a, b, at 100, 80, 40 %"):
        from_share(RESIDUAL, cuts(RESIDUAL), "last 20%")
    assert shares_of(cuts(chain(3))) == "100, 67, 33 %"


def test_without_cuts_the_shares_are_those_of_the_places_themselves() -> None:
    vit = [Place(f"block{i}", "other", i, (4 - i) / 4) for i in range(4)]
    assert names(from_share(vit, [], "last 50%")) == ["block2", "block3"]
