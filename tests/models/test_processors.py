"""Translated preprocessing against transformers' own processors, on random pictures."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from whatwhere.data.pixels import fit
from whatwhere.errors import InputError
from whatwhere.models.processors import preprocessing_of

transformers = pytest.importorskip("transformers")

SHORT = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
SQUARE = {"size": {"height": 24, "width": 24}}


def picture(height: int, width: int) -> Image.Image:
    rough = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def ours(processor: Any, image: Image.Image) -> torch.Tensor:
    prep = preprocessing_of(processor, "hf/x")
    pixels = torch.from_numpy(np.array(fit(image, prep))).permute(2, 0, 1)
    return prep.normalise(pixels[None])


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("BitImageProcessor", SHORT, (50, 70)),
        ("CLIPImageProcessor", SHORT, (70, 50)),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 30}, "crop_pct": 0.875}, (40, 64)),
        ("ViTImageProcessor", SQUARE, (40, 40)),
        ("ViTImageProcessor", {**SQUARE, "resample": 0}, (31, 31)),
        ("ViTImageProcessor", {**SQUARE, "do_normalize": False}, (40, 40)),
        (
            "ViTImageProcessor",
            {**SQUARE, "do_rescale": False, "image_mean": [90.0] * 3, "image_std": [70.0] * 3},
            (40, 40),
        ),
        ("EfficientNetImageProcessor", {**SQUARE, "rescale_factor": 1 / 127.5, "rescale_offset": True}, (40, 40)),
        ("ViTImageProcessor", {"do_resize": False}, (20, 30)),
    ],
)
def test_pictures_are_prepared_as_by_the_processor(name: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    processor, image = getattr(transformers, name)(**options), picture(*size)
    own = processor(images=image, return_tensors="pt")["pixel_values"]
    mine = ours(processor, image)
    assert mine.shape == own.shape
    # Theirs resizes by torchvision, ours by Pillow: they differ by the rounding of a byte or two.
    step = 1 / (255 * min(preprocessing_of(processor, "hf/x").std))
    assert float((mine - own).abs().max()) < 2.5 * step
    assert float((mine - own).abs().mean()) < 0.5 * step


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ViTImageProcessor", SQUARE, "distorts a picture to 24 x 24"),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, "distorts a picture to 384 x 384"),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 36}, "do_center_crop": False},
            "keeps all of a picture that is not square",
        ),
        ("ViTImageProcessor", {**SQUARE, "resample": 1}, "Lanczos filter is replaced by bicubic"),
    ],
)
def test_what_differs_is_said(name: str, options: dict[str, Any], said: str) -> None:
    assert said in preprocessing_of(getattr(transformers, name)(**options), "hf/x").source


def test_nothing_is_said_where_nothing_differs() -> None:
    source = preprocessing_of(transformers.BitImageProcessor(**SHORT), "hf/x").source
    assert source == "the image processor of hf/x (BitImageProcessor)"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("MobileViTImageProcessor", {}, "BGR"),
        ("DetrImageProcessor", {}, "resizes pictures by .*longest_edge"),
    ],
)
def test_what_no_preprocessing_says_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=rf"model='hf/x': its image processor .*{said}"):
        preprocessing_of(getattr(transformers, name)(**options), "hf/x")
