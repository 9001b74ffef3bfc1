"""Parts of objects as concepts, pixel by pixel."""

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.listed_parts import ListedParts

PARTS = ("wheel", "window", "roof")
LISTS = torch.tensor([[True, True, False], [False, True, True]])  # a car, a building


def test_every_pixel_by_the_rule() -> None:
    """A part that is there makes the others absent; where the object has none, those that it may have are."""
    none = len(PARTS)
    cases = {
        (0, 0): (1, 0, 0),  # a wheel of a car
        (0, 1): (1, 0, 0),  # a wheel, which a building is not listed with
        (none, 0): (0, 0, -1),  # the rest of a car: it might have had a roof that nobody listed
        (none, 1): (-1, 0, 0),
        (none, IGNORE): (-1, -1, -1),
        (IGNORE, 0): (-1, -1, -1),
        (2, IGNORE): (0, 0, 1),
    }
    parts = torch.tensor([[p for p, _ in cases]])
    objects = torch.tensor([[o for _, o in cases]])
    maps = ListedParts(PARTS, LISTS)(torch.zeros(3, 1, len(cases)), {"part": parts, "object": objects})
    assert maps.dtype == torch.int8
    assert [tuple(column) for column in maps[:, 0].T.tolist()] == list(cases.values())


def test_names_say_that_they_are_parts() -> None:
    assert ListedParts(PARTS, LISTS).names == ("part: wheel", "part: window", "part: roof")


def test_objects_beyond_the_value_255_are_counted_without_it() -> None:
    """Object 300 is stored as 301, since 255 is no object."""
    lists = torch.zeros(400, 1, dtype=torch.bool)
    lists[300] = True
    objects = torch.tensor([[301, 300]])
    maps = ListedParts(("wheel",), lists)(
        torch.zeros(3, 1, 2), {"part": torch.ones(1, 2, dtype=torch.int64), "object": objects}
    )
    assert maps.flatten().tolist() == [0, -1]


def test_a_map_that_is_missing_or_unknown_is_named() -> None:
    source, picture = ListedParts(PARTS, LISTS), torch.zeros(3, 1, 1)
    part = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(InputError, match="map='object'"):
        source(picture, {"part": part})
    with pytest.raises(InputError, match="part"):
        source(picture, {"part": part + 4, "object": part})
