"""The drawn objects' pieces: every name is known, every piece has a size, and the planted confusion is as it says."""

from itertools import chain

import pytest

from whatwhere.data import street_objects as objects
from whatwhere.data.street_objects import CLASSES, CONFUSED, DIFFERENCE, MATERIALS, PARTS, Piece

DRAWN = {
    "car from the side": objects.CAR_SIDE,
    "car from the front": objects.CAR_FRONT,
    "roof sign": objects.ROOF_SIGN,
    "bus": objects.BUS,
    "person": objects.PERSON,
    "tree": objects.TREE,
    **{f"sign {i}": pieces for i, pieces in enumerate(objects.SIGNS)},
}


@pytest.mark.parametrize("pieces", DRAWN.values(), ids=DRAWN)
def test_pieces_have_known_names_and_a_size(pieces: tuple[Piece, ...]) -> None:
    for piece in pieces:
        left, top, right, bottom = piece.box
        assert piece.part in PARTS
        assert piece.material in MATERIALS
        assert 0 <= left < right <= 1000
        assert top < bottom <= 1000
        assert 0 < piece.percent <= 100


def test_only_the_sign_reaches_above_its_object() -> None:
    assert {p.part for p in chain(*DRAWN.values()) if p.box[1] < 0} == {DIFFERENCE}


def test_a_taxi_differs_from_a_car_by_one_part() -> None:
    assert set(CONFUSED) == {"car", "taxi"} <= set(CLASSES)
    assert {p.part for p in objects.ROOF_SIGN} == {DIFFERENCE}
    assert DIFFERENCE not in {p.part for p in (*objects.CAR_SIDE, *objects.CAR_FRONT)}
    metal = {p.material for p in objects.CAR_SIDE}
    assert {p.material for p in objects.ROOF_SIGN} <= metal  # no material gives it away


def test_mirrored_pieces_of_a_car_from_the_front_lie_alike() -> None:
    boxes = {(p.part, p.box) for p in objects.CAR_FRONT}
    assert boxes == {(part, (1000 - r, t, 1000 - left, b)) for part, (left, t, r, b) in boxes}


def test_names_are_told_apart_and_each_material_has_its_grain() -> None:
    for names in (CLASSES, PARTS, MATERIALS):
        assert len(set(names)) == len(names)
    assert len(objects.ROUGHNESS) == len(MATERIALS)


def test_every_part_is_drawn_by_a_piece_or_is_a_buildings() -> None:
    drawn = {p.part for p in chain(*DRAWN.values())}
    assert set(PARTS) - drawn == {"wall"}


def test_colours_are_bytes() -> None:
    tables = ("SKIES", "COATS", "CLOTHES", "SKINS", "FOLIAGE", "WOODS", "LAMPS", "PLATES")
    colours = [*chain(*(getattr(objects, t) for t in tables))]
    colours += [c for table in (objects.FACADES, objects.GROUND) for _, some in table for c in some]
    assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colours)
    assert {m for m, _ in (*objects.FACADES, *objects.GROUND)} <= set(MATERIALS)
