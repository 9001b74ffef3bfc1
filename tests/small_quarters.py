"""Pictures with one bright quarter, and two networks that nobody trained: one reads which quarter, one how bright."""

import torch
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory

LEVELS = (80, 120, 160, 200)


def quarters(n: int = 96, *, label: str = "where") -> Data:
    """Pictures (3, 16, 16), every class as often: which quarter is bright, or how bright it is."""
    images = torch.zeros(n, 3, 16, 16, dtype=torch.uint8)
    where, what = torch.arange(n) % 4, torch.arange(n) // 4 % 4
    for image, place, level in zip(images, where.tolist(), what.tolist(), strict=True):
        top, left = 8 * (place // 2), 8 * (place % 2)
        image[:, top : top + 8, left : left + 8] = LEVELS[level]
    labels = where if label == "where" else what
    return Data("quarters", {"test": Split("test", Memory(images), labels, [str(i) for i in range(4)])})


class Which(nn.Module):
    """(N, 4): the mean of each quarter."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), 2).flatten(1)


class HowBright(nn.Module):
    """(N, 4): which level the largest value is nearest to, wherever it is."""

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.tensor(LEVELS, device=x.device) / 255
        return -(x.amax((1, 2, 3))[:, None] - levels).abs()


def reading(module: nn.Module) -> ww.Network:
    """A network that takes pictures as they are, in 0..1."""
    return ww.Network(module, ww.Preprocessing(mean=(0.0,), std=(1.0,)), "reading", (3, 16, 16))
