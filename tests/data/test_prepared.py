import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from whatwhere.data import load_data
from whatwhere.data.pixels import BrokenPicture
from whatwhere.data.prepared import check_finite, check_scale
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_floats_must_be_finite(value: float) -> None:
    images = torch.rand(4, 3, 2, 2)
    assert check_finite(images) is images
    images[2, 1, 0, 1] = value
    with pytest.raises(BrokenPicture, match="not finite"):
        check_finite(images)
    with pytest.raises(
        InputError, match=r"row 2 of the TensorDataset cannot be used: it holds values that are not fin"
    ):
        list(load_data(TensorDataset(images, torch.arange(4))).test.batches(4))


@pytest.mark.parametrize("images", [torch.rand(4, 3, 2, 2), torch.randn(4, 3, 2, 2) * 60, torch.zeros(0)])
def test_prepared_floats_pass(images: torch.Tensor) -> None:
    assert check_scale("test", images) is images
    whole = torch.full((2, 3), 200, dtype=torch.uint8)
    assert check_scale("test", whole) is whole


def test_floats_up_to_255_are_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.float32)
    pairs = [(picture, i) for i, picture in enumerate(images)]
    with pytest.raises(InputError, match=r"split 'test': its pictures are floats from .* to 2\d\d, .*give bytes"):
        list(load_data(pairs).test.batches(4))


def test_a_bright_picture_among_others_passes() -> None:
    """Caffe's pictures minus their mean: white is positive everywhere."""
    images = torch.randn(4, 3, 2, 2) * 60
    images[1] = 130.0
    assert len(next(load_data(TensorDataset(images, torch.arange(4))).test.batches(4))[0]) == 4


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "not finite"), (200.0, "floats from")])
def test_scenes_are_checked_too(value: float, message: str) -> None:
    pictures = torch.full((2, 3, 4, 5), value)
    split = SceneSplit("test", Memory(pictures), {"class": Memory(torch.zeros(2, 4, 5, dtype=torch.uint8))}, ("a", "b"))
    with pytest.raises(InputError, match=message):
        _ = split[0]
