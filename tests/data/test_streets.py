import numpy as np
import pytest
import torch

from whatwhere.data.street_objects import (
    CAR_FRONT,
    CAR_SIDE,
    CLASSES,
    CONFUSED,
    DIFFERENCE,
    MATERIALS,
    PARTS,
    ROOF_SIGN,
    ROUGHNESS,
    SIGNS,
)
from whatwhere.data.streets import Canvas, Streets, draw_streets
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.concept_counts import concept_counts
from whatwhere.say.concepts import Combined, Named, copies_of_classes


@pytest.fixture(scope="module")
def streets() -> Streets:
    return draw_streets(90, seed=7)


PICTURES, MAPS = 50348206135, [19813, 1459351, 627250]  # of three scenes of 48 x 64 pixels, seed 0


def share(maps: torch.Tensor, value: int) -> float:
    return float((maps == value).float().mean())


def test_shapes_types_and_values(streets: Streets) -> None:
    assert streets.images.shape == (90, 3, 96, 128)
    assert streets.images.dtype == torch.uint8
    for name, names in (("class", CLASSES), ("part", PARTS), ("material", MATERIALS)):
        values = streets.labels[name]
        assert values.shape == (90, 96, 128)
        assert values.dtype == torch.uint8
        assert values.is_contiguous()
        assert set(values.unique().tolist()) <= {*range(len(names)), IGNORE}
    assert not bool((streets.labels["class"] == IGNORE).any())
    assert len(ROUGHNESS) == len(MATERIALS)
    picture, labels = streets[3]
    assert picture.shape == (3, 96, 128)
    assert torch.equal(labels["part"], streets.labels["part"][3])
    assert len(list(streets.rows())) == len(streets)


def test_a_scene_depends_on_seed_and_number_only() -> None:
    few, more, other = draw_streets(2, seed=5), draw_streets(4, seed=5), draw_streets(2, seed=6)
    assert torch.equal(few.images, more.images[:2])
    assert all(torch.equal(few.labels[name], more.labels[name][:2]) for name in few.labels)
    assert not torch.equal(few.images, other.images)


def test_the_bytes_are_the_same_on_every_machine() -> None:
    streets = draw_streets(3, size=(48, 64), seed=0)
    weights = torch.arange(1, streets.images.numel() + 1)
    assert int((streets.images.flatten().long() * weights).sum()) == PICTURES
    assert [int(m.flatten().long().sum()) for m in streets.labels.values()] == MAPS


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (50, 150)])
def test_other_sizes(size: tuple[int, int]) -> None:
    streets = draw_streets(3, size=size, seed=1)
    assert streets.images.shape[-2:] == size
    assert len(streets.labels["class"].unique()) >= 5


def test_every_name_occurs_often_enough_to_be_learned(streets: Streets) -> None:
    for name, names in (("class", CLASSES), ("part", PARTS), ("material", MATERIALS)):
        for value, label in enumerate(names):
            pictures = (streets.labels[name] == value).flatten(1).any(1).sum()
            assert int(pictures) >= 25, label
            assert share(streets.labels[name], value) > 0.001, label


def test_parts_and_materials_belong_to_their_classes(streets: Streets) -> None:
    classes, parts, materials = (streets.labels[name] for name in ("class", "part", "material"))
    for label, of in {
        "wheel": ("car", "taxi", "bus"),
        "torso": ("person",),
        "crown": ("tree",),
        "plate": ("sign",),
    }.items():
        found = {CLASSES[i] for i in classes[parts == PARTS.index(label)].unique().tolist()}
        assert found == set(of), label
    assert materials[parts == PARTS.index("wheel")].unique().tolist() == [MATERIALS.index("rubber")]
    assert parts[classes == CLASSES.index("road")].unique().tolist() == [IGNORE]
    assert materials[classes == CLASSES.index("sky")].unique().tolist() == [IGNORE]


def test_sky_is_above_and_the_ground_below(streets: Streets) -> None:
    rows = torch.arange(96).view(-1, 1).expand(96, 128)
    for classes in streets.labels["class"]:
        assert bool((rows[classes == CLASSES.index("sky")] < 50).all())
        assert bool((rows[classes == CLASSES.index("road")] > 25).all())


def test_what_is_near_is_larger(streets: Streets) -> None:
    """The lower the lowest wheel pixel of a picture, the more vehicle pixels there are."""
    lowest, sizes = [], []
    for _, labels in streets.rows():
        rows = (labels["part"] == PARTS.index("wheel")).any(1).nonzero()
        lowest.append(int(rows.max()))
        sizes.append(int(((labels["class"] >= 5) & (labels["class"] <= 6)).sum()))
    assert np.corrcoef(lowest, sizes)[0, 1] > 0.3


