import colorsys
import math

import numpy as np
import pytest
import torch

from whatwhere.say.pixel_concepts import (
    COLOURS,
    Colours,
    Positions,
    Textures,
    gaussian_mean,
    hue_saturation_value,
    structure_tensor,
    weighted,
)


def named_slowly(byte_rgb: tuple[int, int, int]) -> str:
    """The colour name of one pixel, from the docstring's rules."""
    r, g, b = ((v // 8 * 8 + 4) / 255 for v in byte_rgb)
    turns, saturation, value = colorsys.rgb_to_hsv(r, g, b)
    hue = round(turns * 360, 6)
    if value < 0.2:
        return "black"
    if saturation < 0.15 or (saturation < 0.25 and value < 0.35):
        return "white" if value >= 0.8 else "grey"
    if hue < 15 or hue >= 345:
        return "pink" if value >= 0.7 and saturation < 0.55 else "red"
    if hue < 70:
        return "brown" if value < 0.6 else "orange" if hue < 45 else "yellow"
    return "green" if hue < 170 else "blue" if hue < 260 else "purple" if hue < 310 else "pink"


def test_colours_pixel_by_pixel() -> None:
    picture = torch.randint(0, 256, (3, 60, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture[1, :20] = picture[0, :20]  # greys, and what is near a border
    picture[2, :10] = picture[0, :10]
    maps = Colours()(picture, {})
    assert maps.dtype == torch.int8
    assert maps.shape == (11, 60, 70)
    assert bool((maps.sum(0) == 1).all())
    for r in range(60):
        for c in range(70):
            name = named_slowly(tuple(picture[:, r, c].tolist()))
            assert int(maps[COLOURS.index(name), r, c]) == 1, (picture[:, r, c], name)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "grey"),
        ((255, 0, 0), "red"),
        ((0, 160, 0), "green"),
        ((0, 0, 255), "blue"),
        ((255, 255, 0), "yellow"),
        ((255, 140, 0), "orange"),
        ((139, 69, 19), "brown"),
        ((128, 0, 160), "purple"),
        ((255, 105, 180), "pink"),
        ((255, 170, 170), "pink"),
        ((135, 206, 235), "blue"),
        ((34, 100, 34), "green"),
        ((110, 20, 20), "red"),
        ((96, 64, 44), "brown"),
    ],
)
def test_the_colours_that_people_agree_on(rgb: tuple[int, int, int], name: str) -> None:
    picture = torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1)
    assert Colours.names[int(Colours()(picture, {}).flatten().argmax())] == f"colour: {name}"


