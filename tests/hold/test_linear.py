"""The linear read-out against torch's own convolution, in float64."""

import pytest
import torch
from torch.nn import functional

from whatwhere.hold.features import Group, Tap
from whatwhere.hold.linear import LinearReadOut, convolved

TAPS = (Tap("a", 2, (6, 5)), Tap("b", 1, (6, 5)))


def drawn(kernel, targets=2, channels=3):
    g = torch.Generator().manual_seed(kernel)
    shapes = [(4, channels, 6, 5), (targets, channels, kernel, kernel), (targets,)]
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 2), (1, 1)])
def test_it_is_torchs_convolution(kernel, padding):
    x, weight, bias = drawn(kernel)
    found = convolved(x, weight, bias, padding)
    expected = functional.conv2d(x, weight, bias, padding=padding)
    assert found.shape == (4, 2, 6 + 2 * padding - kernel + 1, 5 + 2 * padding - kernel + 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_prediction_by_hand():
    """Two channels of one row each: 1 + 2·10 + 3·(-1) at the left, 1 + 2·20 + 3·(-2) at the right."""
    x = torch.tensor([[[[10.0, 20.0]], [[-1.0, -2.0]]]])
    weight = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    assert convolved(x, weight, torch.ones(1, dtype=torch.float64), 0).tolist() == [[[[18.0, 35.0]]]]


def test_the_taps_are_read_in_the_order_of_the_group_whatever_the_order_of_the_maps():
    x, weight, bias = drawn(3)
    readout = LinearReadOut(Group("all", TAPS), 3, 1, weight, bias)
    found = readout.predict({"b": x[:, 2:], "other": x, "a": x[:, :2]})
    assert torch.equal(found, convolved(x, weight, bias, 1))


def test_large_weights_of_small_features_cancel_in_float64():
    """1e8 (f + 1e-8) - 1e8 f is 1; in float32 the features' difference is lost."""
    f = torch.tensor([[[[1.0, 3.0]], [[1.0, 3.0]]]], dtype=torch.float64)
    f[:, 0] += 1e-8
    weight = torch.tensor([1e8, -1e8], dtype=torch.float64).view(1, 2, 1, 1)
    found = convolved(f, weight, torch.zeros(1, dtype=torch.float64), 0)
    assert found.dtype == torch.float64
    assert found.flatten().tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert convolved(f.float(), weight, torch.zeros(1, dtype=torch.float64), 0).flatten().tolist() == [0.0, 0.0]
