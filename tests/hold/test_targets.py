"""Targets against their formulas, position by position."""

import math

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.hold.targets import TARGETS, Target, brought_to, resized, stack, targets_of


def formula(name, row, column, size):
    if name == "H":
        return column / (size - 1)
    if name == "V":
        return row / (size - 1)
    if name in ("HS", "VS"):
        along = row if name == "HS" else column
        return 0.5 + 0.5 * math.cos(2 * math.pi * 2.5 * ((along + 0.5) / size - 0.5 / 256))
    bell = [
        [
            math.exp(-((r - (size - 1) / 2) ** 2 + (c - (size - 1) / 2) ** 2) / (2 * (0.495 * size) ** 2))
            for c in range(size)
        ]
        for r in range(size)
    ]
    low, high = min(map(min, bell)), max(map(max, bell))
    return (bell[row][column] - low) / (high - low)


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.parametrize("size", [3, 7, 28])
@pytest.mark.parametrize("span", ["0..1", "-1..1"])
def test_a_target_follows_its_formula(name, size, span):
    seen = Target(name, span).at(size)
    expected = np.array([[formula(name, r, c, size) for c in range(size)] for r in range(size)])
    np.testing.assert_allclose(seen.numpy(), expected if span == "0..1" else 2 * expected - 1, atol=1e-6)


def test_ones_own_map_is_resized():
    own = np.arange(12.0).reshape(3, 4)
    (target,) = targets_of({"mine": own})
    assert target.name == "mine"
    torch.testing.assert_close(target.at(3)[:, 0], torch.tensor([0.0, 4.0, 8.0]))
    torch.testing.assert_close(target.at(3)[0], torch.tensor([0.0, 1.5, 3.0]))


def test_resizing_keeps_the_corners():
    maps = torch.rand(1, 2, 5, 5)
    big = resized(maps, 9)
    torch.testing.assert_close(big[..., ::8, ::8], maps[..., ::4, ::4])
    assert resized(maps, 5) is maps


def test_stripes_are_the_same_picture_at_every_size():
    """Half a cell out of phase, a small map is .09 off on average; pixel centres lie on one curve."""
    large = torch.nn.functional.avg_pool2d(Target("HS").at(224)[None], 8)[0]
    assert float((Target("HS").at(28) - large).abs().mean()) < 0.01


def test_predictions_are_brought_to_the_pictures_size_without_aligned_corners():
    maps = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 2, 4, 4)
    seen = brought_to(maps, 8)
    expected = np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), np.arange(4.0))  # pixel centres, ends held
    np.testing.assert_allclose(seen[0, 0, 0].numpy(), expected, atol=1e-6)
    assert brought_to(maps, None) is maps
    assert brought_to(maps, 4) is maps


def test_a_stack_keeps_the_order_and_drops_repeats():
    targets = targets_of(["V", "H", "V"])
    assert [t.name for t in targets] == ["V", "H"]
    assert stack(targets, 4).shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["Q"], "targets='Q' matches nothing"),
        ([], "empty"),
        ({"a": [1.0, 2.0]}, "shape"),
        ({"a": [[1.0, float("nan")], [0, 1]]}, "not finite"),
        ({"a": [[1.0, 1.0], [1.0, 1.0]]}, "constant"),
    ],
)
def test_wrong_targets_are_refused(which, message):
    with pytest.raises(InputError, match=message):
        targets_of(which)


def test_a_wrong_range_is_refused():
    with pytest.raises(InputError, match="range"):
        targets_of(["H"], range="0..2")
