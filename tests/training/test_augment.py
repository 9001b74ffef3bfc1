import pytest
import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.network import Preprocessing
from whatwhere.training.augment import Moves, augment, crop_and_scale, moved
from whatwhere.training.recipes import Recipe, SceneRecipe


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    return augment(images, Recipe(epochs=1, crop_padding=padding, flip=False), generator)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    return augment(images, Recipe(epochs=1, crop_padding=0), generator)


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


def test_what_the_padding_is_as_the_recipe_says() -> None:
    """Black around bytes, as the network sees them; the pictures' mean around the same ones, normalised before."""
    images, padding = batch(n=50), 4
    mean, std = (images.float() / 255).mean((0, 2, 3)), (images.float() / 255).std((0, 2, 3))
    prep = Preprocessing(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    corner = Moves(torch.zeros(50, 1, dtype=torch.int64), torch.zeros(50, 1, dtype=torch.int64))
    black = prep.normalise(moved(images, corner, padding))[:, :, 0, 0]
    torch.testing.assert_close(black, (-mean / std).expand(50, -1))
    prepared = prep.normalise(images)
    around = moved(prepared, corner, padding)[:, :, 0, 0]
    torch.testing.assert_close(around, prepared.mean((0, 2, 3)).expand(50, -1), atol=1e-5, rtol=0)
    said = " ".join((Recipe.__doc__ or "").split())
    assert "They are black; in floats that a Dataset prepared they are 0, which is about the mean of normalised" in said


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


@pytest.mark.parametrize("change", [{}, {"crop_padding": 0}, {"flip": False}])
def test_draws_of_several_batches_move_their_pictures_as_batch_by_batch(change: dict[str, int]) -> None:
    images, recipe = batch(n=10), Recipe(epochs=1, **change)  # type: ignore[arg-type]
    one, two = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    parts = torch.arange(10).split(4)
    expected = torch.cat([augment(images[rows], recipe, one) for rows in parts])
    moves = Moves.joined([Moves.drawn(len(rows), recipe, two) for rows in parts])
    assert torch.equal(moved(images, moves, recipe.crop_padding), expected)
    assert torch.equal(one.get_state(), two.get_state())
    some = moved(images[4:8], moves.each(lambda v: v[4:8]), recipe.crop_padding)
    assert torch.equal(some, expected[4:8])


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


# Scenes: a picture with its label map


def scene(h: int = 9, w: int = 13, classes: int = 200) -> tuple[Tensor, Tensor]:
    """A picture of bytes and labels, both random."""
    g = torch.Generator().manual_seed(3)
    picture = torch.randint(1, 256, (3, h, w), generator=g, dtype=torch.uint8)
    return picture, torch.randint(0, classes, (h, w), generator=g, dtype=torch.uint8)


def recipe(crop: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0), flip: bool = True) -> SceneRecipe:
    return SceneRecipe(epochs=1, crop=crop, scale=scale, flip=flip)


