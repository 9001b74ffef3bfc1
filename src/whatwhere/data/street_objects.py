"""Components of drawn streets: names, palettes, and the layout of each object's pieces."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Colour: TypeAlias = tuple[int, int, int]

CLASSES = ("sky", "road", "pavement", "building", "tree", "car", "taxi", "bus", "person", "sign")
PARTS = (
    "wall",
    "roof",
    "window",
    "door",
    "body",
    "wheel",
    "lamp",
    "roof sign",
    "trunk",
    "crown",
    "head",
    "torso",
    "legs",
    "pole",
    "plate",
)
MATERIALS = ("asphalt", "concrete", "brick", "glass", "metal", "rubber", "wood", "foliage", "skin", "cloth")
ROUGHNESS = (9, 6, 16, 3, 3, 3, 8, 34, 3, 5)  # grain in grey levels, by material
CONFUSED, DIFFERENCE = ("car", "taxi"), "roof sign"  # the planted confusion, and the only part that differs

SKIES: tuple[Colour, ...] = ((165, 195, 228), (205, 210, 215), (225, 205, 185), (135, 175, 220))
COATS: tuple[Colour, ...] = (
    (232, 232, 230),
    (40, 40, 44),
    (140, 142, 146),
    (180, 184, 188),
    (170, 34, 36),
    (34, 66, 150),
    (34, 98, 62),
    (214, 178, 40),
    (206, 106, 34),
    (96, 64, 44),
)
CLOTHES: tuple[Colour, ...] = (
    (52, 54, 62),
    (40, 60, 120),
    (150, 46, 50),
    (200, 196, 186),
    (70, 110, 70),
    (120, 92, 66),
    (196, 150, 60),
    (110, 70, 130),
)
SKINS: tuple[Colour, ...] = ((236, 196, 168), (200, 150, 116), (140, 96, 70), (96, 66, 50))
FOLIAGE: tuple[Colour, ...] = ((70, 120, 50), (96, 140, 60), (50, 96, 60), (150, 130, 50))
WOODS: tuple[Colour, ...] = ((104, 74, 48), (80, 60, 44), (124, 92, 62))
LAMPS: tuple[Colour, ...] = ((250, 244, 214), (250, 236, 180))
PLATES: tuple[Colour, ...] = ((196, 30, 34), (34, 80, 180), (236, 236, 232), (236, 196, 40))
FACADES: tuple[tuple[str, tuple[Colour, ...]], ...] = (
    ("brick", ((150, 84, 64), (128, 72, 58), (170, 110, 84))),
    ("concrete", ((178, 174, 166), (204, 192, 168), (150, 154, 160), (206, 178, 150))),
)
GROUND: tuple[tuple[str, tuple[Colour, ...]], ...] = (
    ("asphalt", ((112, 112, 116), (130, 130, 134))),
    ("concrete", ((164, 162, 156), (176, 168, 156))),
)


class Piece(NamedTuple):
    """A rectangle or ellipse of an object.

    Attributes:
        part: name of the part; empty for none.
        material: name of the material.
        paint: role of the colour.
        box: left, top, right, bottom in thousandths of the object's box; a negative top extends above it.
        round: an ellipse, not a rectangle.
        percent: brightness, in per cent of the colour's.
    """

    part: str
    material: str
    paint: str
    box: tuple[int, int, int, int]
    round: bool = False
    percent: int = 100


CAR_SIDE = (
    Piece("roof", "metal", "coat", (230, 0, 770, 110)),
    Piece("body", "metal", "coat", (190, 90, 820, 480), percent=90),
    Piece("window", "glass", "glass", (235, 110, 490, 420)),
    Piece("window", "glass", "glass", (530, 110, 775, 420)),
    Piece("body", "metal", "coat", (0, 420, 1000, 840)),
    Piece("door", "metal", "coat", (290, 440, 500, 800), percent=84),
    Piece("door", "metal", "coat", (530, 440, 730, 800), percent=84),
    Piece("lamp", "glass", "lamp", (0, 470, 70, 600)),
    Piece("wheel", "rubber", "tyre", (110, 620, 320, 1000), round=True),
    Piece("wheel", "rubber", "tyre", (690, 620, 900, 1000), round=True),
)
CAR_FRONT = (
    Piece("wheel", "rubber", "tyre", (40, 780, 250, 1000)),
    Piece("wheel", "rubber", "tyre", (750, 780, 960, 1000)),
    Piece("roof", "metal", "coat", (170, 0, 830, 110)),
    Piece("body", "metal", "coat", (120, 90, 880, 480), percent=90),
    Piece("window", "glass", "glass", (170, 110, 830, 430)),
    Piece("body", "metal", "coat", (0, 430, 1000, 880)),
    Piece("lamp", "glass", "lamp", (40, 520, 220, 660)),
    Piece("lamp", "glass", "lamp", (780, 520, 960, 660)),
)
ROOF_SIGN = (Piece("roof sign", "metal", "lamp", (370, -200, 630, 10)),)
BUS = (
    Piece("roof", "metal", "coat", (0, 0, 1000, 90), percent=88),
    Piece("body", "metal", "coat", (0, 80, 1000, 900)),
    *(Piece("window", "glass", "glass", (left, 160, left + 150, 470)) for left in (30, 200, 370, 540, 710)),
    Piece("door", "glass", "glass", (880, 180, 970, 880), percent=85),
    Piece("lamp", "glass", "lamp", (970, 640, 1000, 760)),
    Piece("wheel", "rubber", "tyre", (120, 760, 240, 1000), round=True),
    Piece("wheel", "rubber", "tyre", (720, 760, 840, 1000), round=True),
)
PERSON = (
    Piece("legs", "cloth", "trousers", (180, 540, 470, 1000)),
    Piece("legs", "cloth", "trousers", (530, 540, 820, 1000), percent=88),
    Piece("torso", "cloth", "top", (60, 170, 940, 580)),
    Piece("head", "skin", "skin", (280, 0, 720, 180), round=True),
)
TREE = (
    Piece("trunk", "wood", "bark", (450, 450, 550, 1000)),
    Piece("crown", "foliage", "shade", (0, 150, 640, 680), round=True),
    Piece("crown", "foliage", "leaf", (350, 200, 1000, 700), round=True),
    Piece("crown", "foliage", "light", (180, 0, 820, 480), round=True),
)
POLE = Piece("pole", "metal", "pole", (430, 200, 570, 1000))
SIGNS = (
    (POLE, Piece("plate", "metal", "plate", (0, 0, 1000, 380), round=True)),
    (POLE, Piece("plate", "metal", "plate", (0, 0, 1000, 350))),
)
