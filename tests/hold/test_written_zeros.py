"""Padding without an operator for it, seen by what a roll of the picture does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odd_nets import ODD, SIZE
from small_nets import drawn
from whatwhere.errors import InputError
from whatwhere.hold.padding import with_padding
from whatwhere.hold.padding_calls import padding_calls
from whatwhere.hold.written_zeros import padded_otherwise

# Whose scores do not change with a roll of the picture, once everything goes round.
ROLLS = [
    "out given",
    "in place",
    "augmented",
    "unfolded",
    "shared",
    "scales",
    "unet",
    "dense",
    "depth",
    "channels last",
    "channel shuffle",
    "glu",
    "global context",
    "attention",
    "fourier",
    "rolled",
    "sliced",
    "whitened",
    "strongest",
    "statistics head",
    "sum head",
    "norm head",
    "tuple head",
]


def rolled_apart(net: Any) -> float:
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = (y if isinstance(y, Tensor) else torch.cat(y, 1) for y in (net(x), net(x.roll((8, 4), (2, 3)))))
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize("name", ROLLS)
def test_with_circular_padding_a_roll_changes_nothing(name: str) -> None:
    net = drawn(ODD[name])
    assert rolled_apart(with_padding(net, "circular", input_size=SIZE)) < 1e-5
    assert rolled_apart(net) > 1e-5


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("zeros around", r"torch.cat is in its forward, and it puts rows or columns of zeros beside a map; let an nn"),
        ("put into", "item assignment is in its forward, and it writes a map into a larger one of zeros"),
        ("transposed", "crops the output of a transposed convolution"),
    ],
)
@pytest.mark.parametrize("mode", ["circular", "none"])
def test_zeros_that_are_written_otherwise_are_refused(name: str, why: str, mode: Any) -> None:
    with pytest.raises(InputError, match=why):
        with_padding(drawn(ODD[name]), mode, input_size=SIZE)


def test_with_zeros_they_stay() -> None:
    net, x = drawn(ODD["put into"]), torch.randn(1, *SIZE)
    with torch.no_grad():
        assert torch.equal(with_padding(net, "zeros", input_size=SIZE)(x), net(x))  # type: ignore[operator]


class Sampled(nn.Module):
    def __init__(self, scale: float, **options: Any) -> None:
        super().__init__()
        self.scale, self.options = scale, options

    def forward(self, x: Tensor) -> Tensor:
        theta = x.new_zeros(2, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = self.scale
        grid = F.affine_grid(theta, [2, 1, 6, 6], align_corners=bool(self.options.get("align_corners")))
        return F.grid_sample(x, grid[: len(x)], **{"align_corners": False, **self.options})


@pytest.mark.parametrize(
    ("scale", "options", "fill"),
    [
        (1.0, {}, ""),
        (1.01, {}, "zeros"),
        (1.0, {"align_corners": True}, ""),
        (1.1, {"align_corners": True, "padding_mode": "border"}, "replicate"),
        (1.5, {"padding_mode": "reflection"}, "reflect"),
    ],
)
def test_samples_outside_of_the_map(scale: float, options: dict[str, Any], fill: str) -> None:
    calls = padding_calls(Sampled(scale, **options), (3, 6, 6))
    assert [(c.operator, c.fill) for c in calls] == ([("F.grid_sample", fill)] if fill else [])


ZERO, ONE = torch.zeros(2, 3, 1, 5), torch.ones(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        (lambda: (torch.cat, ([ONE, ZERO],), {"dim": 2}), True),
        (lambda: (torch.concat, ([ZERO, ONE], -2), {}), True),
        (lambda: (torch.cat, ([ONE, ONE], 2), {}), False),
        (lambda: (torch.cat, ([ONE, torch.zeros_like(ONE)], 1), {}), False),  # channels
        (lambda: (torch.cat, ([ZERO, ZERO], 2), {}), False),
        (lambda: (torch.cat, ([ONE[0], ZERO[0]], 1), {}), False),
        (lambda: (Tensor.__setitem__, (torch.zeros(2, 3, 6, 7), (..., slice(1, 5), slice(1, 6)), ONE), {}), True),
        (lambda: (Tensor.__setitem__, (torch.zeros(2, 3, 8, 5), (..., slice(0, 8, 2), slice(None)), ONE), {}), False),
        (lambda: (Tensor.__setitem__, (torch.zeros(2, 3, 4, 5), (...,), ONE), {}), False),
        (lambda: (Tensor.__setitem__, (torch.ones(2, 3, 6, 7), (..., slice(1, 5), slice(1, 6)), ONE), {}), False),
        (lambda: (Tensor.__setitem__, (torch.zeros(2, 3, 4, 5), 0, 1.0), {}), False),
        (lambda: (torch.add, (ONE, ONE), {}), False),
    ],
)
def test_which_calls_pad(call: Callable[[], Any], seen: bool) -> None:
    assert bool(padded_otherwise(*call(), channels_of=lambda x: 1)) is seen