def cut_out(
    picture: Tensor, labels: Tensor, crop: tuple[int, int], draws: list[float], flip: bool
) -> tuple[Tensor, Tensor]:
    """At scale 1, pixel by pixel: what lies outside is black and unlabelled."""
    sizes = labels.shape
    starts = [int(u * (max(n, c) - c + 1)) if n > c else 0 for n, c, u in zip(sizes, crop, draws[1:3], strict=True)]
    shown, classes = torch.zeros(3, *crop, dtype=torch.uint8), torch.full(crop, 255)
    for i in range(crop[0]):
        for j in range(crop[1]):
            row, column = i + starts[0], j + starts[1]
            if row < sizes[0] and column < sizes[1]:
                at = crop[1] - 1 - j if flip and draws[3] < 0.5 else j
                shown[:, i, at], classes[i, at] = picture[:, row, column], int(labels[row, column])
    return shown, classes


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("crop", [(4, 5), (9, 13), (12, 6), (5, 20), (15, 16)])
def test_a_crop_at_scale_one_is_exact(crop: tuple[int, int], flip: bool) -> None:
    picture, labels = scene()
    kept = picture.clone(), labels.clone()
    for seed in range(6):
        shown, classes = crop_and_scale(picture, labels, recipe(crop, flip=flip), torch.Generator().manual_seed(seed))
        draws = torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()
        expected = cut_out(picture, labels, crop, draws, flip)
        assert torch.equal(shown, expected[0])
        assert torch.equal(classes, expected[1])
        assert (shown.dtype, classes.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(picture, kept[0])
    assert torch.equal(labels, kept[1])


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("scale", [(0.3, 0.6), (0.5, 2.0), (2.0, 5.0)])
def test_picture_and_labels_stay_together(scale: tuple[float, float], upright: bool) -> None:
    """Stripes of two classes, the one with the colour 20, the other with 100: only where they meet colours mix."""
    labels = (torch.arange(40) // 8 % 2).to(torch.uint8).expand(30, 40)
    labels = labels if upright else labels.T
    picture = (20 + 80 * labels)[None].expand(3, -1, -1)
    draws = torch.Generator().manual_seed(0)
    for _ in range(40):
        shown, classes = crop_and_scale(picture, labels, recipe((20, 24), scale), draws)
        outside = classes == 255
        assert not shown[:, outside].any()
        meant = torch.where(outside, 0, 20 + 80 * classes)
        off = (shown[0].long() - meant).abs()
        high, low = (s * functional.max_pool2d(s * meant[None].float(), 7, 1, 3)[0] for s in (1, -1))
        assert not off[high == low].any()
        assert float((off <= 41).float().mean()) > 0.97  # the class is the one that has most of a pixel


def test_a_smaller_picture_is_surrounded_by_nothing() -> None:
    picture, labels = scene(8, 12)
    shown, classes = crop_and_scale(picture, labels, recipe((10, 10), (0.5, 0.5), flip=False), torch.Generator())
    assert (classes != 255).nonzero().max(0).values.tolist() == [3, 5]
    assert int((classes != 255).sum()) == 4 * 6
    assert not shown[:, classes == 255].any()
    halved = functional.interpolate(picture[None].float(), size=(4, 6), mode="bilinear", antialias=True)[0]
    assert torch.equal(shown[:, :4, :6], halved.round().to(torch.uint8))


def test_a_larger_picture_fills_the_crop() -> None:
    """Whatever the factor: no border of rounding is black."""
    picture, labels = scene(60, 70)
    draws = torch.Generator().manual_seed(1)
    for _ in range(200):
        _, classes = crop_and_scale(picture, labels, recipe((31, 37), (0.7, 4.0)), draws)
        assert classes.shape == (31, 37)
        assert bool((classes != 255).all())


def test_the_scale_is_drawn_evenly_on_a_logarithmic_scale() -> None:
    """The height of the picture in a crop that is large enough for all of it tells the factor."""
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    draws, factors = torch.Generator().manual_seed(0), []
    for _ in range(300):
        _, classes = crop_and_scale(labels[None].expand(3, -1, -1), labels, recipe((200, 200), (0.5, 2.0)), draws)
        factors.append(int((classes != 255).any(1).sum()) / 100)
    logs = torch.tensor(factors).log2()
    assert 0.5 <= min(factors) < 0.53
    assert 1.9 < max(factors) <= 2.0
    assert abs(float(logs.mean())) < 5 * (1 / 3 / 300) ** 0.5


def test_every_place_of_a_crop_is_drawn_and_four_numbers_for_each_scene() -> None:
    labels = torch.arange(5, dtype=torch.uint8)[:, None] * 10 + torch.arange(4, dtype=torch.uint8)
    one, two = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    crops = [
        crop_and_scale(labels[None].expand(3, -1, -1), labels, recipe((3, 3), flip=False), one)[1] for _ in range(200)
    ]
    assert {int(c[0, 0]) for c in crops} == {0, 1, 10, 11, 20, 21}
    torch.rand(4 * 200, generator=two)
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=two))


def test_prepared_pictures_are_refused() -> None:
    with pytest.raises(InputError, match=r"pictures of torch\.float32 cannot be scaled and cropped; give bytes"):
        crop_and_scale(torch.zeros(3, 4, 4), torch.zeros(4, 4), recipe((2, 2)), torch.Generator())
