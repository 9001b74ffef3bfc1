"""Sources: stored pictures by row, undecoded, and what is no picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data.sources import Files, Memory, Pairs, Rows, as_bytes, as_raw, channels_first
from whatwhere.errors import InputError


def numbered(n: int = 6) -> Memory:
    return Memory(torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 2))


def values(pictures: Any) -> list[int]:
    return [int(p[0, 0, 0]) for p in pictures]


def test_files_are_paths_in_the_order_asked_for() -> None:
    source = Files([Path("a.png"), Path("b.png"), Path("c.png")])
    assert len(source) == 3
    assert source.read([2, 0, 2]) == [Path("c.png"), Path("a.png"), Path("c.png")]
    assert source.place(1) == "row 1 (file b.png)"


def test_pixels_in_memory_are_views() -> None:
    source = numbered()
    assert (len(source), values(source.read([4, 1]))) == (6, [4, 1])
    assert source.read([4])[0].data_ptr() == source.images[4].data_ptr()
    assert source.place(4) == "row 4"


def test_rows_of_rows_keep_the_numbers_of_the_whole() -> None:
    some = Rows(Rows(numbered(), torch.tensor([5, 3, 1])), torch.tensor([2, 0]))
    assert (len(some), values(some.read([1, 0]))) == (2, [5, 1])
    assert [some.place(i) for i in (0, 1)] == ["row 1", "row 5"]


def test_pairs_give_their_pictures_and_say_where_they_are() -> None:
    source = Pairs([(np.full((2, 2, 3), 7, np.uint8), 0), (torch.zeros(3, 2, 2), 1)])
    first, second = source.read([0, 1])
    assert first.shape == (3, 2, 2)
    assert second is source.dataset[1][0]
    assert source.pair(1)[1] == 1
    assert source.place(0) == "row 0 of the list"


@pytest.mark.parametrize("item", [torch.zeros(3, 2, 2), (1,), (1, 2, 3), "picture"])
def test_an_item_that_is_no_pair_is_named(item: Any) -> None:
    with pytest.raises(InputError, match=r"source: row 0 of the list is .*, not a pair"):
        Pairs([item]).read([0])


def test_a_file_that_a_data_set_cannot_open_is_named() -> None:
    class Broken:
        def __getitem__(self, row: int) -> Any:
            raise OSError("truncated")

    with pytest.raises(InputError, match=r"row 3 of the Broken cannot be read \(truncated\)"):
        Pairs(Broken()).read([3])


def test_what_is_a_picture_stays_what_it_is() -> None:
    for picture in (Image.new("RGB", (2, 2)), torch.zeros(3, 2, 2), b"bytes", Path("a.png")):
        assert as_raw(picture, "row 0") is picture
    assert as_raw("a.png", "row 0") == Path("a.png")
    with pytest.raises(InputError, match="row 0 holds a int where its picture should be"):
        as_raw(5, "row 0")


CHANNELS_FIRST, CHANNELS_LAST = (0, 1, 2), (1, 2, 0)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 5, 3), CHANNELS_LAST),
        ((6, 5, 1), CHANNELS_LAST),
        ((6, 5, 4), CHANNELS_LAST),
        ((3, 6, 5), CHANNELS_FIRST),
        ((1, 6, 5), CHANNELS_FIRST),
        ((4, 6, 5), CHANNELS_FIRST),
        ((8, 6, 5), CHANNELS_FIRST),
        # Either could be the channels: an array is channels last, and so many pixels high.
        ((1, 6, 3), CHANNELS_LAST),
        ((3, 6, 3), CHANNELS_LAST),
        ((4, 6, 3), CHANNELS_LAST),
        ((3, 6, 4), CHANNELS_LAST),
        ((3, 6, 1), CHANNELS_LAST),
        ((3, 3, 3), CHANNELS_LAST),
    ],
)
def test_channels_come_first(shape: tuple[int, ...], axes: tuple[int, int, int]) -> None:
    """Every value is where a slow look at the picture finds it."""
    pixels = np.arange(np.prod(shape)).reshape(shape)
    found = channels_first(pixels, "row 0")
    assert found.dtype == torch.uint8
    channels, height, width = sorted(range(3), key=lambda axis: axes[axis])
    assert tuple(found.shape) == (shape[channels], shape[height], shape[width])
    for at in np.ndindex(*shape):
        assert found[at[channels], at[height], at[width]] == pixels[at]


def test_a_picture_without_channels_has_one() -> None:
    pixels = np.arange(30).reshape(6, 5)
    assert channels_first(pixels, "row 0").tolist() == [pixels.tolist()]
    assert channels_first(pixels[:3, :3], "row 0").tolist() == [pixels[:3, :3].tolist()]


def test_a_tensor_is_channels_first_and_an_array_of_its_shape_channels_last() -> None:
    pixels = np.arange(54, dtype=np.uint8).reshape(3, 6, 3)
    of_tensor, of_array, of_list = Pairs([(torch.from_numpy(pixels), 0), (pixels, 0), (pixels.tolist(), 0)]).read(
        [0, 1, 2]
    )
    assert of_tensor.tolist() == pixels.tolist()
    assert of_array.tolist() == of_list.tolist() == [pixels[:, :, c].tolist() for c in range(3)]


def test_floats_are_prepared_and_stay_floats() -> None:
    found = channels_first(np.full((3, 2, 2), 300.5, np.float32), "row 0")
    assert found.dtype == torch.float32
    assert found.unique().tolist() == [300.5]


@pytest.mark.parametrize("shape", [(4,), (1, 3, 4, 5)])
def test_what_has_no_height_and_width_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"row 0 has shape .*; a picture is \(H, W\)"):
        channels_first(np.zeros(shape), "row 0")


def test_whole_numbers_must_be_bytes() -> None:
    assert as_bytes(np.array([0, 255]), "row 0").tolist() == [0, 255]
    for wrong in ([0, 256], [-1, 5]):
        with pytest.raises(InputError, match=rf"pixels from {wrong[0]} to {wrong[1]}; give bytes"):
            as_bytes(np.array(wrong), "row 0")