def test_no_material_and_no_part_is_a_class(streets: Streets) -> None:
    source = Combined([Named(PARTS), Named(MATERIALS, "material")])
    counts = concept_counts(source, list(streets.rows())[:40], CLASSES)
    assert copies_of_classes(source, CLASSES) == {}
    inside = {name: counts.joint[k, 1] > 0 for k, name in enumerate(counts.names)}
    whole = {name: k for k, name in enumerate(counts.names) if int(inside[name].sum()) == 1}
    for name, k in whole.items():  # a concept of one class only is a part of it, not all of it
        value = int(inside[name].nonzero())
        assert int(counts.joint[k, 1, value]) < 0.98 * int((streets.labels["class"][:40] == value).sum()), name


def test_car_and_taxi_differ_by_one_part_and_nothing_else(streets: Streets) -> None:
    car, taxi = (streets.labels["class"] == CLASSES.index(name) for name in CONFUSED)
    parts, materials = streets.labels["part"], streets.labels["material"]
    assert set(parts[taxi].unique().tolist()) - set(parts[car].unique().tolist()) == {PARTS.index(DIFFERENCE)}
    assert set(parts[car].unique().tolist()) < set(parts[taxi].unique().tolist())
    assert materials[taxi].unique().tolist() == materials[car].unique().tolist()
    assert {piece.part for piece in ROOF_SIGN} == {DIFFERENCE}
    assert {piece.paint for piece in ROOF_SIGN} <= {piece.paint for piece in (*CAR_SIDE, *CAR_FRONT)}


def test_car_and_taxi_are_drawn_alike() -> None:
    """Number, place and colour agree within their chance, over many scenes."""
    streets = draw_streets(250, size=(48, 64), seed=3)
    body = streets.labels["part"] == PARTS.index("body")
    seen = []
    for name in CONFUSED:
        mask = (streets.labels["class"] == CLASSES.index(name)) & body
        rows = torch.arange(48.0).view(1, -1, 1).expand_as(mask)[mask]
        colour = streets.images.float().movedim(1, -1)[mask].mean(0)
        seen.append((float(mask.flatten(1).any(1).float().mean()), float(rows.mean()), *colour.tolist()))
    assert seen[0] == pytest.approx(seen[1], rel=0.15)


def test_pictures_vary(streets: Streets) -> None:
    brightness = streets.images.float().mean((1, 2, 3))
    assert float(brightness.std()) > 10
    horizons = {int((labels["class"] == CLASSES.index("road")).any(1).int().argmax()) for _, labels in streets.rows()}
    assert len(horizons) > 8


def test_an_ellipse_by_loops() -> None:
    canvas = Canvas(np.zeros((12, 14), np.int16), 2, 10, (0, 0, 0))
    for box in ((2, 3, 9, 8), (-3, -2, 5, 4), (10, 8, 20, 15), (6, 0, 7, 12)):
        canvas.number[:] = 0
        canvas.ellipse(box, 1)
        left, top, right, bottom = box
        for r in range(12):
            for c in range(14):
                x = (c + 0.5 - (left + right) / 2) / ((right - left) / 2)
                y = (r + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)
                assert canvas.number[r, c] == int(x * x + y * y <= 1 + 1e-12), (box, r, c)


def test_windows_keep_off_the_grid_and_the_door() -> None:
    canvas = Canvas(np.zeros((20, 20), np.int16), 2, 10, (0, 0, 0))
    canvas.windows((-3, 2, 14, 18), 6, 5, 1)
    for r in range(20):
        for c in range(20):
            inside = 2 <= r < 16 and c < 14 and (r - 2) % 5 >= 1 and (c + 3) % 6 >= 2
            assert canvas.number[r, c] == int(inside), (r, c)


def test_signs_stand_on_poles() -> None:
    assert all([piece.part for piece in pieces] == ["pole", "plate"] for pieces in SIGNS)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match=r"n=0: draw at least one scene"):
        draw_streets(0)
    with pytest.raises(InputError, match=r"seed=-1 must be a whole number from 0"):
        draw_streets(1, seed=-1)
    with pytest.raises(InputError, match=r"size=\(96, 31\) must be \(height, width\), both at least 32"):
        draw_streets(1, size=(96, 31))