def test_hue_saturation_value_is_that_of_colorsys() -> None:
    rgb = torch.rand(3, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rgb[:, :50] = rgb[:1, :50]
    expected = np.array([colorsys.rgb_to_hsv(*column) for column in rgb.T.tolist()])
    for ours, theirs, scale in zip(hue_saturation_value(rgb), expected.T, (360, 1, 1), strict=True):
        assert ours.numpy() == pytest.approx(theirs * scale, abs=1e-9)


def grating(angle: float, period: float = 6.0, size: int = 48, contrast: float = 100) -> torch.Tensor:
    """Stripes that run at an angle to the rows, in degrees."""
    y, x = np.mgrid[:size, :size].astype(float)
    across = y * math.cos(math.radians(angle)) - x * math.sin(math.radians(angle))
    wave = 128 + contrast * np.sin(2 * math.pi * across / period)
    return torch.from_numpy(wave.round().astype(np.uint8)).expand(3, -1, -1)


def shares(picture: torch.Tensor) -> dict[str, float]:
    """The share of inner pixels of each texture."""
    maps = Textures()(picture, {})
    inner = maps[:, 8:-8, 8:-8].float().mean((1, 2)).tolist()
    return {name.removeprefix("texture: "): share for name, share in zip(Textures.names, inner, strict=True)}


@pytest.mark.parametrize(
    ("angle", "texture"),
    [(0, "horizontal"), (15, "horizontal"), (-15, "horizontal"), (90, "vertical"), (75, "vertical"), (105, "vertical")],
)
@pytest.mark.parametrize("period", [5.0, 8.0])
def test_stripes_run_along_rows_or_columns(angle: float, period: float, texture: str) -> None:
    found = shares(grating(angle, period))
    assert found[texture] == 1
    assert sum(found.values()) == 1


@pytest.mark.parametrize("angle", [30, 45, 60, 120, 135])
def test_slanted_stripes_are_none_of_the_four(angle: float) -> None:
    assert sum(shares(grating(angle)).values()) == 0


def test_fine_textures_have_no_direction() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (1, 48, 48), dtype=np.uint8)).expand(3, -1, -1)
    y, x = np.mgrid[:48, :48]
    for side in (1, 2, 3):
        board = torch.from_numpy(((y // side + x // side) % 2 * 200).astype(np.uint8)).expand(3, -1, -1)
        assert shares(board)["fine"] == 1
    assert shares(noise)["fine"] > 0.95


def test_smooth_is_what_hardly_changes() -> None:
    ramp = (torch.arange(48, dtype=torch.uint8) * 4).expand(3, 48, 48)
    steep = (torch.arange(48) * 6 % 256).to(torch.uint8).expand(3, 48, 48)[:, :, :40]
    assert shares(torch.full((3, 48, 48), 77, dtype=torch.uint8))["smooth"] == 1
    assert shares(ramp)["smooth"] == 1  # four grey levels a pixel
    assert shares(steep[:, :, :40])["vertical"] == 1  # six


def test_turning_the_picture_exchanges_the_stripes() -> None:
    picture = torch.randint(0, 256, (3, 20, 26), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    picture = torch.nn.functional.avg_pool2d(picture.float(), 5, 1, 2).to(torch.uint8)
    maps, turned = Textures()(picture, {}), Textures()(picture.transpose(1, 2), {}).transpose(1, 2)
    assert torch.equal(maps, turned[[0, 2, 1, 3]])
    assert int((maps.sum(0) > 1).sum()) == 0


def tensor_slowly(picture: torch.Tensor, window: float) -> np.ndarray:
    """The structure tensor by loops over pixels and neighbours."""
    grey = picture.double().mean(0).numpy() / 255
    height, width = grey.shape
    products = np.zeros((3, height, width))
    for r in range(height):
        for c in range(width):
            dx = [grey[y, c + 1] - grey[y, c] if c + 1 < width else 0 for y in (r, min(r + 1, height - 1))]
            dy = [grey[r + 1, x] - grey[r, x] if r + 1 < height else 0 for x in (c, min(c + 1, width - 1))]
            inner = r + 1 < height and c + 1 < width
            products[:, r, c] = dx[0] ** 2, sum(dx) * sum(dy) / 4 if inner else 0, dy[0] ** 2
    reach, out = round(3 * window), np.zeros_like(products)
    for r in range(height):
        for c in range(width):
            total = 0.0
            for y in range(max(0, r - reach), min(height, r + reach + 1)):
                for x in range(max(0, c - reach), min(width, c + reach + 1)):
                    weight = math.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * window**2))
                    total += weight
                    out[:, r, c] += weight * products[:, y, x]
            out[:, r, c] /= total
    return out


def test_structure_tensor_by_loops() -> None:
    picture = torch.randint(0, 256, (3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    assert structure_tensor(picture, 1.5).numpy() == pytest.approx(tensor_slowly(picture, 1.5), abs=1e-6)


def test_a_mean_of_ones_is_one_at_the_borders_too() -> None:
    assert torch.allclose(gaussian_mean(torch.ones(2, 4, 5), 2.0), torch.ones(2, 4, 5))
    assert weighted(torch.tensor([1.0, 10, 100]), [2, 0, 3], 0).tolist() == [30, 302, 20]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    picture = torch.full((3, *shape), 9, dtype=torch.uint8)
    for source, k in ((Colours(), 11), (Textures(), 4), (Positions(), 6)):
        assert source(picture, {}).shape == (k, *shape)


def test_positions_pixel_by_pixel() -> None:
    maps = Positions()(torch.zeros(3, 7, 10), {})
    assert Positions.names[0] == "place: upper"
    for r in range(7):
        for c in range(10):
            expected = [int(3 * r // 7 == i) for i in range(3)] + [int(3 * c // 10 == i) for i in range(3)]
            assert maps[:, r, c].tolist() == expected
