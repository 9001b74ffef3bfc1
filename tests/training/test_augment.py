import pytest
import torch
from torch import Tensor

from whatwhere.training.augment import augment, random_crop, random_flip
from whatwhere.training.recipes import Recipe

TYPES = [torch.uint8, torch.float32, torch.float16]


def batch(dtype: torch.dtype = torch.uint8, n: int = 9) -> Tensor:
    images = torch.randint(1, 256, (n, 3, 5, 7), generator=torch.Generator().manual_seed(1))
    return images.to(dtype)


def cropped(image: Tensor, top: int, left: int, padding: int) -> Tensor:
    """One picture, pixel by pixel: what lies outside is black."""
    _, h, w = image.shape
    out = torch.zeros_like(image)
    for i in range(h):
        for j in range(w):
            row, column = i + top - padding, j + left - padding
            if 0 <= row < h and 0 <= column < w:
                out[:, i, j] = image[:, row, column]
    return out


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("padding", [1, 4])
def test_crop_is_the_loop_over_pictures(dtype: torch.dtype, padding: int) -> None:
    images = batch(dtype)
    found = random_crop(images, padding, torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    top, left = (torch.randint(0, 2 * padding + 1, (len(images), 1), generator=draws)[:, 0] for _ in range(2))
    expected = [cropped(x, int(t), int(le), padding) for x, t, le in zip(images, top, left, strict=True)]
    assert torch.equal(found, torch.stack(expected))
    assert found.dtype == dtype


@pytest.mark.parametrize("dtype", TYPES)
def test_flip_is_the_loop_over_pictures(dtype: torch.dtype) -> None:
    images = batch(dtype)
    found = random_flip(images, torch.Generator().manual_seed(5))
    mirrored = torch.rand(len(images), generator=torch.Generator().manual_seed(5)) < 0.5
    assert 0 < mirrored.sum() < len(images)
    for image, result, m in zip(images, found, mirrored, strict=True):
        for j in range(image.shape[2]):
            assert torch.equal(result[:, :, j], image[:, :, image.shape[2] - 1 - j if m else j])
    assert found.dtype == dtype


def test_crop_then_flip_from_one_generator() -> None:
    images, one, two = batch(), torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    expected = random_flip(random_crop(images, 4, two), two)
    assert torch.equal(augment(images, Recipe(epochs=1), one), expected)
    assert torch.equal(one.get_state(), two.get_state())


def test_nothing_is_done_and_drawn_when_off() -> None:
    images, generator = batch(), torch.Generator().manual_seed(2)
    before = generator.get_state()
    assert augment(images, Recipe(epochs=1).without_augmentation(), generator) is images
    assert torch.equal(generator.get_state(), before)


def test_the_same_seed_gives_the_same_pictures_and_leaves_theirs_alone() -> None:
    images = batch()
    kept = images.clone()
    a, b, other = (augment(images, Recipe(epochs=1), torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)
    assert torch.equal(images, kept)


def test_every_place_is_drawn_alike() -> None:
    """A single bright pixel in the middle: with padding 1 it lands on 9 places, each as often."""
    n = 9000
    images = torch.zeros(n, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, 1, 1] = 1
    counts = random_crop(images, 1, torch.Generator().manual_seed(0)).sum(0)[0].float()
    assert counts.sum() == n
    assert ((counts - n / 9).abs() < 5 * (n / 9 * 8 / 9) ** 0.5).all()
    flips = (random_flip(batch(n=4000), torch.Generator().manual_seed(0)) != batch(n=4000)).flatten(1).any(1)
    assert abs(int(flips.sum()) - 2000) < 5 * 1000**0.5
