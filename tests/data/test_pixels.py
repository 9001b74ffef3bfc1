import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from whatwhere.data.pixels import BrokenPicture, check_geometry, orientation_of, to_pixels
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing


def noise_picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_decodes_every_format_to_the_pixels_that_went_in(kind: str) -> None:
    picture = noise_picture(6, 5, "L" if kind == "GIF" else "RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(to_pixels(encoded(picture, kind, **options)), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    pixels = to_pixels(encoded(noise_picture(6, 5, mode)))
    assert pixels.shape == (3, 6, 5)
    assert pixels.dtype == torch.uint8


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert to_pixels(encoded(red, "JPEG"))[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 256 * 7 + 3, 65535]], dtype=np.uint16))
    assert to_pixels(encoded(deep))[0].tolist() == [[0, 7, 255]]


def test_thirty_two_bits_are_refused() -> None:
    with pytest.raises(BrokenPicture, match="'F'"):
        to_pixels(encoded(Image.new("F", (3, 3)), "TIFF"))


def test_exif_orientation_is_applied() -> None:
    picture = noise_picture(6, 5)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the picture rotated clockwise by 90 degrees
    upright = np.rot90(np.array(picture), k=-1)
    assert np.array_equal(to_pixels(encoded(picture, exif=exif)).permute(1, 2, 0).numpy(), upright)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (37, 37), (224, 300)])
@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic", "nearest"])
def test_resize_and_crop_equal_torchvision(shape: tuple[int, int], filter_name: Any) -> None:
    picture = noise_picture(*shape)
    geometry = Preprocessing(size=(32, 32), crop_pct=0.875, interpolation=filter_name)
    mode = v2.InterpolationMode(filter_name)
    theirs = v2.CenterCrop(32)(v2.Resize(round(32 / 0.875), interpolation=mode, antialias=True)(picture))
    ours = to_pixels(encoded(picture), geometry)
    assert np.array_equal(ours.permute(1, 2, 0).numpy(), np.array(theirs))


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (10, 90), (24, 48)])
def test_oblong_sizes_are_covered(shape: tuple[int, int]) -> None:
    assert to_pixels(noise_picture(*shape), Preprocessing(size=(24, 48))).shape == (3, 24, 48)


def test_tensors_are_resized_like_pictures() -> None:
    picture, geometry = noise_picture(40, 60), Preprocessing(size=(16, 16))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(to_pixels(pixels, geometry), to_pixels(encoded(picture), geometry))


def test_grey_tensors_get_three_channels_and_floats_pass() -> None:
    grey, prepared = torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3), torch.randn(3, 4, 4)
    assert torch.equal(to_pixels(grey), grey.repeat(3, 1, 1))
    assert to_pixels(prepared, Preprocessing(size=(8, 8))) is prepared


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated_and_foreign_bytes_are_broken(kind: str) -> None:
    whole = encoded(noise_picture(64, 64), kind)
    for broken in (whole[: len(whole) // 2], whole[:20], b"", b"not a picture"):
        with pytest.raises(BrokenPicture):
            to_pixels(broken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_pct": 0.0}, "crop_pct=0.0"),
        ({"crop_pct": 1.5}, "crop_pct=1.5"),
        ({"size": (0, 8)}, r"size=\(0, 8\)"),
        ({"interpolation": "sinc"}, "interpolation='sinc'"),
    ],
)
def test_impossible_geometry_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_geometry(Preprocessing(**{"size": (8, 8), **settings}))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_a_file_of_sixteen_are_refused(kind: str, bits: int) -> None:
    """They would be black, or nearly so."""
    deep = Image.fromarray(np.array([[0, 3, 2**bits - 1]], dtype=np.uint16))
    with pytest.raises(BrokenPicture, match=rf"values of 16 bits go up to {2**bits - 1} of 65535.*save it with 8 bits"):
        to_pixels(encoded(deep, kind))


def colour_png(values: list[list[int]]) -> bytes:
    """One row of pixels of three channels of 16 bits."""
    head = struct.pack(">IIBBBBB", len(values), 1, 16, 2, 0, 0, 0)
    row = b"\0" + np.array(values, dtype=">u2").tobytes()
    chunks = {b"IHDR": head, b"IDAT": zlib.compress(row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks.items()
    )


def test_colours_of_sixteen_bits() -> None:
    assert to_pixels(colour_png([[65535, 256, 0]]))[:, 0, 0].tolist() == [255, 1, 0]
    for dark in ([4095, 100, 0], [255, 100, 0], [0, 0, 16383]):
        with pytest.raises(BrokenPicture, match="values of 16 bits go below"):
            to_pixels(colour_png([dark]))


def test_a_black_picture_of_sixteen_bits_is_black() -> None:
    assert to_pixels(encoded(Image.fromarray(np.zeros((1, 2), dtype=np.uint16)))).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_orientation_of_a_stored_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(noise_picture(6, 5), kind, exif=exif)
    assert orientation_of(stored) == orientation_of(Image.open(io.BytesIO(stored))) == orientation
    assert orientation_of(torch.zeros(3, 2, 2)) == orientation_of(encoded(noise_picture(6, 5))) == 1


def test_pictures_get_the_channels_of_the_network() -> None:
    colour, grey = noise_picture(5, 7), noise_picture(5, 7, "L")
    one = Preprocessing(channels=1)
    assert torch.equal(to_pixels(grey, one)[0], torch.from_numpy(np.array(grey)))
    assert torch.equal(to_pixels(colour, one)[0], torch.from_numpy(np.array(colour.convert("L"))))
    assert torch.equal(to_pixels(to_pixels(colour), one), to_pixels(colour, one))
    small = Preprocessing(size=(4, 4), channels=1)
    assert torch.equal(to_pixels(torch.from_numpy(np.array(grey)), small), to_pixels(grey, small))
    assert to_pixels(grey, small).shape == (1, 4, 4)


def test_four_channels_are_served_where_a_picture_has_them() -> None:
    transparent = noise_picture(5, 7, "RGBA")
    four = Preprocessing(channels=4)
    pixels = torch.from_numpy(np.array(transparent)).permute(2, 0, 1)
    assert torch.equal(to_pixels(transparent, four), pixels)
    assert torch.equal(to_pixels(encoded(transparent), four), pixels)
    assert torch.equal(to_pixels(pixels, four), pixels)
    assert to_pixels(pixels, Preprocessing(size=(4, 4), channels=4)).shape == (4, 4, 4)
    with pytest.raises(BrokenPicture, match="the network takes 4 channels, and it has no transparency"):
        to_pixels(noise_picture(5, 7), four)
    with pytest.raises(BrokenPicture, match="the network takes 4 channels, and it has 3"):
        to_pixels(pixels[:3], four)


def test_other_channels_come_as_tensors() -> None:
    many = torch.randint(0, 256, (7, 4, 4), dtype=torch.uint8)
    assert torch.equal(to_pixels(many, Preprocessing(channels=7)), many)
    with pytest.raises(BrokenPicture, match="7 channels, which are not resized"):
        to_pixels(many, Preprocessing(size=(2, 2), channels=7))
    with pytest.raises(BrokenPicture, match=r"which only tensors \(7, H, W\) have"):
        to_pixels(noise_picture(4, 4), Preprocessing(channels=7))
