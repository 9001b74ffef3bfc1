import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.need.entry import OnlyAt, PooledVector, SpatialMean


@pytest.mark.parametrize(
    ("layout", "shape", "left"), [("NCHW", (2, 3, 4, 5), (2, 3, 1, 1)), ("NHWC", (2, 4, 5, 3), (2, 1, 1, 3))]
)
def test_the_mean_of_a_layout(layout: str, shape: tuple[int, ...], left: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    mean = SpatialMean(layout)(x)
    assert mean.shape == left
    by_numpy = x.numpy().mean((2, 3) if layout == "NCHW" else (1, 2))
    torch.testing.assert_close(mean.flatten(1), torch.from_numpy(by_numpy))


def test_the_mean_of_tokens_keeps_the_prefix() -> None:
    x = torch.randn(2, 7, 3)
    mean = SpatialMean("tokens+1")(x)
    assert torch.equal(mean[:, 0], x[:, 0])
    torch.testing.assert_close(mean[:, 1], sum(x[:, i] for i in range(1, 7)) / 6)


def test_pictures_of_one_size_pass() -> None:
    only, x = OnlyAt((4, 6)), torch.randn(2, 3, 4, 6)
    assert only(x) is x
    with pytest.raises(
        InputError, match=r"pictures of 6 x 4: .*collapsed for 4 x 6; collapse it again with input_size"
    ):
        only(x.mT)
    with pytest.raises(InputError, match=r"and was cut for 4 x 6; cut again with input_size"):
        OnlyAt((4, 6), "cut", "cut again")(x.mT)


@pytest.mark.parametrize(
    ("layout", "shape"), [("NCHW", (2, 3, 4, 5)), ("NHWC", (2, 4, 5, 3)), ("tokens+2", (2, 22, 3))]
)
def test_one_vector_a_picture(layout: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    positions = x if layout == "NCHW" else (x[:, 2:] if layout == "tokens+2" else x.flatten(1, 2)).mT
    torch.testing.assert_close(PooledVector(layout)(x), positions.flatten(2).mean(2))
