"""Drawn street scenes with exact label maps, in perspective: a task that trains a segmentation network in minutes.

Planted confusion: a taxi is a car with a roof sign. All other parts and the materials are the same, and colours, sizes,
places and occlusions come from the same distributions, so that only the sign distinguishes them. Taxis that are far
away, occluded or noisy are confused with cars, and `roof sign` is the reason.

All numbers are whole and all draws come from a NumPy Generator of (seed, scene), so that a scene has the same bytes on
every machine and does not depend on the number of scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data import street_objects as objects
from whatwhere.data.street_objects import CLASSES, MATERIALS, PARTS, Colour, Piece
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE

Whole: TypeAlias = NDArray[np.int64]
Bytes: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]
SMALLEST = (32, 32)
VEHICLES = ("bus", "car", "car", "taxi", "taxi")
# The lowest row of an object's foot, in hundredths of the height: how near it may stand.
NEAREST = {"bus": 78, "car": 102, "taxi": 102, "person": 106, "tree": 88, "sign": 100}
FULL = 1000  # pieces are laid out in thousandths of their object's box


@dataclass(frozen=True)
class Streets:
    """Drawn scenes.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: by map, "class", "part" and "material": (N, H, W) uint8, 255 for none.
        classes: the names of the classes.
        parts: the names of the parts.
        materials: the names of the materials.
    """

    images: Tensor
    labels: dict[str, Tensor]
    classes: tuple[str, ...] = CLASSES
    parts: tuple[str, ...] = PARTS
    materials: tuple[str, ...] = MATERIALS

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """A picture (3, H, W) and its label maps (H, W)."""
        return self.images[row], {name: values[row] for name, values in self.labels.items()}

    def rows(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Every picture with its label maps."""
        return (self[row] for row in range(len(self)))


def draw_streets(n: int, *, size: tuple[int, int] = (96, 128), seed: int = 0) -> Streets:
    """Draw street scenes.

    >>> streets = draw_streets(200, seed=1)
    >>> streets.images.shape, streets.labels["part"].shape     # (200, 3, 96, 128), (200, 96, 128)

    Args:
        n: number of scenes.
        size: (height, width) in pixels; the content scales with the height.
        seed: of every draw; scene i is the same for every n.

    Raises:
        InputError: for no scene, a size below 32 pixels, or a negative seed.
    """
    if n < 1:
        raise InputError(f"n={n}: draw at least one scene.")
    if seed < 0:
        raise InputError(f"seed={seed} must be a whole number from 0.")
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise InputError(f"size={size} must be (height, width), both at least {SMALLEST[0]}.")
    scenes = [draw_scene(np.random.default_rng([seed, i]), *size) for i in range(n)]
    images, maps = (torch.from_numpy(np.stack(arrays)).contiguous() for arrays in zip(*scenes, strict=True))
    names = ("class", "part", "material")
    return Streets(images, {name: maps[:, i].contiguous() for i, name in enumerate(names)})


