import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data.pixels import Raw
from whatwhere.data.stored_maps import turned_apart, whole_numbers

LABELS = np.kron(np.array([[3, 7], [5, 8]], dtype=np.uint8), np.ones((4, 6), dtype=np.uint8))


def grey(values: Any, dtype: Any = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, dtype=dtype))


def encoded(picture: Image.Image, kind: str = "PNG", orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, kind, **(options if orientation == 1 else {"exif": exif, **options}))
    return buffer.getvalue()


def packed_png(values: Any, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits a pixel, as programs write that shrink PNGs."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = [np.packbits((np.array(row)[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for row in values]
    head = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0, 0, 0, 0)
    chunks = {b"IHDR": head, b"IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks.items()
    )


def test_one_bit_and_sixteen_bit_maps() -> None:
    assert whole_numbers(grey([[0, 1]]).convert("1")).tolist() == [[0, 0]]  # PIL takes 1 of 255 for black
    assert whole_numbers(Image.new("1", (2, 1), 1)).tolist() == [[1, 1]]
    found = whole_numbers(grey([[3, 400]], np.uint16))
    assert (found.tolist(), found.dtype) == ([[3, 400]], torch.int32)
    assert whole_numbers(grey([[3, -1]], np.int32)).tolist() == [[3, -1]]  # not 255, which is unlabelled
    assert whole_numbers(torch.tensor([[[3, 400]]])).tolist() == [[3, 400]]


@pytest.mark.parametrize(
    "raw", [grey([[0.5]], np.float32), torch.zeros(1, 1), Image.new("RGB", (2, 2)), Image.new("LA", (2, 2))]
)
def test_what_is_no_label_map_is_refused(raw: Raw) -> None:
    with pytest.raises(ValueError, match=r"numbers are .*float|channels"):
        whole_numbers(raw)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX"])
def test_formats_that_keep_numbers_give_them_back(kind: str) -> None:
    assert np.array_equal(whole_numbers(encoded(grey(LABELS), kind)), LABELS)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"quality": 100}),
        ("JPEG2000", {}),
        ("AVIF", {}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_lossy_maps_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"stored with loss \(.*\), which changes labels; write it as PNG"):
        whole_numbers(encoded(grey(LABELS), kind, **options))


def test_formats_that_number_labels_anew_are_refused() -> None:
    with pytest.raises(ValueError, match="a GIF, whose writers number the labels anew"):
        whole_numbers(encoded(grey(LABELS), "GIF"))  # Pillow would read 0..3
    with pytest.raises(ValueError, match="a PGM with a largest value of its own"):
        whole_numbers(b"P5 2 1 3\n\x00\x03")  # Pillow would read 0 and 255


@pytest.mark.parametrize("bits", [2, 4])
def test_packed_numbers_are_not_spread_over_a_byte(bits: int) -> None:
    values = [[0, 1, 2, 3], [3, 2, 1, 0]]
    assert whole_numbers(packed_png(values, bits)).tolist() == values


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_maps_are_turned_like_pictures(kind: str, orientation: int) -> None:
    """A map and a picture of the same pixels and tag lie on each other."""
    from whatwhere.data.pixels import to_pixels

    stored = encoded(grey(LABELS), kind, orientation)
    assert torch.equal(whole_numbers(stored), to_pixels(stored)[0])


@pytest.mark.parametrize(
    ("own", "other", "shape", "apart"),
    [
        (1, 1, (8, 12), False),
        (3, 3, (8, 12), False),
        (6, 6, (8, 8), False),
        (3, 1, (8, 12), True),
        (1, 3, (8, 12), True),
        (6, 1, (8, 8), True),
        (6, 8, (8, 12), True),
        (6, 1, (8, 12), True),  # a map of the stored pixels' size
        (6, 1, (12, 8), False),  # a map of the upright picture's size
    ],
)
def test_orientations_that_differ_leave_it_open_how_a_map_was_drawn(
    own: int, other: int, shape: tuple[int, int], apart: bool
) -> None:
    picture, labels = (
        encoded(Image.new("RGB", (12, 8)), "JPEG", own),
        encoded(Image.new("L", shape[::-1]), "PNG", other),
    )
    size = (12, 8) if own > 4 else (8, 12)
    size = (8, 8) if shape == (8, 8) else size
    map_size = shape[::-1] if other > 4 else shape
    said = turned_apart(picture, labels, size, map_size)
    assert (said is not None) == apart
    assert said is None or f"orientation is {own}, its map's {other}" in said
