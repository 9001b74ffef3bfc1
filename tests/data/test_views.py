import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from whatwhere.data.pixels import BrokenPicture
from whatwhere.data.views import View, Views, to_view, viewed
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

USUAL = Views(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip=True)
WHOLE = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def drawn(views: Views, n: int, height: int, width: int) -> Tensor:
    found = [views.of(1, row, height, width) for row in range(n)]
    return torch.tensor([(v.top, v.left, v.height, v.width) for v in found], dtype=torch.float64)


def picture(height: int = 40, width: int = 56, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (30, 300)])  # in the second, few windows fit
def test_windows_are_spread_as_those_of_torchvision(height: int, width: int) -> None:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)]
    other, ours = torch.tensor(theirs, dtype=torch.float64), drawn(USUAL, 1500, height, width)
    for mine, wanted in zip(ours.T, other.T, strict=True):
        assert ks_2samp(mine, wanted).pvalue > 0.001
    area = (ours[:, 2] * ours[:, 3]) / (height * width)
    assert ks_2samp(area, (other[:, 2] * other[:, 3]) / (height * width)).pvalue > 0.001


def test_windows_stay_inside_and_within_area_and_ratio() -> None:
    views = Views((0.2, 0.5), (0.5, 2.0), flip=False)
    top, left, height, width = drawn(views, 500, 50, 70).T
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 50) & (left + width <= 70)).all())
    share = height * width / 3500
    assert share.min() > 0.2 * 0.95
    assert share.max() < 0.5 * 1.05
    assert float((width / height).min()) > 0.5 * 0.9
    assert float((width / height).max()) < 2.0 * 1.1


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (10, 10, (0, 0, 10, 10))],
)
def test_where_no_window_fits_it_is_the_largest_in_the_middle(height: int, width: int, window: tuple[int, ...]) -> None:
    too_large = Views((1.3, 1.3), (3 / 4, 4 / 3), flip=False)  # what a recipe refuses
    view = too_large.of(0, 0, height, width)
    assert (view.top, view.left, view.height, view.width) == window


def test_a_view_depends_on_seed_and_row_alone() -> None:
    first = [USUAL.of(3, row, 40, 50) for row in range(20)]
    assert [USUAL.of(3, row, 40, 50) for row in reversed(range(20))] == first[::-1]
    assert len({*first}) == 20
    assert not {*first} & {USUAL.of(4, row, 40, 50) for row in range(20)}
    mirrored = sum(USUAL.of(0, row, 40, 50).mirrored for row in range(400))
    assert 160 <= mirrored <= 240
    assert not any(Views((0.5, 1), (1, 1), flip=False).of(0, row, 40, 50).mirrored for row in range(50))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_a_decoded_view_is_torchvisions_crop_to_the_bit(interpolation: str) -> None:
    geometry = Preprocessing(size=(24, 20), crop_pct=0.875, interpolation=interpolation)  # type: ignore[arg-type]
    mode = InterpolationMode(interpolation)
    for row in range(12):
        v = USUAL.of(5, row, 40, 56)
        expected = tv.pil_to_tensor(
            tv.resized_crop(picture(), v.top, v.left, v.height, v.width, [24, 20], interpolation=mode)
        )
        assert torch.equal(to_view(picture(), geometry, USUAL, 5, row), expected.flip(2) if v.mirrored else expected)


def test_a_decoded_view_has_the_networks_channels_and_may_be_broken() -> None:
    grey = to_view(picture(), Preprocessing(size=(8, 8), channels=1), USUAL, 0, 0)
    assert grey.shape == (1, 8, 8)
    stored = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    geometry = Preprocessing(size=(8, 8))
    assert torch.equal(to_view(stored, geometry, USUAL, 0, 0), to_view(picture(), geometry, USUAL, 0, 0))
    with pytest.raises(BrokenPicture):
        to_view(b"no picture", Preprocessing(size=(8, 8)), USUAL, 0, 0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 12), (40, 56), (60, 70)])  # smaller, the same and larger than most windows
def test_views_of_a_batch_are_torchvisions_one_by_one(interpolation: str, size: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 40, 56, generator=g)
    views = [USUAL.of(2, row, 40, 56) for row in range(6)]
    for given, tolerance in ((images, 2e-5), ((images * 255).to(torch.uint8), 1)):
        found = viewed(given, views, size, interpolation)
        assert found.dtype == given.dtype
        for image, view, got in zip(given, views, found, strict=True):
            window = (view.top, view.left, view.height, view.width)
            expected = tv.resized_crop(image.double(), *window, list(size), interpolation=WHOLE[interpolation])
            expected = expected.flip(2) if view.mirrored else expected
            if not given.is_floating_point():
                expected = expected.round().clamp(0, 255)
            assert float((got.double() - expected).abs().max()) <= tolerance


def test_a_whole_window_changes_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    whole = View(0, 0, 9, 7, mirrored=False)
    mirrored = View(0, 0, 9, 7, mirrored=True)
    assert torch.equal(viewed(images, [whole, mirrored], (9, 7)), torch.stack([images[0], images[1].flip(2)]))


def test_whole_batches_know_two_ways_to_resize() -> None:
    with pytest.raises(InputError, match=r"interpolation='nearest': views of whole batches are resized by bilinear or"):
        viewed(torch.zeros(1, 3, 4, 4), [View(0, 0, 4, 4, mirrored=False)], (2, 2), "nearest")
    assert math.isclose(float(viewed(torch.ones(1, 1, 5, 5), [View(1, 1, 3, 3, mirrored=False)], (4, 4)).mean()), 1.0)