@dataclass
class Canvas:
    """A scene while it is painted: each pixel holds the number of its top coat, each coat a colour and labels.

    Attributes:
        number: (H, W), the number of the top coat.
        coats: colour, class, part and material of each coat.
        horizon: row of the horizon.
        camera: height of the camera above the ground, in decimetres.
        haze: the colour that distance adds.
    """

    number: NDArray[np.int16]
    horizon: int
    camera: int
    haze: Colour
    coats: list[tuple[Colour, int, int, int]] = field(default_factory=list)

    def coat(self, colour: Colour, class_: str, part: str, material: str, depth: int = FULL) -> int:
        """Add a coat, hazier with distance; returns its number."""
        share = 550 + 450 * min(depth, FULL) // FULL
        r, g, b = ((c * share + h * (FULL - share)) // FULL for c, h in zip(colour, self.haze, strict=True))
        labels = [_index(names, name) for names, name in ((CLASSES, class_), (PARTS, part), (MATERIALS, material))]
        self.coats.append(((r, g, b), labels[0], labels[1], labels[2]))
        return len(self.coats) - 1

    def pixels(self, decimetres: int, foot: int) -> int:
        """A length in pixels at the depth where the ground is in row `foot`."""
        return decimetres * (foot - self.horizon) // self.camera

    def depth(self, foot: int) -> int:
        """Nearness of the ground in row `foot`: 0 at the horizon, 1000 at the lower border."""
        return FULL * (foot - self.horizon) // (len(self.number) - self.horizon)

    def inside(self, box: Box) -> tuple[Whole, Whole, NDArray[np.int16]]:
        """The visible part of a box (left, top, right, bottom): rows (h, 1), columns (1, w), numbers (h, w)."""
        left, top, right, bottom = (max(0, edge) for edge in box)
        part = self.number[top:bottom, left:right]
        return np.arange(top, top + len(part))[:, None], np.arange(left, left + part.shape[1])[None], part

    def rectangle(self, box: Box, number: int) -> None:
        """Paint a box; right and bottom are exclusive."""
        self.inside(box)[2][:] = number

    def ellipse(self, box: Box, number: int) -> None:
        """Paint the pixels whose centres lie in the ellipse inscribed in a box."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        y, x, part = self.inside(box)
        away = (2 * x + 1 - left - right) ** 2 * height**2 + (2 * y + 1 - top - bottom) ** 2 * width**2
        part[away <= (width * height) ** 2] = number

    def windows(self, box: Box, across: int, up: int, number: int) -> None:
        """Paint a pane over the lower right two thirds of each field of a grid, `across` by `up` pixels."""
        y, x, part = self.inside(box)
        panes = ((y - box[1]) % up >= up // 3) & ((x - box[0]) % across >= across // 3)
        part[panes & (y < box[3] - up // 2)] = number


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name else IGNORE


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[Bytes, Bytes]:
    """Draw one scene: the picture (3, H, W) and its maps of classes, parts and materials (3, H, W)."""
    horizon = height * int(rng.integers(30, 48)) // 100
    sky = one_of(rng, objects.SKIES)
    canvas = Canvas(np.zeros((height, width), np.int16), horizon, int(rng.integers(20, 34)), sky)
    canvas.coat(sky, "sky", "", "")
    draw_buildings(canvas, rng)
    edges = draw_ground(canvas, rng)
    draw_sides(canvas, rng, edges)
    for foot, kind in standing(rng, horizon, height):
        draw_standing(canvas, rng, kind, foot, edges)
    return developed(canvas, rng)


def one_of(rng: np.random.Generator, palette: tuple[Colour, ...], spread: int = 14) -> Colour:
    """A colour of a palette, with a small shift of each channel."""
    r, g, b = palette[int(rng.integers(len(palette)))] + rng.integers(-spread, spread + 1, 3)
    return int(r), int(g), int(b)


def scaled(colour: Colour, percent: int) -> Colour:
    """A lighter or darker colour."""
    return (colour[0] * percent // 100, colour[1] * percent // 100, colour[2] * percent // 100)


def draw_buildings(canvas: Canvas, rng: np.random.Generator) -> None:
    """A row of facades along the far end of the ground, with gaps."""
    height, width = canvas.number.shape
    left = -int(rng.integers(0, height // 6))
    while left < width:
        foot = canvas.horizon + max(2, height * int(rng.integers(4, 10)) // 100)
        right = left + canvas.pixels(int(rng.integers(60, 200)), foot)
        draw_facade(canvas, rng, (left, foot - canvas.pixels(int(rng.integers(40, 150)), foot), right, foot))
        left = right + (0 if rng.integers(3) else int(rng.integers(2, height // 6)))


def draw_sides(canvas: Canvas, rng: np.random.Generator, edges: Whole) -> None:
    """Near facades at the sides of the street, each with probability 2/3."""
    height, width = canvas.number.shape
    for side in (0, 1):
        if rng.integers(3) == 0:
            continue
        foot = canvas.horizon + height * int(rng.integers(10, 26)) // 100
        reach = edges[side, foot] + (2 * side - 1) * canvas.pixels(int(rng.integers(25, 60)), foot)
        top = foot - canvas.pixels(int(rng.integers(60, 160)), foot)
        draw_facade(canvas, rng, (int(reach), top, width, foot) if side else (0, top, int(reach), foot))


def draw_facade(canvas: Canvas, rng: np.random.Generator, box: Box) -> None:
    """A wall with a roof edge, rows of windows and a door."""
    left, top, right, bottom = box
    material, palette = objects.FACADES[int(rng.integers(len(objects.FACADES)))]
    wall, depth = one_of(rng, palette), canvas.depth(bottom)
    across, up = max(4, canvas.pixels(int(rng.integers(24, 40)), bottom)), max(5, canvas.pixels(30, bottom))
    roof = (left, top, right, top + max(1, up // 4))
    canvas.rectangle(box, canvas.coat(wall, "building", "wall", material, depth))
    canvas.windows(box, across, up, canvas.coat(pane(canvas, rng), "building", "window", "glass", depth))
    canvas.rectangle(roof, canvas.coat(scaled(wall, 60), "building", "roof", material, depth))
    at = left + (right - left) * int(rng.integers(10, 80)) // 100
    door = (at, bottom - canvas.pixels(21, bottom), min(right, at + max(2, canvas.pixels(11, bottom))), bottom)
    canvas.rectangle(door, canvas.coat(one_of(rng, objects.WOODS), "building", "door", "wood", depth))


def pane(canvas: Canvas, rng: np.random.Generator) -> Colour:
    """The colour of a facade's windows: lit, or darker than the sky."""
    return one_of(rng, objects.LAMPS) if rng.integers(6) == 0 else scaled(canvas.haze, int(rng.integers(35, 80)))


def draw_ground(canvas: Canvas, rng: np.random.Generator) -> Whole:
    """Pavement, and a road that narrows towards the horizon; returns its left and right edges by row, (2, H)."""
    height, width = canvas.number.shape
    road, pavement = (objects.GROUND[int(rng.integers(len(objects.GROUND)))] for _ in range(2))
    rows = np.arange(height)
    vanishing = width * int(rng.integers(30, 71)) // 100
    lower = width * np.array([int(rng.integers(-25, 22)), int(rng.integers(79, 126))]) // 100
    edges = vanishing + (lower[:, None] - vanishing) * (rows - canvas.horizon) // (height - canvas.horizon)
    below, columns = rows[:, None] >= canvas.horizon + 2, np.arange(width)
    free = below & (canvas.number == 0) | below & (rows[:, None] >= canvas.horizon + height // 12)
    inside = free & (columns >= edges[0, :, None]) & (columns < edges[1, :, None])
    canvas.number[free] = canvas.coat(one_of(rng, pavement[1], 5), "pavement", "", pavement[0])
    canvas.number[inside] = canvas.coat(scaled(one_of(rng, road[1], 5), 75), "road", "", road[0])
    draw_markings(canvas, rng, edges, road[0])
    return edges


def draw_markings(canvas: Canvas, rng: np.random.Generator, edges: Whole, material: str) -> None:
    """A broken line along the middle of the road."""
    height = len(canvas.number)
    middle, reach = edges.sum(0) // 2, np.maximum(1, (edges[1] - edges[0]) // 60)
    # Dashes of equal length on the ground: the distance is camera / (row - horizon).
    rows = np.arange(canvas.horizon + height // 12, height)
    rows = rows[(canvas.camera * 40 // (rows - canvas.horizon) + int(rng.integers(8))) % 8 < 4]
    number = canvas.coat((215, 215, 210), "road", "", material)
    for row in rows.tolist():
        canvas.rectangle((int(middle[row] - reach[row]), row, int(middle[row] + reach[row]), row + 1), number)


def standing(rng: np.random.Generator, horizon: int, height: int) -> list[tuple[int, str]]:
    """The objects of a scene: row of the foot and kind, the farthest first."""
    kinds = [VEHICLES[i] for i in rng.integers(len(VEHICLES), size=int(rng.integers(1, 5)))]
    kinds += ["person"] * int(rng.integers(1, 7)) + ["tree"] * int(rng.integers(4)) + ["sign"] * int(rng.integers(5))
    return sorted((int(rng.integers(horizon + height // 8, height * NEAREST[kind] // 100)), kind) for kind in kinds)


def draw_standing(canvas: Canvas, rng: np.random.Generator, kind: str, foot: int, edges: Whole) -> None:
    """Draw one object at a place for its kind."""
    left, right = edges[:, min(foot, edges.shape[1] - 1)].tolist()
    at = int(rng.integers(left, max(left + 1, right)))
    if kind in ("tree", "sign") or (kind == "person" and rng.integers(3) > 0):  # a third of the people cross the road
        beside = canvas.pixels(int(rng.integers(4, 40)), foot)
        at = left - beside if rng.integers(2) else right + beside
    draw = {"person": draw_person, "tree": draw_tree, "sign": draw_sign}.get(kind)
    if draw is None:
        draw_vehicle(canvas, rng, kind, at, foot)
    else:
        draw(canvas, rng, at, foot)


def draw_vehicle(canvas: Canvas, rng: np.random.Generator, kind: str, at: int, foot: int) -> None:
    """A bus, a car or a taxi; car and taxi differ only by the sign on the roof."""
    side = bool(rng.integers(2)) or kind == "bus"
    pieces = objects.BUS if kind == "bus" else objects.CAR_SIDE if side else objects.CAR_FRONT
    pieces += objects.ROOF_SIGN if kind == "taxi" else ()
    length, high = (90, 29) if kind == "bus" else (int(rng.integers(38, 48)), int(rng.integers(14, 17)))
    glass = scaled(canvas.haze, int(rng.integers(30, 65)))
    paints = {"coat": one_of(rng, objects.COATS), "lamp": one_of(rng, objects.LAMPS), "glass": glass}
    draw_pieces(canvas, pieces, kind, paints, (at, foot, length if side else 18, high), bool(rng.integers(2)))


def draw_person(canvas: Canvas, rng: np.random.Generator, at: int, foot: int) -> None:
    """A standing person."""
    paints = {
        "skin": one_of(rng, objects.SKINS),
        "top": one_of(rng, objects.CLOTHES),
        "trousers": one_of(rng, objects.CLOTHES),
    }
    high = int(rng.integers(14, 20))
    draw_pieces(canvas, objects.PERSON, "person", paints, (at, foot, high * 2 // 5, high), bool(rng.integers(2)))


def draw_tree(canvas: Canvas, rng: np.random.Generator, at: int, foot: int) -> None:
    """A tree: one trunk and three overlapping crowns."""
    leaf, high = one_of(rng, objects.FOLIAGE), int(rng.integers(35, 75))
    paints = {"bark": one_of(rng, objects.WOODS), "leaf": leaf, "shade": scaled(leaf, 75), "light": scaled(leaf, 120)}
    wide = high * int(rng.integers(5, 9)) // 10
    draw_pieces(canvas, objects.TREE, "tree", paints, (at, foot, wide, high), bool(rng.integers(2)))


def draw_sign(canvas: Canvas, rng: np.random.Generator, at: int, foot: int) -> None:
    """A plate, round or square, on a pole."""
    paints = {"pole": scaled((150, 150, 155), int(rng.integers(60, 110))), "plate": one_of(rng, objects.PLATES)}
    pieces = objects.SIGNS[int(rng.integers(2))]
    draw_pieces(canvas, pieces, "sign", paints, (at, foot, 10, int(rng.integers(24, 32))), False)


def draw_pieces(
    canvas: Canvas,
    pieces: tuple[Piece, ...],
    class_: str,
    paints: dict[str, Colour],
    stand: Box,
    mirrored: bool,
) -> None:
    """Draw an object from pieces.

    Args:
        canvas: the canvas to paint on.
        pieces: in the order of painting.
        class_: of the whole object.
        paints: colours by role.
        stand: column of the middle, row of the foot, width and height in decimetres.
        mirrored: exchange left and right.
    """
    at, foot, wide, high = stand
    width, height, depth = max(2, canvas.pixels(wide, foot)), max(3, canvas.pixels(high, foot)), canvas.depth(foot)
    for piece in pieces:
        left, top, right, bottom = piece.box
        if mirrored:
            left, right = FULL - right, FULL - left
        x, y = at - width // 2 + width * left // FULL, foot - height + height * top // FULL
        end = at - width // 2 - (-width * right // FULL), foot - height - (-height * bottom // FULL)
        number = canvas.coat(
            scaled(paints.get(piece.paint, (28, 28, 30)), piece.percent), class_, piece.part, piece.material, depth
        )
        (canvas.ellipse if piece.round else canvas.rectangle)((x, y, *end), number)


def developed(canvas: Canvas, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """The picture and label maps of a painted scene, with a gradient of light, grain of the materials, and noise."""
    height, width = canvas.number.shape
    colours = np.array([coat[0] for coat in canvas.coats])[canvas.number]
    labels = np.array([coat[1:] for coat in canvas.coats], dtype=np.uint8)[canvas.number]
    across = np.arange(width)[:, None] * 2 - width
    light = int(rng.integers(72, 116)) + int(rng.integers(-16, 17)) * across // width
    roughness = np.append(objects.ROUGHNESS, [2] * (256 - len(MATERIALS)))[labels[..., 2:]]
    grain = rng.integers(-64, 65, (height, width, 1), dtype=np.int32) * roughness // 64
    strength = int(rng.integers(3, 13))
    noise = rng.integers(-strength, strength + 1, (height, width, 3), dtype=np.int32)
    pixels = (colours + grain) * light // 100 + noise + rng.integers(-8, 9, 3)
    return pixels.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), labels.transpose(2, 0, 1)
